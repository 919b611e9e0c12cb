//! Reads a GGUF file: its metadata, the config that they define, and all tensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_engine::parsers;
use modelgate_fuzz::{MemoryFile, catchable, model};
use modelgate_protocol::WeightFormat;

fuzz_target!(init: catchable(), |data: &[u8]| {
    let file = MemoryFile::new(data);
    let Ok((_, tensors)) = parsers::gguf(&model(WeightFormat::Gguf, &[&file])) else { return };
    let bytes: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    assert!(bytes < data.len(), "{bytes} bytes of tensors in a file of {}", data.len());
    for tensor in &tensors {
        let elements: u64 = tensor.shape.iter().map(|size| *size as u64).product();
        assert_eq!(tensor.dtype.bytes(elements), Some(tensor.bytes.len() as u64), "{}", tensor.name);
    }
});
