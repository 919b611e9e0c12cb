//! The product: every model of the manifest and every check of it is a test of this target.

pub(crate) fn main() -> std::process::ExitCode {
    modelgate_harness::run::main()
}
