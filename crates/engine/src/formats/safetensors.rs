//! safetensors files: one, or several with an index.
//!
//! The safetensors crate checks the header: no overlap, no gap, sizes that follow from type and
//! shape. What it cannot see from the header alone is checked here: that the header and the data are
//! as long as the file.

use super::config_json::read_config;
use super::format::{Conversion, Format, Opened, refuse_without_weights};
use super::source::{Source, SourceFile, SourceTensor};
use crate::failures;
use modelgate_model::small_file::{parse_json, read_json};
use modelgate_protocol::{DType, Failure, FailureKind, ModelFiles, Scheme};
use safetensors::tensor::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

/// The longest header that is read, the same as the safetensors crate's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The format of safetensors files.
pub(super) struct SafetensorsFormat;

impl Format for SafetensorsFormat {
    fn open(&self, files: &ModelFiles, _: Scheme, _: bool) -> Result<Opened, Failure> {
        refuse_without_weights(files)?;
        let config = read_config(files)?;
        Ok(Opened::described_by_config(config, open_safetensors(files)?))
    }

    fn conversion(&self) -> Conversion {
        Conversion::Quantize
    }
}

/// Opens the safetensors files of a model.
///
/// # Errors
/// What is wrong with which file.
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

fn open_sharded(root: &Path, index: &Path) -> Result<Source, Failure> {
    let placed = read_index(index)?;
    let mut source = Source::new();
    for shard in placed.values().collect::<BTreeSet<_>>() {
        let file = SourceFile::open(root, &root.join(shard)).map_err(|mut failure| {
            failure.message = format!("{} (named by {})", failure.message, index.display());
            failure
        })?;
        add_file(&mut source, file)?;
    }
    for (tensor, shard) in &placed {
        let found = source.tensors.get(tensor).map(|found| source.file_name(found));
        if found != Some(shard) {
            return Err(failures::load(
                FailureKind::TensorMissing,
                format!(
                    "tensor {tensor} is missing in {shard}, where {} places it",
                    index.display()
                ),
                "download the model again: the index and the shards are of different versions",
            ));
        }
    }
    Ok(source)
}

/// Reads the file name of each tensor from the index.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index = read_json(path).map_err(|error| failures::io(path, &error))?;
    for (tensor, shard) in &index.weight_map {
        if !is_plain_name(shard) {
            return Err(failures::corrupt(
                path,
                format!(
                    "tensor {tensor} is placed in \"{shard}\"; expected the name of a file in the \
                     same folder"
                ),
            ));
        }
    }
    Ok(index.weight_map)
}

/// Returns whether a name stays in the folder that it is used in.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        && !name.contains(['/', '\\', '\0'])
}

/// Adds a file and its tensors.
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
        };
        if let Some(other) = source.tensors.insert(name.clone(), tensor) {
            let other = source.files.get(other.file).map_or(&file.name, |file| &file.name);
            return Err(failures::corrupt(
                &file.path,
                format!("tensor {name} is in this file and in {other}; expected it in one"),
            ));
        }
    }
    source.files.push(file);
    Ok(())
}

/// Reads the header, and returns it with the position of the first byte after it.
fn read_header(file: &SourceFile) -> Result<(Metadata, u64), Failure> {
    let path = &file.path;
    if file.bytes < 8 {
        let what = format!("the file has {} bytes, expected at least 8", file.bytes);
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
                "its header claims {length} bytes; expected at most {max} in a file of {} bytes",
                file.bytes
            ),
        ));
    }
    let mut header = vec![0; length as usize];
    file.file.read_exact_at(&mut header, 8).map_err(|error| failures::io(path, &error))?;
    let metadata: Metadata = parse_json(&header)
        .map_err(|error| failures::corrupt(path, format!("its header is not valid: {error}")))?;
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

/// Returns the protocol's name of a type of the safetensors crate.
fn dtype(dtype: safetensors::Dtype) -> DType {
    match dtype {
        safetensors::Dtype::F32 => DType::F32,
        safetensors::Dtype::F16 => DType::F16,
        safetensors::Dtype::BF16 => DType::Bf16,
        other => DType::Other(other.to_string().to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn names_that_leave_the_folder_are_not_plain() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for name in ["", ".", "..", "../a", "a/b", "/etc/passwd", "a\\b", "./a", "a/"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
