//! [`ModelFiles`] values for requests. Tests use these functions, so that a new field of
//! [`ModelFiles`] does not change them.

use crate::safetensors_edit::{INDEX, shard_files};
use modelgate_protocol::{ModelFiles, WeightFormat};
use std::path::Path;

/// Returns the files of the safetensors model in `dir`. Optional files are `None` if they do not
/// exist.
pub fn safetensors_folder(dir: &Path) -> ModelFiles {
    let existing = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    ModelFiles {
        index: existing(INDEX),
        config: existing("config.json"),
        ..with_companions(ModelFiles::new(dir, WeightFormat::Safetensors, shard_files(dir)), dir)
    }
}

/// Returns the files of a model that consists of one GGUF file.
pub fn gguf(file: &Path) -> ModelFiles {
    let root = file.parent().unwrap_or(file);
    ModelFiles::new(root, WeightFormat::Gguf, vec![file.to_owned()])
}

/// Returns a GGUF file together with the tokenizer, the chat template and the generation config in
/// `dir`, if they exist.
pub fn gguf_with_companions(file: &Path, dir: &Path) -> ModelFiles {
    with_companions(gguf(file), dir)
}

/// Returns the files of a synthetic model: its config, without weights.
pub fn synthetic(config: &Path) -> ModelFiles {
    let root = config.parent().unwrap_or(config);
    ModelFiles {
        config: Some(config.to_owned()),
        ..ModelFiles::new(root, WeightFormat::Synthetic, Vec::new())
    }
}

/// Adds the generation config, the tokenizer and the chat template in `dir`, if they exist.
fn with_companions(files: ModelFiles, dir: &Path) -> ModelFiles {
    let existing = |name: &str| Some(dir.join(name)).filter(|path| path.is_file());
    ModelFiles {
        generation_config: existing("generation_config.json"),
        tokenizer: existing("tokenizer.json"),
        tokenizer_config: existing("tokenizer_config.json"),
        special_tokens_map: existing("special_tokens_map.json"),
        chat_template: existing("chat_template.jinja").or(existing("chat_template.json")),
        ..files
    }
}
