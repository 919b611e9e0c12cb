//! Opens GGUF files, one or the parts of a split one, and lists their tensors.

use super::architecture::Architecture;
use super::description::Description;
use super::header;
use super::metadata::Metadata;
use crate::blocks::from_ggml;
use crate::failures;
use crate::formats::source::{Source, SourceFile, SourceTensor};
use candle_core::quantized::gguf_file::Content;
use modelgate_model::Config;
use modelgate_protocol::{Failure, FailureKind};
use std::path::{Path, PathBuf};

/// GGUF files that are open.
pub(crate) struct Gguf {
    /// Their tensors.
    pub(crate) source: Source,
    /// `general.architecture`.
    pub(super) architecture: Architecture,
    /// The config by their metadata.
    pub(crate) config: Config,
    /// The config as a `config.json`.
    pub(super) config_json: String,
    /// The metadata of the first file, which are those of the model.
    pub(super) metadata: Metadata,
}

/// One file and its header.
struct Part {
    file: SourceFile,
    content: Content,
    metadata: Metadata,
}

impl Gguf {
    /// Opens the files of a model: one, or all parts of a split one in any order.
    ///
    /// # Errors
    /// What is wrong with which file.
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
        for Part { file, content, metadata } in in_order(parts)? {
            for (name, tensor) in tensors(&file, source.files.len(), &content)? {
                if let Some(earlier) = source.tensors.insert(name.clone(), tensor) {
                    let first = source.file_name(&earlier);
                    let what = format!("tensor {name} is also in {first}");
                    return Err(failures::corrupt(&file.path, what));
                }
            }
            first.get_or_insert(metadata);
            source.files.push(file);
        }
        let metadata = first.ok_or_else(|| failures::corrupt(root, "no GGUF file"))?;
        let description = Description(&metadata);
        let architecture = description.architecture()?;
        let (config, config_json) = description.config(architecture, &source.tensors)?;
        Ok(Gguf { source, architecture, config, config_json, metadata })
    }
}

/// Sorts the parts of a split model (`llama-gguf-split`: `split.no` counts from 0).
fn in_order(parts: Vec<Part>) -> Result<Vec<Part>, Failure> {
    let total = parts.len() as u64;
    let found: u64 = parts.iter().map(|part| part.content.tensor_infos.len() as u64).sum();
    let mut numbered = Vec::new();
    for part in parts {
        let split = Description(&part.metadata);
        let number = split.number("split.no")?.unwrap_or(0);
        // llama.cpp writes 0 when it merges the parts into one again
        let count = split.number("split.count")?.unwrap_or(1).max(1);
        if count != total {
            return Err(failures::load(
                FailureKind::NotFound,
                format!(
                    "{}: one of {count} parts, of which {total} exist",
                    part.file.path.display()
                ),
                "put all parts, NAME-00001-of-0000N.gguf and so on, into one folder",
            ));
        }
        let declared = split.number("split.tensors.count")?.filter(|_| total > 1);
        if let Some(declared) = declared.filter(|declared| *declared != found) {
            let what = format!(
                "split.tensors.count is {declared}, and all parts together have {found} \
                         tensors"
            );
            return Err(failures::corrupt(&part.file.path, what));
        }
        numbered.push((number, part));
    }
    numbered.sort_by_key(|(number, _)| *number);
    for (expected, (number, part)) in (0..).zip(&numbered) {
        if *number != expected {
            let what = format!("split.no is {number}, expected {expected}");
            return Err(failures::corrupt(&part.file.path, what));
        }
    }
    Ok(numbered.into_iter().map(|(_, part)| part).collect())
}

/// Returns every tensor with its place in the file, after checking that none leaves the file or
/// overlaps another.
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
            let what = format!("tensor {name} of type {dtype} has the impossible shape {shape:?}");
            return Err(failures::corrupt(&file.path, what));
        };
        let offset = content.tensor_data_offset.saturating_add(info.offset);
        list.push((name.clone(), SourceTensor { file: number, shape, dtype, offset, bytes }));
    }
    list.sort_by_key(|(_, tensor)| tensor.offset);
    let mut free = content.tensor_data_offset;
    for (name, tensor) in &list {
        if tensor.offset < free {
            let what = format!("tensor {name} overlaps the one before it");
            return Err(failures::corrupt(&file.path, what));
        }
        free = tensor.offset.saturating_add(tensor.bytes);
        if free > file.bytes {
            let what = format!(
                "the file is truncated: tensor {name} ends at byte {free}, found {} bytes",
                file.bytes
            );
            return Err(failures::corrupt(&file.path, what));
        }
    }
    Ok(list)
}
