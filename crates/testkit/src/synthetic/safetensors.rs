//! Writes Hugging Face folders: `config.json` and weights in bf16, in shards with an index.

use super::file::{NewFile, PlacedTensor, Progress, with_path, write_files};
use super::values::{config, values};
use crate::safetensors_edit::INDEX;
use candle_core::quantized::GgmlDType;
use modelgate_model::{Config, TensorShape, tensors};
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes a folder with random weights for the model that `config_json` describes, and returns the
/// paths of the weight files. A shard contains at most `shard_bytes` bytes of tensors, or one
/// larger tensor. If one shard is enough, it is named `model.safetensors` and there is no index.
/// `config.json` is written last, so a folder that contains it is complete.
///
/// # Errors
/// The config is not supported, the free disk space is too small, or a file cannot be written. The
/// message names the path.
pub fn write_safetensors(
    config_json: &str,
    dir: &Path,
    shard_bytes: u64,
    seed: u64,
    progress: Progress,
) -> io::Result<Vec<PathBuf>> {
    let config = config(config_json)?;
    fs::create_dir_all(dir).map_err(|error| with_path(dir, error))?;
    let list: Vec<(u64, TensorShape)> = (0..).zip(tensors(&config)).collect();
    let shards = shards(&list, shard_bytes);
    let count = shards.len();
    let mut weight_map = Map::new();
    let mut files = Vec::new();
    for (number, shard) in (1..).zip(shards) {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        weight_map.extend(shard.iter().map(|(_, tensor)| (tensor.name.clone(), json!(name))));
        files.push(new_file(dir.join(name), shard, &config));
    }
    write_files(&files, seed, progress)?;
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).map_err(|error| with_path(&path, error))
    };
    if count > 1 {
        let total: u64 = list.iter().map(|(_, tensor)| bytes(tensor)).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write(INDEX, &format!("{index:#}\n"))?;
    }
    write("config.json", config_json)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// Returns the size in bytes of a tensor in bf16.
fn bytes(tensor: &TensorShape) -> u64 {
    2 * tensor.elements()
}

/// Splits the tensors, in their order, into shards of at most `max_bytes` bytes.
fn shards(list: &[(u64, TensorShape)], max_bytes: u64) -> Vec<&[(u64, TensorShape)]> {
    let mut shards = Vec::new();
    let (mut first, mut size) = (0, 0);
    for (at, (_, tensor)) in list.iter().enumerate() {
        if at > first && size + bytes(tensor) > max_bytes {
            shards.push(&list[first..at]);
            (first, size) = (at, 0);
        }
        size += bytes(tensor);
    }
    shards.push(&list[first..]);
    shards
}

fn new_file(path: PathBuf, shard: &[(u64, TensorShape)], config: &Config) -> NewFile {
    let head = head(shard);
    let mut offset = head.len() as u64;
    let mut placed = Vec::new();
    for (number, tensor) in shard {
        let values = values(&tensor.name, &tensor.shape, GgmlDType::BF16, config);
        let bytes = bytes(tensor);
        placed.push(PlacedTensor { offset, bytes, number: *number, values });
        offset += bytes;
    }
    NewFile { path, head, tensors: placed, bytes: offset }
}

/// Returns the length of the JSON header (8 bytes) and the header.
fn head(shard: &[(u64, TensorShape)]) -> Vec<u8> {
    let mut entries = Map::new();
    entries.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (_, tensor) in shard {
        let end = offset + bytes(tensor);
        let entry: Value =
            json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end] });
        entries.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut header = Value::Object(entries).to_string().into_bytes();
    // The format requires that the data start at a multiple of 8.
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat()
}
