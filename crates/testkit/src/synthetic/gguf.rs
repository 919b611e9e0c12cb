//! Writes GGUF files of version 3 (`ggml/include/gguf.h` of llama.cpp) without candle, because
//! candle needs all tensors in memory.

use super::file::{NewFile, PlacedTensor, Progress, Values, write_files};
use super::random_values::floats;
use super::values::{config, values};
use crate::gguf::{Experts, GgmlDType, TypeOf, gguf_name, type_number};
use crate::gguf::{merged_expert_name, metadata_without_tokenizer, rope_factors};
use candle_core::quantized::gguf_file::Value;
use modelgate_model::{Config, tensors};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The alignment of the tensor offsets in bytes.
const ALIGNMENT: u64 = 32;

/// Writes a GGUF file without a tokenizer, with random weights for the model that `config_json`
/// describes. `dtype` selects the type of each tensor.
///
/// # Errors
/// The config is not supported, the free disk space is too small, or the file cannot be written.
/// The message names the path.
pub fn write_gguf(
    config_json: &str,
    path: &Path,
    dtype: TypeOf,
    experts: Experts,
    seed: u64,
    progress: Progress,
) -> io::Result<()> {
    let config = config(config_json)?;
    let metadata = metadata_without_tokenizer(&config, config_json);
    let mut infos = Vec::new();
    let mut placed = Vec::new();
    // Offsets in the header are relative to its end, which is not known yet.
    let mut offset = 0;
    for (number, (name, shape)) in (0..).zip(tensor_shapes(&config, experts)) {
        let dtype = dtype(&name, &shape);
        let values = match (name.as_str(), config.rope.scaling) {
            ("rope_freqs.weight", Some(scaling)) => {
                Values::Given(floats(dtype, &rope_factors(&config, scaling)))
            }
            _ => values(&name, &shape, dtype, &config),
        };
        let elements = shape.iter().map(|size| *size as u64).product::<u64>();
        let bytes = elements / dtype.block_size() as u64 * dtype.type_size() as u64;
        placed.push(PlacedTensor { offset, bytes, number, values });
        infos.push(Info { name, shape, dtype, offset });
        offset = (offset + bytes).next_multiple_of(ALIGNMENT);
    }
    let head = head(&metadata, &infos);
    let begin = head.len() as u64;
    placed.iter_mut().for_each(|tensor| tensor.offset += begin);
    let file = NewFile { path: path.to_owned(), head, tensors: placed, bytes: begin + offset };
    write_files(&[file], seed, progress)
}

/// Returns the GGUF names and the shapes (rows first) of all tensors, in the order of the
/// checkpoint.
fn tensor_shapes(config: &Config, experts: Experts) -> Vec<(String, Vec<usize>)> {
    let mut list: Vec<(String, Vec<usize>)> = Vec::new();
    // The position in the list of each merged tensor, by name.
    let mut merged: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in tensors(config) {
        let name = gguf_name(&tensor.name);
        let name = name.unwrap_or_else(|| panic!("{} has no GGUF name", tensor.name));
        match merged_expert_name(&name).filter(|_| experts == Experts::Merged) {
            Some((name, _)) => {
                let at = *merged.entry(name.clone()).or_insert_with(|| {
                    list.push((name, [&[0], tensor.shape.as_slice()].concat()));
                    list.len() - 1
                });
                list[at].1[0] += 1;
            }
            None => list.push((name, tensor.shape)),
        }
    }
    if config.rope.scaling.is_some() {
        list.push(("rope_freqs.weight".into(), vec![config.head_dim / 2]));
    }
    list
}

/// The entry of a tensor in the header.
struct Info {
    name: String,
    shape: Vec<usize>,
    dtype: GgmlDType,
    offset: u64,
}

/// Returns the bytes of the file before the tensors.
fn head(metadata: &[(String, Value)], infos: &[Info]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((infos.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        out.extend(kind(value).to_le_bytes());
        put_value(&mut out, value);
    }
    for info in infos {
        put_text(&mut out, &info.name);
        out.extend((info.shape.len() as u32).to_le_bytes());
        // GGUF stores the row length first.
        info.shape.iter().rev().for_each(|size| out.extend((*size as u64).to_le_bytes()));
        out.extend(type_number(info.dtype).to_le_bytes());
        out.extend(info.offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Returns the number of a value's type in `gguf.h`. Supports the types of metadata without a
/// tokenizer.
fn kind(value: &Value) -> u32 {
    match value {
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        other => panic!("unsupported metadata value: {other:?}"),
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U32(number) => out.extend(number.to_le_bytes()),
        Value::I32(number) => out.extend(number.to_le_bytes()),
        Value::F32(number) => out.extend(number.to_le_bytes()),
        Value::String(text) => put_text(out, text),
        Value::Array(list) => {
            out.extend(list.first().map_or(4, kind).to_le_bytes());
            out.extend((list.len() as u64).to_le_bytes());
            list.iter().for_each(|value| put_value(out, value));
        }
        other => panic!("unsupported metadata value: {other:?}"),
    }
}
