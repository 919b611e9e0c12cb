//! Reads a chat template, and renders a chat with it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modelgate_engine::parsers;
use modelgate_fuzz::{MemoryFile, catchable, chat, no_weights};
use modelgate_protocol::ModelFiles;

/// A tokenizer with the special tokens that templates use.
const TOKENIZER: &str = r#"{
    "added_tokens": [
        { "id": 0, "content": "<s>", "special": true },
        { "id": 1, "content": "</s>", "special": true }
    ],
    "model": { "type": "BPE", "vocab": { "<s>": 0, "</s>": 1 }, "merges": [] }
}"#;

fuzz_target!(init: catchable(), |data: &[u8]| {
    let tokenizer = MemoryFile::new(TOKENIZER.as_bytes());
    let template = MemoryFile::new(data);
    let files = ModelFiles {
        tokenizer: Some(tokenizer.path()),
        chat_template: Some(template.path()),
        ..no_weights()
    };
    let _ = parsers::chat(&files, &chat());
});
