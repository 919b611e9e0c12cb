//! Copies of a safetensors model folder, and functions that damage such a copy.
//!
//! The functions also update the index, if the folder has one, unless their name says otherwise.

use crate::random::Random;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file name of the index of a sharded model.
pub const INDEX: &str = "model.safetensors.index.json";

/// A tensor in the encoding of its file.
#[derive(Debug, Clone)]
pub struct RawTensor {
    /// The type of the values.
    pub dtype: Dtype,
    /// The sizes of the dimensions, rows first.
    pub shape: Vec<usize>,
    /// The values, little-endian.
    pub data: Vec<u8>,
}

impl RawTensor {
    /// Returns the values converted to f32.
    pub fn to_f32(&self) -> Vec<f32> {
        let halves = self.data.chunks_exact(2).map(|b| [b[0], b[1]]);
        match self.dtype {
            Dtype::BF16 => halves.map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F16 => halves.map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::F32 => {
                let words = self.data.chunks_exact(4);
                words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Dtype::F64 => {
                let words = self.data.as_chunks::<8>().0;
                words.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
            }
            other => panic!("{other} is not a float type"),
        }
    }

    /// Returns the rows of a matrix, in f32.
    pub fn rows(&self) -> Vec<Vec<f32>> {
        self.to_f32().chunks(self.shape[1]).map(<[f32]>::to_vec).collect()
    }

    /// Replaces the values, rounded to the type of the tensor.
    pub fn set_f32(&mut self, values: &[f32]) {
        let encode = |value: &f32| match self.dtype {
            Dtype::BF16 => bf16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::F16 => f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::F32 => value.to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            other => panic!("{other} is not a float type"),
        };
        self.data = values.iter().flat_map(encode).collect();
    }
}

/// The tensors of one safetensors file, by name.
pub type Shard = BTreeMap<String, RawTensor>;

/// Copies the files of a model folder, without its subfolders, to a new temporary folder.
pub fn copy_model(source: &Path) -> tempfile::TempDir {
    let target = tempfile::tempdir().expect("temporary folder");
    for entry in fs::read_dir(source).unwrap_or_else(|e| panic!("{}: {e}", source.display())) {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, target.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    target
}

/// Returns the paths of the safetensors files in a folder, sorted by name.
pub fn shard_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .collect();
    files.sort();
    files
}

/// Reads all tensors of a file.
pub fn read_shard(file: &Path) -> Shard {
    let bytes = fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let tensors = SafeTensors::deserialize(&bytes).expect("a valid safetensors file");
    tensors
        .iter()
        .map(|(name, view)| {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            (name.to_owned(), RawTensor { dtype, shape, data: view.data().to_vec() })
        })
        .collect()
}

/// Writes the tensors of a file.
pub fn write_shard(file: &Path, shard: &Shard) {
    let views = shard.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data);
        (name.as_str(), view.expect("shape and data agree"))
    });
    safetensors::serialize_to_file(views, None, file).expect("written");
}

/// Reads all tensors of all files in a folder.
pub fn read_model(dir: &Path) -> Shard {
    shard_files(dir).iter().flat_map(|file| read_shard(file)).collect()
}

/// Returns the path of the file that contains a tensor.
pub fn file_of(dir: &Path, tensor: &str) -> PathBuf {
    let has = |file: &PathBuf| read_shard(file).contains_key(tensor);
    shard_files(dir).into_iter().find(has).unwrap_or_else(|| panic!("no file contains {tensor}"))
}

/// Applies `change` to the file that contains `tensor`, and updates the index.
pub fn edit(dir: &Path, tensor: &str, change: impl FnOnce(&mut Shard)) {
    let file = file_of(dir, tensor);
    let mut shard = read_shard(&file);
    let before: Vec<String> = shard.keys().cloned().collect();
    change(&mut shard);
    write_shard(&file, &shard);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    edit_index(dir, |map| {
        for removed in before.iter().filter(|tensor| !shard.contains_key(*tensor)) {
            map.remove(removed);
        }
        for tensor in shard.keys() {
            map.insert(tensor.clone(), json!(name));
        }
    });
}

