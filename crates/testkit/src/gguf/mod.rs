//! GGUF files made from a safetensors folder the way llama.cpp's `convert_hf_to_gguf.py` makes them:
//! its names, its metadata, rows of q and k permuted for interleaved RoPE where its architecture
//! wants that, and split in parts as `llama-gguf-split` splits.

mod layout;
mod metadata;
mod names;
mod types;
mod vocabulary;

use crate::safetensors_edit::read_model;
pub use candle_core::quantized::GgmlDType;
use candle_core::quantized::QTensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::{Device, Tensor};
pub use layout::{Layout, layout};
use modelgate_model::{Config, Family, RopeScaling};
pub use names::gguf_name;
pub(crate) use names::merged;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
pub(crate) use types::type_number;
pub use types::{named, q4_k_m, uniform};

/// The type of a tensor by its GGUF name and its shape.
pub type TypeOf<'a> = &'a dyn Fn(&str, &[usize]) -> GgmlDType;

/// How experts of a layer are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experts {
    /// In one tensor (experts, rows, columns) for each matrix: the only way today.
    Merged,
    /// Each in its own, as in files of 2023.
    Apart,
}

/// Where the metadata of the tokenizer are from.
#[derive(Debug, Clone, Copy)]
pub enum Vocabulary<'a> {
    /// There are none but the token that ends an answer.
    None,
    /// The tokenizer of the folder.
    OfFolder,
    /// Another GGUF file.
    OfFile(&'a Path),
}

/// Writes GGUF files.
pub struct GgufWriter<'a> {
    /// Gives each tensor its type. Norms and other vectors must be given a float type.
    pub dtype: TypeOf<'a>,
    /// How experts are stored.
    pub experts: Experts,
    /// Number of files.
    pub parts: usize,
    /// The tokenizer.
    pub vocabulary: Vocabulary<'a>,
}

impl<'a> GgufWriter<'a> {
    /// One that writes a single file without a tokenizer.
    pub fn new(dtype: TypeOf<'a>) -> GgufWriter<'a> {
        GgufWriter { dtype, experts: Experts::Merged, parts: 1, vocabulary: Vocabulary::None }
    }

    /// Writes the model in `source`, and gives the files: `target`, or where there are several
    /// parts, files beside it of a name made from its own.
    pub fn write(&self, source: &Path, target: &Path) -> Vec<PathBuf> {
        let json = fs::read_to_string(source.join("config.json")).expect("config.json");
        let config = Config::from_json(&json).expect("a config of a known model");
        let mut metadata = match self.vocabulary {
            Vocabulary::None => metadata_without_tokenizer(&config, &json),
            _ => metadata::of_model(&config, &json),
        };
        match self.vocabulary {
            Vocabulary::None => {}
            Vocabulary::OfFolder => metadata.extend(vocabulary::of_folder(source, config.vocab)),
            Vocabulary::OfFile(path) => metadata.extend(vocabulary::of_file(path)),
        }
        let tensors = self.tensors(&config, source);
        if self.parts == 1 {
            write_file(target, &metadata, &tensors);
            return vec![target.to_owned()];
        }
        self.write_parts(target, metadata, &tensors)
    }

    /// Metadata are in the first part alone, but for those of the split.
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
        let mut merged: BTreeMap<String, BTreeMap<usize, Floats>> = BTreeMap::new();
        for (name, raw) in read_model(source) {
            if names::is_left_out(&name) {
                continue;
            }
            let Some(gguf_name) = gguf_name(&name) else { panic!("no GGUF name for {name}") };
            let values = permuted(config, &name, &raw.shape, raw.to_f32());
            let tensor = Floats { shape: raw.shape, values };
            match names::merged(&gguf_name).filter(|_| self.experts == Experts::Merged) {
                Some((all, expert)) => {
                    merged.entry(all).or_default().insert(expert, tensor);
                }
                None => tensors.push((gguf_name, tensor)),
            }
        }
        for (name, experts) in merged {
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

/// A tensor before it gets its type.
struct Floats {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The metadata of a file without a tokenizer: those of the model, and the token that ends an
/// answer; `json` is the text of its config.
pub(crate) fn metadata_without_tokenizer(config: &Config, json: &str) -> Vec<(String, Value)> {
    let stop = config.stop_tokens.first();
    let stop = stop.map(|stop| ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(*stop)));
    metadata::of_model(config, json).into_iter().chain(stop).collect()
}

/// Writes the model in `source` as one GGUF file without a tokenizer.
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

/// Rows of q and k so that the pair (i, i + half) of each head becomes (2 i, 2 i + 1), where the
/// architecture is `llama`.
fn permuted(config: &Config, name: &str, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    if !matches!(config.family, Family::Llama | Family::Mixtral) {
        return values;
    }
    let heads = match name.rsplit('.').nth(1) {
        Some("q_proj") => config.heads,
        Some("k_proj") => config.kv_heads,
        _ => return values,
    };
    let (rows, columns) = (shape[0], values.len() / shape[0]);
    let head = rows / heads;
    let mut out = vec![0.0; values.len()];
    for row in 0..rows {
        let (first, within) = (row / head * head, row % head);
        let source = first + within / 2 + (within % 2) * (head / 2);
        out[row * columns..][..columns].copy_from_slice(&values[source * columns..][..columns]);
    }
    out
}

/// What each of RoPE's frequencies is divided by, as llama.cpp's converter works it out.
pub(crate) fn rope_factors(config: &Config, scaling: RopeScaling) -> Vec<f32> {
    let low = scaling.original_context / scaling.low_freq_factor;
    let high = scaling.original_context / scaling.high_freq_factor;
    let factor = |pair: usize| {
        let exponent = 2.0 * pair as f64 / config.head_dim as f64;
        let wavelength = std::f64::consts::TAU * config.rope.theta.powf(exponent);
        if wavelength < high {
            1.0
        } else if wavelength > low {
            scaling.factor
        } else {
            let smooth = (scaling.original_context / wavelength - scaling.low_freq_factor)
                / (scaling.high_freq_factor - scaling.low_freq_factor);
            1.0 / ((1.0 - smooth) / scaling.factor + smooth)
        }
    };
    (0..config.head_dim / 2).map(|pair| factor(pair) as f32).collect()
}
