//! Reads the vocabulary and the chat template in the metadata of a GGUF file, and encodes a text and
//! renders a chat with them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_engine::parsers;
use modelgate_fuzz::{MemoryFile, TEXT, catchable, chat, model};
use modelgate_protocol::WeightFormat;

fuzz_target!(init: catchable(), |data: &[u8]| {
    let file = MemoryFile::new(data);
    let files = model(WeightFormat::Gguf, &[&file]);
    if parsers::tokenizer(&files, TEXT).is_ok() {
        let _ = parsers::chat(&files, &chat());
    }
});
