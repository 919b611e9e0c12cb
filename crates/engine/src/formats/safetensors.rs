//! safetensors files: one file, or several files (shards) with an index.
//!
//! The safetensors crate checks the header: the tensors have no overlaps and no gaps, and their
//! sizes agree with their types and shapes. This module checks what the header alone cannot show:
//! that the header and the data together are as long as the file.

use super::checkpoint_names::{expected_names, has_expected_layers};
use super::config_json::read_config;
use super::format::{Conversion, Format, OpenedModel, refuse_without_weights};
use super::mlx::refuse_mlx;
use super::source::{ShardIndex, Source, SourceFile, SourceTensor};
use super::wrapped_names::refuse_wrapped_names;
use crate::failures;
use modelgate_model::Config;
use modelgate_model::layout::shard_name;
use modelgate_model::small_file::{parse_json, read_json};
use modelgate_protocol::{DType, Failure, ModelFiles, Scheme};
use safetensors::tensor::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

/// The maximum header length in bytes, equal to the limit of the safetensors crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The format of safetensors files.
pub(super) struct SafetensorsFormat;

impl Format for SafetensorsFormat {
    fn open(&self, files: &ModelFiles, _: Scheme, _: bool) -> Result<OpenedModel, Failure> {
        refuse_without_weights(files)?;
        let config = read_config(files)?;
        let source = open_safetensors(files)?;
        refuse_mlx(&source)?;
        let source = with_expected_names(source, &config)?;
        Ok(OpenedModel::from_config(config, source))
    }

    fn conversion(&self) -> Conversion {
        Conversion::Quantize
    }
}

/// Converts the names of the tensors to those of [`modelgate_model::tensors`], and divides merged
/// experts.
///
/// # Errors
/// Two tensors get the same name, merged experts have a wrong shape, or all tensors have a prefix
/// with which transformers does not load them.
fn with_expected_names(mut source: Source, config: &Config) -> Result<Source, Failure> {
    let tensors = std::mem::take(&mut source.tensors);
    source.tensors = expected_names(&source.files, tensors, config)?;
    if !has_expected_layers(&source.tensors, config) {
        refuse_wrapped_names(&source, config)?;
    }
    Ok(source)
}

/// Opens the safetensors files of a model: the shards in the index, or else all weight files.
///
/// # Errors
/// A file is missing, cannot be read or is invalid.
pub(crate) fn open_safetensors(files: &ModelFiles) -> Result<Source, Failure> {
    match &files.index {
        Some(index) => open_sharded(&files.root, index),
        None => {
            let mut source = Source::new();
            for path in &files.weights {
                add_file(&mut source, SourceFile::open(&files.root, path)?)?;
            }
            Ok(source)
        }
    }
}

/// Opens the shards in `root` that `index` names. As in transformers, the index decides only which
/// files are read: each tensor is taken from the file that contains it.
fn open_sharded(root: &Path, index: &Path) -> Result<Source, Failure> {
    let shard_by_tensor = read_index(index)?;
    let mut source = Source::new();
    for shard in shard_by_tensor.values().collect::<BTreeSet<_>>() {
        let file = SourceFile::open(root, &root.join(shard)).map_err(|mut failure| {
            failure.message = format!("{} (listed in {})", failure.message, index.display());
            failure
        })?;
        add_file(&mut source, file)?;
    }
    source.index = Some(ShardIndex { path: index.to_owned(), shards: shard_by_tensor });
    Ok(source)
}

/// Reads the index, and returns the file name of the shard of each tensor.
///
/// # Errors
/// The index cannot be read, or a name is not a plain file name.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let mut index: Index = read_json(path).map_err(|error| failures::io(path, &error))?;
    for (tensor, shard) in &mut index.weight_map {
        *shard = shard_name(shard).to_owned();
        if !is_plain_file_name(shard) {
            return Err(failures::corrupt(
                path,
                format!(
                    "tensor {tensor}: expected the name of a file in the same folder, found \
                     \"{shard}\""
                ),
            ));
        }
    }
    Ok(index.weight_map)
}

/// Returns whether a name is a single path component that does not leave its folder.
fn is_plain_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\', '\0'])
}

/// Adds a file and its tensors to `source`.
fn add_file(source: &mut Source, file: SourceFile) -> Result<(), Failure> {
    let (metadata, data_start) = read_header(&file)?;
    let number = source.files.len();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (start, end) = info.data_offsets;
        let tensor = SourceTensor {
            file: number,
            shape: info.shape.clone(),
            dtype: dtype(info.dtype),
            offset: data_start + start as u64,
            bytes: (end - start) as u64,
            stored_name: None,
        };
        if let Some(other) = source.tensors.insert(name.clone(), tensor) {
            let other = source.files.get(other.file).map_or(&file.name, |file| &file.name);
            return Err(failures::corrupt(
                &file.path,
                format!("tensor {name} is duplicated: it is also in {other}"),
            ));
        }
    }
    source.files.push(file);
    Ok(())
}

/// Reads the header of a file, and returns it with the position of the first byte after the header.
fn read_header(file: &SourceFile) -> Result<(Metadata, u64), Failure> {
    let path = &file.path;
    if file.bytes < 8 {
        let what = format!("file size: expected at least 8 bytes, found {} bytes", file.bytes);
        return Err(failures::corrupt(path, what));
    }
    let mut length = [0; 8];
    file.file.read_exact_at(&mut length, 0).map_err(|error| failures::io(path, &error))?;
    let length = u64::from_le_bytes(length);
    let max = MAX_HEADER_BYTES.min(file.bytes - 8);
    if length > max {
        return Err(failures::corrupt(
            path,
            format!(
                "header length: expected at most {max} bytes in a file of {} bytes, found {length}",
                file.bytes
            ),
        ));
    }
    let mut header = vec![0; length as usize];
    file.file.read_exact_at(&mut header, 8).map_err(|error| failures::io(path, &error))?;
    let metadata: Metadata = parse_json(&header)
        .map_err(|error| failures::corrupt(path, format!("invalid header: {error}")))?;
    let expected = (metadata.data_len() as u64).saturating_add(8 + length);
    if expected != file.bytes {
        let how = if expected > file.bytes { "truncated" } else { "too long" };
        return Err(failures::corrupt(
            path,
            format!("the file is {how}: expected {expected} bytes, found {}", file.bytes),
        ));
    }
    Ok((metadata, 8 + length))
}

/// Converts a type of the safetensors crate to the type of the worker protocol.
fn dtype(dtype: safetensors::Dtype) -> DType {
    match dtype {
        safetensors::Dtype::F32 => DType::F32,
        safetensors::Dtype::F64 => DType::F64,
        safetensors::Dtype::F16 => DType::F16,
        safetensors::Dtype::BF16 => DType::Bf16,
        other => DType::Other(other.to_string().to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_file_name;

    #[test]
    fn names_with_a_folder_are_not_plain_file_names() {
        assert!(is_plain_file_name("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\\b", "./a", "a/"] {
            assert!(!is_plain_file_name(name), "{name:?}");
        }
    }
}
