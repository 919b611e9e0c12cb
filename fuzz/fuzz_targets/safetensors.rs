//! Reads a safetensors file, and compares the tensors with those that the safetensors crate reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_engine::parsers;
use modelgate_fuzz::{MemoryFile, catchable, model};
use modelgate_protocol::WeightFormat;
use safetensors::SafeTensors;

fuzz_target!(init: catchable(), |data: &[u8]| {
    let file = MemoryFile::new(data);
    let Ok(found) = parsers::safetensors(&model(WeightFormat::Safetensors, &[&file])) else { return };
    let expected = SafeTensors::deserialize(data).expect("the safetensors crate accepts the file");
    assert_eq!(found.len(), expected.len());
    for tensor in found {
        let view = expected.tensor(&tensor.name).expect("the tensor");
        assert_eq!((view.shape(), view.data()), (tensor.shape.as_slice(), tensor.bytes.as_slice()));
    }
});
