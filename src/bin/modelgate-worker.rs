//! The worker program: starts the engine.

fn main() -> std::process::ExitCode {
    modelgate_engine::run_worker()
}
