//! The test target of the product: each check of each model in the manifest is a test.

pub(crate) fn main() -> std::process::ExitCode {
    modelgate_harness::run::main()
}
