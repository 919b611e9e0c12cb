//! The product: every model of the manifest and every check of it is a test of this target.

fn main() -> std::process::ExitCode {
    modelgate::harness::main()
}
