//! Exit codes, and the output before the exit code of a usage error.

use crate::embedded::bundled;
use crate::manifest::Manifest;
use crate::settings::{Environment, Settings};
use std::process::ExitCode;

/// Every selected case passed.
pub const PASSED: u8 = 0;
/// At least one selected case failed.
pub const FAILED: u8 = 101;
/// The command line, the environment or the manifest is invalid.
pub const USAGE: u8 = 2;

/// Resolves the settings and the manifest. If one of them is invalid, prints the reason and returns
/// the exit code.
pub(super) fn resolve(environment: &Environment) -> Result<(Settings, Manifest), ExitCode> {
    let settings = Settings::resolve(environment).map_err(|error| {
        eprintln!("error: {error}\nhint: {}", error.hint());
        ExitCode::from(USAGE)
    })?;
    let manifest = match &settings.manifest {
        Some(path) => Manifest::open(path),
        None => Manifest::parse(bundled::MANIFEST, bundled::MANIFEST_NAME, None),
    };
    let manifest = manifest.map_err(|error| {
        eprintln!("error: {error}");
        ExitCode::from(USAGE)
    })?;
    Ok((settings, manifest))
}

/// Returns the exit code for a process that `signal` ended.
pub(super) fn of_signal(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(crate::signal::exit_code(signal)).unwrap_or(FAILED))
}
