//! The writer of GGUF files.

use super::metadata::{metadata_without_tokenizer, model_metadata};
use super::names::{gguf_name, is_omitted, merged_expert_name};
use super::rope::{permuted, rope_factors};
use super::vocabulary;
use crate::safetensors_edit::read_model;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use modelgate_model::Config;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A function that returns the type of a tensor for its GGUF name and its shape (rows first).
pub type TypeOf<'a> = &'a dyn Fn(&str, &[usize]) -> GgmlDType;

/// The storage of the expert matrices of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experts {
    /// One tensor (experts, rows, columns) for each matrix: the current format.
    Merged,
    /// One tensor for each expert and matrix: the format of files from 2023.
    Separate,
}

/// The source of the tokenizer's metadata.
#[derive(Debug, Clone, Copy)]
pub enum Vocabulary<'a> {
    /// No tokenizer: only the id of the first stop token is written.
    None,
    /// The tokenizer files in the folder of the model.
    OfSourceFolder,
    /// The metadata of another GGUF file.
    OfGguf(&'a Path),
}

/// A writer that converts a safetensors model to GGUF files.
pub struct GgufWriter<'a> {
    /// The function that selects the type of each tensor. Norms and other vectors need a float
    /// type.
    pub dtype: TypeOf<'a>,
    /// The storage of experts.
    pub experts: Experts,
    /// The number of files.
    pub parts: usize,
    /// The source of the tokenizer's metadata.
    pub vocabulary: Vocabulary<'a>,
}

impl<'a> GgufWriter<'a> {
    /// Creates a writer of a single file without a tokenizer.
    pub fn new(dtype: TypeOf<'a>) -> GgufWriter<'a> {
        GgufWriter { dtype, experts: Experts::Merged, parts: 1, vocabulary: Vocabulary::None }
    }

    /// Converts the model in the folder `source` and returns the paths of the written files:
    /// `target`, or for several parts `<stem of target>-00001-of-0000N.gguf` and so on.
    pub fn write(&self, source: &Path, target: &Path) -> Vec<PathBuf> {
        let json = fs::read_to_string(source.join("config.json")).expect("config.json");
        let config = Config::from_json(&json).expect("a config of a known model");
        let mut metadata = match self.vocabulary {
            Vocabulary::None => metadata_without_tokenizer(&config, &json),
            _ => model_metadata(&config, &json),
        };
        match self.vocabulary {
            Vocabulary::None => {}
            Vocabulary::OfSourceFolder => {
                metadata.extend(vocabulary::folder_metadata(source, config.vocab));
            }
            Vocabulary::OfGguf(path) => metadata.extend(vocabulary::file_metadata(path)),
        }
        let tensors = self.tensors(&config, source);
        if self.parts == 1 {
            write_file(target, &metadata, &tensors);
            return vec![target.to_owned()];
        }
        self.write_parts(target, metadata, &tensors)
    }

    /// Writes the parts. Only the first part contains `metadata`; each part contains the `split.*`
    /// keys.
    fn write_parts(
        &self,
        target: &Path,
        mut metadata: Vec<(String, Value)>,
        tensors: &[(String, QTensor)],
    ) -> Vec<PathBuf> {
        let stem = target.with_extension("").to_string_lossy().into_owned();
        let (count, total) = (self.parts, tensors.len());
        let mut paths = Vec::new();
        for part in 0..count {
            let path = PathBuf::from(format!("{stem}-{:05}-of-{count:05}.gguf", part + 1));
            let mut values = std::mem::take(&mut metadata);
            values.extend([
                ("split.no".to_owned(), Value::U16(part as u16)),
                ("split.count".to_owned(), Value::U16(count as u16)),
                ("split.tensors.count".to_owned(), Value::I32(total as i32)),
            ]);
            write_file(&path, &values, &tensors[part * total / count..(part + 1) * total / count]);
            paths.push(path);
        }
        paths
    }

    fn tensors(&self, config: &Config, source: &Path) -> Vec<(String, QTensor)> {
        let mut tensors: Vec<(String, Floats)> = Vec::new();
        let mut experts: BTreeMap<String, BTreeMap<usize, Floats>> = BTreeMap::new();
        for (name, raw) in read_model(source) {
            if is_omitted(&name) {
                continue;
            }
            let Some(gguf_name) = gguf_name(&name) else { panic!("{name} has no GGUF name") };
            let values = permuted(config, &name, &raw.shape, raw.to_f32());
            let tensor = Floats { shape: raw.shape, values };
            match merged_expert_name(&gguf_name).filter(|_| self.experts == Experts::Merged) {
                Some((all, expert)) => {
                    experts.entry(all).or_default().insert(expert, tensor);
                }
                None => tensors.push((gguf_name, tensor)),
            }
        }
        for (name, experts) in experts {
            let mut shape = vec![experts.len()];
            shape.extend(&experts[&0].shape);
            let values = experts.into_values().flat_map(|expert| expert.values).collect();
            tensors.push((name, Floats { shape, values }));
        }
        if let Some(scaling) = config.rope.scaling {
            let values = rope_factors(config, scaling);
            let factors = Floats { shape: vec![values.len()], values };
            tensors.push(("rope_freqs.weight".into(), factors));
        }
        let typed = |(name, tensor): (String, Floats)| {
            let dtype = (self.dtype)(&name, &tensor.shape);
            (name, quantized(tensor, dtype))
        };
        tensors.into_iter().map(typed).collect()
    }
}

/// A tensor in f32, before it is converted to its type.
struct Floats {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// Converts the model in the folder `source` to one GGUF file without a tokenizer.
pub fn write_from_safetensors(source: &Path, target: &Path, dtype: TypeOf) {
    GgufWriter::new(dtype).write(source, target);
}

fn write_file(path: &Path, metadata: &[(String, Value)], tensors: &[(String, QTensor)]) {
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let mut file = fs::File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    gguf_file::write(&mut file, &metadata, &tensors).expect("a GGUF file");
}

fn quantized(Floats { shape, values }: Floats, dtype: GgmlDType) -> QTensor {
    let tensor = Tensor::from_vec(values, shape.as_slice(), &Device::Cpu);
    let tensor = tensor.expect("shape and values agree");
    QTensor::quantize(&tensor, dtype).unwrap_or_else(|e| panic!("{shape:?} as {dtype:?}: {e}"))
}
