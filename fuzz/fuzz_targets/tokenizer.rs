//! Reads a `tokenizer.json`, and encodes a text with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_engine::parsers;
use modelgate_fuzz::{MemoryFile, TEXT, catchable, no_weights};
use modelgate_protocol::ModelFiles;

fuzz_target!(init: catchable(), |data: &[u8]| {
    let file = MemoryFile::new(data);
    let files = ModelFiles { tokenizer: Some(file.path()), ..no_weights() };
    let _ = parsers::tokenizer(&files, TEXT);
});
