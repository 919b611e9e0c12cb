//! Reads a manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_fuzz::catchable;
use modelgate_harness::manifest::Manifest;

fuzz_target!(init: catchable(), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::parse(text, "fuzz.toml", None) {
        Ok(manifest) => assert!(!manifest.models.is_empty()),
        Err(error) => assert!(error.to_string().contains("fuzz.toml")),
    }
});
