//! Tests which files next to a GGUF file are used: those that its own metadata do not replace, and
//! those that the manifest names. The report lists them.

use crate::common::{FinishedRun, Run, entry, fixture};
use modelgate_harness::check::{Check, Status};
use modelgate_testkit::gguf::{GgmlDType, GgufWriter, Vocabulary, uniform, write_from_safetensors};
use std::path::Path;
use tempfile::TempDir;

const TOKENIZER_FILES: [&str; 3] =
    ["generation_config.json", "tokenizer.json", "tokenizer_config.json"];

/// Copies the tokenizer files of a tiny model.
fn copy_tokenizer(family: &str, target: &Path) {
    for name in TOKENIZER_FILES {
        let file = fixture(&format!("tiny/{family}")).join(name);
        std::fs::copy(file, target.join(name)).expect("copied");
    }
}

/// Writes the tiny Llama with its vocabulary and template to `path`.
fn write_complete_gguf(path: &Path) {
    let writer = GgufWriter {
        dtype: &uniform(GgmlDType::Q8_0),
        experts: modelgate_testkit::gguf::Experts::Merged,
        parts: 1,
        vocabulary: Vocabulary::OfSourceFolder,
    };
    writer.write(&fixture("tiny/llama"), path);
}

/// Returns the names of the companion files in the report.
fn companions(ended: &FinishedRun) -> Vec<String> {
    let companions = &ended.model("tiny").measurement.companions;
    companions.iter().map(|companion| companion.name.clone()).collect()
}

#[test]
fn the_metadata_of_a_gguf_file_take_precedence_over_files_next_to_it() {
    let folder = TempDir::new().expect("a folder");
    // the tokenizer of another model
    copy_tokenizer("mixtral", folder.path());
    let path = folder.path().join("model.gguf");
    write_complete_gguf(&path);
    let ended = Run::manifest(&entry("tiny", &path, "q8_0", "")).run();
    ended.assert_passes("tiny");
    assert_eq!(companions(&ended), [""; 0]);
}

#[test]
fn a_complete_tokenizer_does_not_hide_damaged_metadata() {
    let folder = TempDir::new().expect("a folder");
    copy_tokenizer("llama", folder.path());
    let path = folder.path().join("model.gguf");
    write_complete_gguf(&path);
    // the file has no merges then
    let mut content = std::fs::read(&path).expect("the file");
    let key = b"tokenizer.ggml.merges";
    let at = content.windows(key.len()).position(|bytes| bytes == key).expect("the key");
    content[at + key.len() - 1] = b'z';
    std::fs::write(&path, content).expect("written");
    let ended = Run::manifest(&entry("tiny", &path, "q8_0", "")).run();
    let message = ended.assert_only_fails("tiny", Check::Load, Status::Blocked);
    assert!(message.contains("tokenizer.ggml.merges"), "{message}");

    // the manifest may name another tokenizer
    let more = format!("tokenizer = \"{}\"", folder.path().display());
    let ended = Run::manifest(&entry("tiny", &path, "q8_0", &more)).run();
    ended.assert_passes("tiny");
    assert_eq!(companions(&ended), ["tokenizer.json", "tokenizer_config.json"]);
    let summary = ended.summary.as_deref().expect("a summary");
    assert!(summary.contains("Other files: tokenizer.json, tokenizer_config.json."), "{summary}");
}

#[test]
fn files_next_to_a_gguf_file_without_a_vocabulary_are_used() {
    let folder = TempDir::new().expect("a folder");
    copy_tokenizer("llama", folder.path());
    let path = folder.path().join("model.gguf");
    write_from_safetensors(&fixture("tiny/llama"), &path, &uniform(GgmlDType::Q8_0));
    let ended = Run::manifest(&entry("tiny", &path, "q8_0", "")).run();
    ended.assert_passes("tiny");
    assert_eq!(companions(&ended), TOKENIZER_FILES);
}

#[test]
fn a_tokenizer_that_does_not_exist_is_reported() {
    let more = "tokenizer = \"/nowhere\"";
    let ended = Run::manifest(&entry("tiny", &fixture("tiny/llama"), "q8_0", more)).run();
    let message = ended.assert_only_fails("tiny", Check::Load, Status::Blocked);
    assert!(message.contains("tokenizer: /nowhere: no such file"), "{message}");
}
