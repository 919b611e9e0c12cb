//! Reads the headers of all weight files of a model.

use super::header::{Header, invalid};
use super::{gguf, safetensors};
use crate::acquire::companions::Embedded;
use crate::measurement::{HeaderTensor, Headers};
use modelgate_protocol::{ModelFiles, WeightFormat};
use std::io;
use std::path::Path;

/// The content of the headers of all weight files.
#[derive(Debug, Default)]
pub(in crate::acquire) struct FileHeaders {
    /// The headers, for the report. `None` without weight files.
    pub(in crate::acquire) headers: Option<Headers>,
    /// The numbers of selected experts and of all experts in the metadata of the first GGUF file.
    /// `None` if there are none.
    pub(in crate::acquire) experts: Option<(u64, u64)>,
    /// The descriptions in the metadata of the first GGUF file, which apply to all its parts.
    pub(in crate::acquire) embedded: Embedded,
}

/// Reads the headers of the weight files of a model.
pub(in crate::acquire) fn read(files: &ModelFiles) -> FileHeaders {
    let mut embedded = None;
    let mut experts = None;
    if files.weights.is_empty() {
        return FileHeaders::default();
    }
    let mut tensors = Vec::new();
    let mut file_type = None;
    for path in &files.weights {
        let header = match read_file(path, files.format) {
            Ok(header) => header,
            Err(error) => {
                let message = format!("{}: {error}", path.display());
                let headers = Some(Headers::Unreadable { message });
                return FileHeaders { headers, experts, embedded: embedded.unwrap_or_default() };
            }
        };
        let file = path.strip_prefix(&files.root).unwrap_or(path).display().to_string();
        let tensor = |(name, shape, dtype)| HeaderTensor { name, file: file.clone(), shape, dtype };
        tensors.extend(header.tensors.into_iter().map(tensor));
        file_type = file_type.or(header.file_type);
        experts = experts.or(header.experts);
        embedded.get_or_insert(header.embedded);
    }
    let headers = Some(Headers::Read { tensors, file_type });
    FileHeaders { headers, experts, embedded: embedded.unwrap_or_default() }
}

fn read_file(path: &Path, format: WeightFormat) -> io::Result<Header> {
    match format {
        WeightFormat::Gguf => gguf::read(path),
        WeightFormat::Safetensors => safetensors::read(path),
        WeightFormat::Synthetic => Err(invalid("a synthetic model has no weight files")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_model::layout;
    use modelgate_testkit::gguf::{Experts, GgmlDType, GgufWriter, Vocabulary, uniform};
    use modelgate_testkit::workers::fixture;

    fn read_path(path: &Path) -> Headers {
        read(&layout::files(path).expect("a model")).headers.expect("headers")
    }

    /// Returns the tensor `name` as text, and the file type.
    fn found(headers: &Headers, name: &str) -> (String, Option<u64>) {
        let Headers::Read { tensors, file_type } = headers else { panic!("{headers:?}") };
        let tensor = tensors.iter().find(|tensor| tensor.name == name).expect("a tensor");
        (format!("{} {:?} {}", tensor.file, tensor.shape, tensor.dtype), *file_type)
    }

    #[test]
    fn a_file_of_llama_cpp_is_read_as_its_python_package_reads_it() {
        // read with `gguf.GGUFReader` of the package gguf 0.19
        let path = fixture("golden/llama_cpp/tiny-llama-q4_k_m.gguf");
        let headers = read_path(&path);
        let Headers::Read { tensors, .. } = &headers else { panic!("{headers:?}") };
        assert_eq!(tensors.len(), 40);
        let read = read(&layout::files(&path).expect("a model"));
        let expected = Embedded { vocabulary: true, chat_template: true, stop_token: true };
        assert_eq!((read.embedded, read.experts), (expected, None));
        for (name, expected) in [
            ("output.weight", "[512, 256] q6_k"),
            ("rope_freqs.weight", "[16] f32"),
            ("blk.0.attn_q.weight", "[256, 256] q4_k"),
        ] {
            let expected = format!("tiny-llama-q4_k_m.gguf {expected}");
            assert_eq!(found(&headers, name), (expected, Some(15)), "{name}");
        }
    }

    #[test]
    fn parts_of_split_files_and_shards_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = fixture("tiny/mixtral");
        let writer = GgufWriter {
            dtype: &uniform(GgmlDType::Q8_0),
            experts: Experts::Merged,
            parts: 3,
            vocabulary: Vocabulary::OfSourceFolder,
        };
        let parts = writer.write(&source, &folder.path().join("model.gguf"));
        let gguf = read_path(&parts[0]);
        let experts = read(&layout::files(&parts[0]).expect("a model")).experts;
        assert_eq!(experts, Some((2, 8)), "num_experts_per_tok and num_local_experts");
        let safetensors = read_path(&source);
        let config = std::fs::read_to_string(source.join("config.json")).expect("a config");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        let shape = format!("[{}, {}]", config["vocab_size"], config["hidden_size"]);
        for (headers, name, expected) in [
            (&gguf, "token_embd.weight", format!(".gguf {shape} q8_0")),
            (&safetensors, "model.embed_tokens.weight", format!(".safetensors {shape} bf16")),
        ] {
            let found = found(headers, name).0;
            assert!(found.ends_with(&expected), "expected {expected} in {found}");
        }
        let count = |headers: &Headers, name: &str| match headers {
            Headers::Read { tensors, .. } => {
                tensors.iter().filter(|tensor| tensor.name.contains(name)).count()
            }
            other => panic!("{other:?}"),
        };
        let layers = config["num_hidden_layers"].as_u64().expect("a number") as usize;
        assert_eq!(count(&gguf, "_exps"), 3 * layers);
    }

    #[test]
    fn damaged_headers_are_unreadable() {
        let folder = tempfile::tempdir().expect("a folder");
        let valid = std::fs::read(fixture("golden/llama_cpp/tiny-llama-q4_k_m.gguf"));
        let valid = valid.expect("the fixture");
        let with = |at: usize, bytes: &[u8]| {
            let mut damaged = valid.clone();
            damaged[at..at + bytes.len()].copy_from_slice(bytes);
            damaged
        };
        let cases = [
            (with(0, b"GGML"), "expected the magic number GGUF"),
            (with(4, &9u32.to_le_bytes()), "GGUF version: expected 1 to 3, found 9"),
            (with(8, &u64::MAX.to_le_bytes()), "a.gguf: "),
            (with(16, &u64::MAX.to_le_bytes()), "a.gguf: "),
            (with(24, &u64::MAX.to_le_bytes()), "a name: expected at most 65535 bytes"),
            (valid[..1000].to_vec(), "failed to fill whole buffer"),
            (Vec::new(), "failed to fill whole buffer"),
        ];
        for (content, expected) in cases {
            let path = folder.path().join("a.gguf");
            std::fs::write(&path, content).expect("written");
            match read_path(&path) {
                Headers::Unreadable { message } => {
                    assert!(message.contains(expected), "expected {expected:?} in {message}");
                }
                other => panic!("{expected}: {other:?}"),
            }
        }
        for content in [&[255u8; 64][..], &[5, 0, 0, 0, 0, 0, 0, 0, b'{'], b""] {
            let path = folder.path().join("model.safetensors");
            std::fs::write(&path, content).expect("written");
            let files = ModelFiles::new(folder.path(), WeightFormat::Safetensors, vec![path]);
            assert!(
                matches!(read(&files).headers, Some(Headers::Unreadable { .. })),
                "{content:?}"
            );
        }
    }
}
