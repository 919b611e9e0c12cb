//! A complete model of random weights, with the tokenizer of another model.

use crate::synthetic::write_safetensors;
use std::fs;
use std::path::Path;

/// The files that are copied from the folder of another model, if they exist.
const COMPANION_FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Writes `config.json`, a `model.safetensors` with all tensors of the config, and the tokenizer
/// files of the model in `tokenizer_from`. Returns the size of the weight file in bytes.
pub fn write_random_model(dir: &Path, config: &str, seed: u64, tokenizer_from: &Path) -> u64 {
    let files = write_safetensors(config, dir, u64::MAX, seed, &|_, _| {});
    let files = files.unwrap_or_else(|error| panic!("{error}"));
    for name in COMPANION_FILES {
        if tokenizer_from.join(name).is_file() {
            fs::copy(tokenizer_from.join(name), dir.join(name)).unwrap();
        }
    }
    fs::metadata(&files[0]).unwrap().len()
}
