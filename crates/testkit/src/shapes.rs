//! A model of random weights that is complete: with the tokenizer of another.

use crate::synthetic::write_safetensors;
use std::fs;
use std::path::Path;

/// Files that are copied from the folder of another model, where it has them.
const BESIDE: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Writes `config.json` and a `model.safetensors` of every tensor that it calls for, with the
/// tokenizer of the model in `tokenizer_from`. Returns the bytes of the weight file.
pub fn write_random_model(dir: &Path, config: &str, seed: u64, tokenizer_from: &Path) -> u64 {
    let files = write_safetensors(config, dir, u64::MAX, seed, &|_, _| {});
    let files = files.unwrap_or_else(|error| panic!("{error}"));
    for name in BESIDE {
        if tokenizer_from.join(name).is_file() {
            fs::copy(tokenizer_from.join(name), dir.join(name)).unwrap();
        }
    }
    fs::metadata(&files[0]).unwrap().len()
}