/// Applies `change` to the `weight_map` of the index. Does nothing if the folder has no index.
pub fn edit_index(dir: &Path, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let path = dir.join(INDEX);
    let Ok(text) = fs::read_to_string(&path) else { return };
    let mut index: Value = serde_json::from_str(&text).expect("an index in JSON");
    change(index["weight_map"].as_object_mut().expect("a weight_map"));
    fs::write(&path, serde_json::to_vec_pretty(&index).unwrap()).unwrap();
}

/// Truncates a file to `keep` bytes.
pub fn truncate(file: &Path, keep: u64) {
    let file = fs::OpenOptions::new().write(true).open(file).expect("opened");
    file.set_len(keep).expect("truncated");
}

/// Sets the value at the flat position `index` of a tensor, for example to NaN.
pub fn set_value(dir: &Path, tensor: &str, index: usize, value: f32) {
    edit(dir, tensor, |shard| {
        let raw = shard.get_mut(tensor).unwrap();
        let mut values = raw.to_f32();
        values[index] = value;
        raw.set_f32(&values);
    });
}

/// Removes a tensor from its file and from the index.
pub fn drop_tensor(dir: &Path, tensor: &str) {
    edit(dir, tensor, |shard| {
        shard.remove(tensor);
    });
}

/// Removes a tensor from its file. The index still lists it.
pub fn drop_tensor_but_not_from_index(dir: &Path, tensor: &str) {
    let file = file_of(dir, tensor);
    let mut shard = read_shard(&file);
    shard.remove(tensor);
    write_shard(&file, &shard);
}

/// Renames a tensor.
pub fn rename_tensor(dir: &Path, from: &str, to: &str) {
    edit(dir, from, |shard| {
        let raw = shard.remove(from).unwrap();
        shard.insert(to.to_owned(), raw);
    });
}

/// Renames all tensors to the results of `rename`.
pub fn rename_all(dir: &Path, rename: impl Fn(&str) -> String) {
    for file in shard_files(dir) {
        let shard = read_shard(&file);
        let renamed = shard.into_iter().map(|(name, raw)| (rename(&name), raw)).collect();
        write_shard(&file, &renamed);
    }
    edit_index(dir, |map| {
        let entries = std::mem::take(map);
        map.extend(entries.into_iter().map(|(name, file)| (rename(&name), file)));
    });
}

/// Changes the shape of a tensor. `shape` must have the same number of values.
pub fn reshape_tensor(dir: &Path, tensor: &str, shape: &[usize]) {
    edit(dir, tensor, |shard| shard.get_mut(tensor).unwrap().shape = shape.to_vec());
}

/// Adds a tensor of f32 zeros to the first file.
pub fn add_tensor(dir: &Path, name: &str, shape: &[usize]) {
    let first = shard_files(dir).into_iter().next().expect("a file");
    let neighbour = read_shard(&first).into_keys().next().expect("a tensor");
    let data = vec![0; 4 * shape.iter().product::<usize>()];
    let raw = RawTensor { dtype: Dtype::F32, shape: shape.to_vec(), data };
    edit(dir, &neighbour, |shard| {
        shard.insert(name.to_owned(), raw);
    });
}

/// Adds normal noise to a tensor. Its standard deviation is `relative` times the root mean square
/// of the values.
pub fn add_noise(dir: &Path, tensor: &str, relative: f32, seed: u64) {
    edit(dir, tensor, |shard| {
        let raw = shard.get_mut(tensor).unwrap();
        let mut values = raw.to_f32();
        let square: f64 = values.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = relative * (square / values.len() as f64).sqrt() as f32;
        let mut random = Random::new(seed);
        values.iter_mut().for_each(|v| *v += scale * random.normal());
        raw.set_f32(&values);
    });
}

/// Multiplies the values of a tensor by a factor.
pub fn scale_tensor(dir: &Path, tensor: &str, factor: f32) {
    edit(dir, tensor, |shard| {
        let raw = shard.get_mut(tensor).unwrap();
        let values: Vec<f32> = raw.to_f32().into_iter().map(|v| v * factor).collect();
        raw.set_f32(&values);
    });
}

/// Converts the tensors of all files to `dtype`.
pub fn convert(dir: &Path, dtype: Dtype) {
    for file in shard_files(dir) {
        let mut shard = read_shard(&file);
        for raw in shard.values_mut() {
            let values = raw.to_f32();
            raw.dtype = dtype;
            raw.set_f32(&values);
        }
        write_shard(&file, &shard);
    }
}
