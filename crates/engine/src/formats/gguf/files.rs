//! Opens GGUF files, single or split into parts, and lists their tensors.

use super::architecture::Architecture;
use super::description::ModelDescription;
use super::header;
use super::metadata::Metadata;
use crate::blocks::from_ggml;
use crate::failures;
use crate::formats::source::{Source, SourceFile, SourceTensor};
use candle_core::quantized::gguf_file::Content;
use modelgate_model::Config;
use modelgate_protocol::{Failure, FailureKind};
use std::path::{Path, PathBuf};

/// The open GGUF files of a model, with their tensors and metadata.
pub(crate) struct Gguf {
    /// The open files, and the places of their tensors.
    pub(crate) source: Source,
    /// The architecture, from the metadata key `general.architecture`.
    pub(super) architecture: Architecture,
    /// The config, from the metadata.
    pub(crate) config: Config,
    /// The config as the text of a `config.json`.
    pub(super) config_json: String,
    /// The metadata of the first file, which apply to the complete model.
    pub(super) metadata: Metadata,
}

/// One file of a split model, or the only file, with its header.
struct Part {
    file: SourceFile,
    content: Content,
    metadata: Metadata,
}

impl Gguf {
    /// Opens the files of a model: a single file, or all parts of a split model in any order. Names
    /// of files are relative to `root`.
    ///
    /// # Errors
    /// A file cannot be read, is invalid or is not supported, or a part is missing.
    pub(crate) fn open(root: &Path, paths: &[PathBuf]) -> Result<Gguf, Failure> {
        let mut parts = Vec::new();
        for path in paths {
            let file = SourceFile::open(root, path)?;
            let mut content = header::read(&file)?;
            let metadata = Metadata::new(path, std::mem::take(&mut content.metadata));
            parts.push(Part { file, content, metadata });
        }
        let mut source = Source::new();
        let mut first = None;
        for Part { file, content, metadata } in sorted_parts(parts)? {
            for (name, tensor) in tensors(&file, source.files.len(), &content)? {
                if let Some(earlier) = source.tensors.insert(name.clone(), tensor) {
                    let first = source.file_name(&earlier);
                    let what = format!("tensor {name} is duplicated: it is also in {first}");
                    return Err(failures::corrupt(&file.path, what));
                }
            }
            first.get_or_insert(metadata);
            source.files.push(file);
        }
        let metadata = first.ok_or_else(|| {
            failures::corrupt(root, "weight files: expected at least one GGUF file, found none")
        })?;
        let description = ModelDescription(&metadata);
        let architecture = description.architecture()?;
        let (config, config_json) = description.config(architecture, &source.tensors)?;
        Ok(Gguf { source, architecture, config, config_json, metadata })
    }
}

/// Sorts the parts of a split model by `split.no`, which counts from 0 (`llama-gguf-split`).
///
/// # Errors
/// A part is missing or duplicated, or the number of tensors differs from `split.tensors.count`.
fn sorted_parts(parts: Vec<Part>) -> Result<Vec<Part>, Failure> {
    let total = parts.len() as u64;
    let found: u64 = parts.iter().map(|part| part.content.tensor_infos.len() as u64).sum();
    let mut numbered = Vec::new();
    for part in parts {
        let split = ModelDescription(&part.metadata);
        let number = split.number("split.no")?.unwrap_or(0);
        // llama.cpp writes 0 when it merges the parts of a split model
        let count = split.number("split.count")?.unwrap_or(1).max(1);
        if count != total {
            return Err(failures::load(
                FailureKind::NotFound,
                format!(
                    "{}: split model: expected {count} parts, found {total}",
                    part.file.path.display()
                ),
                "put all parts into one folder, NAME-00001-of-0000N.gguf and so on",
            ));
        }
        let declared = split.number("split.tensors.count")?.filter(|_| total > 1);
        if let Some(declared) = declared.filter(|declared| *declared != found) {
            let what = format!(
                "metadata: split.tensors.count is {declared}, but the parts contain {found} tensors"
            );
            return Err(failures::corrupt(&part.file.path, what));
        }
        numbered.push((number, part));
    }
    numbered.sort_by_key(|(number, _)| *number);
    for (expected, (number, part)) in (0..).zip(&numbered) {
        if *number != expected {
            let what = format!("metadata: split.no is {number}, expected {expected}");
            return Err(failures::corrupt(&part.file.path, what));
        }
    }
    Ok(numbered.into_iter().map(|(_, part)| part).collect())
}

/// Returns the place of every tensor in the file with the index `number`, after checking that the
/// tensors are inside the file and do not overlap.
fn tensors(
    file: &SourceFile,
    number: usize,
    content: &Content,
) -> Result<Vec<(String, SourceTensor)>, Failure> {
    let mut list = Vec::new();
    for (name, info) in &content.tensor_infos {
        let shape = info.shape.dims().to_vec();
        let dtype = from_ggml(info.ggml_dtype);
        let elements = shape.iter().try_fold(1u64, |a, b| a.checked_mul(*b as u64));
        let row = shape.last().copied().unwrap_or(1) as u64;
        let (block, size) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
        let bytes = elements
            .filter(|_| row.is_multiple_of(block as u64))
            .and_then(|elements| (elements / block as u64).checked_mul(size as u64));
        let Some(bytes) = bytes else {
            let what = format!("tensor {name}: shape {shape:?} is impossible for type {dtype}");
            return Err(failures::corrupt(&file.path, what));
        };
        let offset = content.tensor_data_offset.saturating_add(info.offset);
        list.push((
            name.clone(),
            SourceTensor { file: number, shape, dtype, offset, bytes, stored_name: None },
        ));
    }
    list.sort_by_key(|(_, tensor)| tensor.offset);
    let mut min_offset = content.tensor_data_offset;
    for (name, tensor) in &list {
        if tensor.offset < min_offset {
            let what = format!("tensor {name} overlaps the tensor before it");
            return Err(failures::corrupt(&file.path, what));
        }
        min_offset = tensor.offset.saturating_add(tensor.bytes);
        if min_offset > file.bytes {
            let what = format!(
                "the file is truncated: tensor {name} ends at byte {min_offset}, found {} bytes",
                file.bytes
            );
            return Err(failures::corrupt(&file.path, what));
        }
    }
    Ok(list)
}
