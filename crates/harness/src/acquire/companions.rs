//! Selects the small files of a model that describe it: config, tokenizer, chat template.
//!
//! The metadata of a GGUF file take precedence over files in its folder, which may belong to another
//! model. llama.cpp does not read such files.

use super::error::AcquireError;
use crate::hash::sha256_hex;
use crate::measurement::Companion;
use modelgate_model::layout;
use modelgate_protocol::{ModelFiles, WeightFormat};
use std::path::{Path, PathBuf};

/// The descriptions that the metadata of a GGUF file contain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Embedded {
    /// Whether there is a vocabulary (`tokenizer.ggml.tokens`).
    pub(super) vocabulary: bool,
    /// Whether there is a chat template (`tokenizer.chat_template`).
    pub(super) chat_template: bool,
    /// Whether there is a stop token (`tokenizer.ggml.eos_token_id`).
    pub(super) stop_token: bool,
}

/// Returns `files` without the files that the metadata in `embedded` replace. The tokenizer in the
/// file or folder `tokenizer`, if it is given, replaces every other tokenizer.
///
/// # Errors
/// There is no tokenizer in `tokenizer`.
pub(super) fn select(
    files: ModelFiles,
    embedded: Embedded,
    tokenizer: Option<&Path>,
) -> Result<ModelFiles, AcquireError> {
    let files = match files.format {
        WeightFormat::Gguf => without_replaced(files, embedded),
        WeightFormat::Safetensors | WeightFormat::Synthetic => files,
    };
    match tokenizer {
        Some(path) => with_tokenizer(files, path),
        None => Ok(files),
    }
}

fn without_replaced(files: ModelFiles, embedded: Embedded) -> ModelFiles {
    let has_stop_token = embedded.vocabulary && embedded.stop_token;
    // special tokens in a `tokenizer_config.json` belong to another vocabulary, but its template can
    // be used
    let template = files
        .chat_template
        .or_else(|| files.tokenizer_config.clone().filter(|_| embedded.vocabulary));
    ModelFiles {
        generation_config: files.generation_config.filter(|_| !has_stop_token),
        tokenizer: files.tokenizer.filter(|_| !embedded.vocabulary),
        tokenizer_config: files.tokenizer_config.filter(|_| !embedded.vocabulary),
        special_tokens_map: files.special_tokens_map.filter(|_| !embedded.vocabulary),
        chat_template: template.filter(|_| !embedded.chat_template),
        ..files
    }
}

/// Returns `files` with the tokenizer at `path`, a `tokenizer.json` or its folder. A folder also
/// replaces the files that belong to a tokenizer.
fn with_tokenizer(files: ModelFiles, path: &Path) -> Result<ModelFiles, AcquireError> {
    if path.is_dir() {
        let of_folder = layout::companions(path);
        return match of_folder.tokenizer {
            None => Err(AcquireError::NoTokenizer(path.join(layout::TOKENIZER))),
            Some(tokenizer) => Ok(ModelFiles {
                tokenizer: Some(tokenizer),
                tokenizer_config: of_folder.tokenizer_config,
                special_tokens_map: of_folder.special_tokens_map,
                chat_template: of_folder.chat_template.or(files.chat_template),
                ..files
            }),
        };
    }
    if !path.is_file() {
        return Err(AcquireError::NoTokenizer(path.to_owned()));
    }
    Ok(ModelFiles { tokenizer: Some(path.to_owned()), ..files })
}

/// Returns the records of the small files among `files`. A file that cannot be read is left out: the
/// worker reports it.
pub(super) fn records(files: &ModelFiles) -> Vec<Companion> {
    let paths: [&Option<PathBuf>; 7] = [
        &files.config,
        &files.index,
        &files.generation_config,
        &files.tokenizer,
        &files.tokenizer_config,
        &files.special_tokens_map,
        &files.chat_template,
    ];
    let record = |path: &PathBuf| {
        let content = std::fs::read(path).ok()?;
        let name = path.strip_prefix(&files.root).unwrap_or(path);
        Some(Companion {
            name: name.display().to_string(),
            bytes: content.len() as u64,
            sha256: sha256_hex(&content),
        })
    };
    paths.into_iter().flatten().filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ];

    /// Returns the names of the files that are used with a GGUF file in a folder with `names`.
    fn used(names: &[&str], embedded: Embedded, tokenizer: Option<&str>) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("other")).expect("a folder");
        for name in names.iter().copied().chain(["m.gguf", "config.json"]) {
            std::fs::write(folder.path().join(name), name).expect("written");
            std::fs::write(folder.path().join("other").join(name), name).expect("written");
        }
        let files = layout::files(&folder.path().join("m.gguf")).expect("a model");
        let tokenizer = tokenizer.map(|path| folder.path().join(path));
        let files = select(files, embedded, tokenizer.as_deref()).expect("files");
        records(&files).into_iter().map(|companion| companion.name).collect()
    }

    #[test]
    fn metadata_take_precedence_over_files_next_to_a_gguf_file() {
        let all = Embedded { vocabulary: true, chat_template: true, stop_token: true };
        let none = Embedded::default();
        assert_eq!(used(&NAMES, all, None), [""; 0]);
        assert_eq!(used(&NAMES, none, None), NAMES);
        let template = |names: &[&str]| used(names, Embedded { chat_template: false, ..all }, None);
        assert_eq!(template(&NAMES), ["chat_template.jinja"]);
        // the template in this file is used, but not its special tokens
        assert_eq!(template(&NAMES[..4]), ["tokenizer_config.json"]);
        let stop_token = Embedded { stop_token: false, ..all };
        assert_eq!(used(&NAMES, stop_token, None), ["generation_config.json"]);
        let vocabulary = Embedded { vocabulary: false, ..all };
        assert_eq!(used(&NAMES, vocabulary, None), NAMES[..4]);
    }

    #[test]
    fn an_explicit_tokenizer_replaces_the_metadata() {
        let all = Embedded { vocabulary: true, chat_template: true, stop_token: true };
        let names = [
            "other/tokenizer.json",
            "other/tokenizer_config.json",
            "other/special_tokens_map.json",
            "other/chat_template.jinja",
        ];
        assert_eq!(used(&NAMES, all, Some("other")), names);
        assert_eq!(used(&NAMES, all, Some("other/tokenizer.json")), names[..1]);
    }

    #[test]
    fn a_missing_tokenizer_is_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ModelFiles::new(folder.path(), WeightFormat::Gguf, Vec::new());
        for path in [folder.path().to_owned(), folder.path().join("tokenizer.json")] {
            let error =
                select(files.clone(), Embedded::default(), Some(&path)).expect_err("missing");
            let expected = folder.path().join("tokenizer.json");
            assert!(
                matches!(&error, AcquireError::NoTokenizer(path) if *path == expected),
                "{error}"
            );
        }
    }
}
