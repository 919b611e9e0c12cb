//! Reads a `config.json`, and computes the number of parameters and the predicted memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_fuzz::catchable;
use modelgate_model::{Config, parameters, predict};
use modelgate_protocol::{DType, Scheme};

fuzz_target!(init: catchable(), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(config) = Config::from_json(text) else { return };
    assert!(parameters(&config) > 0);
    let positions = config.default_context() as usize;
    for on_host in [false, true] {
        let bytes = predict(&config, Scheme::Q4K, &DType::Bf16, positions, on_host);
        assert!(bytes.weights > 0);
    }
});
