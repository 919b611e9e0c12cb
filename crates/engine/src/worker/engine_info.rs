//! The description of this engine.

use crate::cuda;
use modelgate_protocol::Engine;
use std::process::ExitCode;

/// The version of candle-core in this build. A test compares it with the lock file.
const CANDLE: &str = "0.11.1";

/// Returns the description of this engine.
pub(super) fn engine() -> Engine {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    Engine {
        name: "candle".into(),
        version: format!("{CANDLE}, modelgate-engine {}", env!("CARGO_PKG_VERSION")),
        build: format!("{profile}, {}", if cfg!(feature = "cuda") { "cuda" } else { "cpu" }),
        compute_capability: cuda::compute_capability(),
        cuda: cuda::cuda_version(),
    }
}

/// Prints the description as one line of JSON.
pub(super) fn print_engine() -> ExitCode {
    match serde_json::to_string(&engine()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candle_version_matches_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        let entry = format!("name = \"candle-core\"\nversion = \"{CANDLE}\"\n");
        assert!(lock.contains(&entry), "CANDLE is {CANDLE}");
    }
}
