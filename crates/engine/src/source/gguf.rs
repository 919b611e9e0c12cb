//! GGUF files, one or the parts of a split one, by llama.cpp's names and metadata
//! (`gguf-py/gguf/constants.py`, `llama-arch.cpp`).

use super::{Metadata, Source, SourceFile, SourceTensor, gguf_header};
use crate::{fail, storage};
use candle_core::quantized::gguf_file::Content;
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Failure, FailureKind};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// GGUF files that were opened.
pub(crate) struct Gguf {
    /// Their tensors.
    pub(crate) source: Source,
    /// `general.architecture`.
    pub(crate) architecture: Architecture,
    /// What their metadata say of the model.
    pub(crate) config: Config,
    /// The same in the words of a `config.json`.
    pub(crate) config_json: String,
    /// Metadata of the first file, which are those of the model.
    pub(crate) metadata: Metadata,
}

/// One file, its header read.
struct Part {
    file: SourceFile,
    content: Content,
    metadata: Metadata,
}

/// An architecture by llama.cpp's name of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// Llama, Mistral and Mixtral, with rows of q and k permuted for interleaved RoPE.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// The text model of Qwen2-VL, Qwen2.5-VL and Qwen2.5-Omni: Qwen2 with multimodal RoPE.
    Qwen2Vl,
}

impl Architecture {
    const ALL: [Architecture; 3] =
        [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen2Vl];

    /// Its name, which is also what the keys of its metadata begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen2Vl => "qwen2vl",
        }
    }

    fn from_name(name: &str) -> Option<Architecture> {
        Architecture::ALL.into_iter().find(|architecture| architecture.name() == name)
    }
}

impl Gguf {
    /// Opens the files of a model: one, or all parts of a split one in any order.
    pub(crate) fn open(root: &Path, paths: &[PathBuf]) -> Result<Gguf, Failure> {
        let mut parts = Vec::new();
        for path in paths {
            let file = SourceFile::open(root, path)?;
            let mut content = gguf_header::read(&file)?;
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
                    return Err(fail::corrupt(&file.path, what));
                }
            }
            first.get_or_insert(metadata);
            source.files.push(file);
        }
        let metadata = first.ok_or_else(|| fail::corrupt(root, "no GGUF file"))?;
        let described = Described(&metadata);
        let architecture = described.architecture()?;
        let (config, config_json) = described.config(architecture, &source.tensors)?;
        Ok(Gguf { source, architecture, config, config_json, metadata })
    }
}

/// The parts of a split model in their order (`llama-gguf-split`: `split.no` counts from 0).
fn in_order(parts: Vec<Part>) -> Result<Vec<Part>, Failure> {
    let total = parts.len() as u64;
    let found: u64 = parts.iter().map(|part| part.content.tensor_infos.len() as u64).sum();
    let mut numbered = Vec::new();
    for part in parts {
        let split = Described(&part.metadata);
        let number = split.number("split.no")?.unwrap_or(0);
        // llama.cpp writes 0 where it merges the parts into one again
        let count = split.number("split.count")?.unwrap_or(1).max(1);
        if count != total {
            return Err(fail::load(
                FailureKind::NotFound,
                format!(
                    "{}: one of {count} parts, and {total} are there",
                    part.file.path.display()
                ),
                "put all parts, NAME-00001-of-0000N.gguf and so on, into one folder",
            ));
        }
        let declared = split.number("split.tensors.count")?.filter(|_| total > 1);
        if let Some(declared) = declared.filter(|declared| *declared != found) {
            let what =
                format!("split.tensors.count is {declared}, and all parts hold {found} tensors");
            return Err(fail::corrupt(&part.file.path, what));
        }
        numbered.push((number, part));
    }
    numbered.sort_by_key(|(number, _)| *number);
    for (expected, (number, part)) in (0..).zip(&numbered) {
        if *number != expected {
            let what = format!("split.no is {number}, expected {expected}");
            return Err(fail::corrupt(&part.file.path, what));
        }
    }
    Ok(numbered.into_iter().map(|(_, part)| part).collect())
}

/// Every tensor with its place in the file, none of which leaves it or overlaps another.
fn tensors(
    file: &SourceFile,
    number: usize,
    content: &Content,
) -> Result<Vec<(String, SourceTensor)>, Failure> {
    let mut list = Vec::new();
    for (name, info) in &content.tensor_infos {
        let shape = info.shape.dims().to_vec();
        let dtype = storage::dtype(info.ggml_dtype);
        let elements = shape.iter().try_fold(1u64, |a, b| a.checked_mul(*b as u64));
        let row = shape.last().copied().unwrap_or(1) as u64;
        let (block, size) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
        let bytes = elements
            .filter(|_| row.is_multiple_of(block as u64))
            .and_then(|elements| (elements / block as u64).checked_mul(size as u64));
        let Some(bytes) = bytes else {
            let what = format!("tensor {name} of type {dtype} has the impossible shape {shape:?}");
            return Err(fail::corrupt(&file.path, what));
        };
        let offset = content.tensor_data_offset.saturating_add(info.offset);
        list.push((name.clone(), SourceTensor { file: number, shape, dtype, offset, bytes }));
    }
    list.sort_by_key(|(_, tensor)| tensor.offset);
    let mut free = content.tensor_data_offset;
    for (name, tensor) in &list {
        if tensor.offset < free {
            let what = format!("tensor {name} overlaps the one before it");
            return Err(fail::corrupt(&file.path, what));
        }
        free = tensor.offset.saturating_add(tensor.bytes);
        if free > file.bytes {
            let what = format!(
                "the file is truncated: tensor {name} ends at byte {free}, found {} bytes",
                file.bytes
            );
            return Err(fail::corrupt(&file.path, what));
        }
    }
    Ok(list)
}

/// What metadata say of a model.
struct Described<'a>(&'a Metadata);

impl Described<'_> {
    fn architecture(&self) -> Result<Architecture, Failure> {
        let name = self.0.text("general.architecture").map_err(|what| self.corrupt(what))?;
        let name = name.ok_or_else(|| self.corrupt("general.architecture is missing".into()))?;
        Architecture::from_name(name).ok_or_else(|| {
            let known = Architecture::ALL.map(Architecture::name).join(", ");
            self.unsupported(format!(
                "architecture \"{name}\" is not supported; supported are {known}"
            ))
        })
    }

    fn config(
        &self,
        architecture: Architecture,
        tensors: &BTreeMap<String, SourceTensor>,
    ) -> Result<(Config, String), Failure> {
        let key = |name: &str| format!("{}.{name}", architecture.name());
        let number = |name: &str| self.number(&key(name));
        let float = |name: &str| self.float(&key(name));
        let missing = |name: &str| self.corrupt(format!("metadata: {} is missing", key(name)));
        // named by their own keys, before they become those of a config
        let required = |name: &str| number(name)?.map(Some).ok_or_else(|| missing(name));
        self.refuse_scaling(architecture)?;
        let embedding = tensors.get("token_embd.weight").map(|tensor| tensor.shape.as_slice());
        let experts = number("expert_count")?.unwrap_or(0);
        let mut stop_tokens = Vec::new();
        for kind in ["eos", "eot", "eom"] {
            stop_tokens.extend(self.number(&format!("tokenizer.ggml.{kind}_token_id"))?);
        }
        let heads = required("attention.head_count")?;
        let eps = float("attention.layer_norm_rms_epsilon")?;
        let eps = eps.ok_or_else(|| missing("attention.layer_norm_rms_epsilon"))?;
        let experts_used = match experts {
            0 => None,
            _ => required("expert_used_count")?,
        };
        let text = json!({
            "model_type": match architecture {
                Architecture::Llama if experts > 0 => "mixtral",
                Architecture::Llama => "llama",
                Architecture::Qwen2 | Architecture::Qwen2Vl => "qwen2",
            },
            "num_hidden_layers": required("block_count")?,
            "hidden_size": required("embedding_length")?,
            "num_attention_heads": heads,
            "num_key_value_heads": number("attention.head_count_kv")?.or(heads),
            "head_dim": number("attention.key_length")?,
            "intermediate_size": required("feed_forward_length")?,
            "vocab_size": embedding.and_then(|shape| shape.first()),
            "num_local_experts": experts,
            "num_experts_per_tok": experts_used,
            "tie_word_embeddings": !tensors.contains_key("output.weight"),
            "rms_norm_eps": eps,
            "rope_theta": float("rope.freq_base")?.unwrap_or(10_000.0),
            "max_position_embeddings": required("context_length")?,
            "eos_token_id": stop_tokens,
        })
        .to_string();
        let config = Config::from_json(&text).map_err(|error| self.refused(error))?;
        for name in ["rope.dimension_count", "attention.value_length"] {
            if let Some(value) = number(name)?
                && value != config.head_dim as u64
            {
                return Err(self.unsupported(format!(
                    "{} is {value}; only {}, the width of a head, is supported",
                    key(name),
                    config.head_dim
                )));
            }
        }
        Ok((config, text))
    }

    fn refuse_scaling(&self, architecture: Architecture) -> Result<(), Failure> {
        let key = |name: &str| format!("{}.rope.{name}", architecture.name());
        let mut scaled = false;
        for name in ["scaling.factor", "scale_linear"] {
            let factor = self.float(&key(name))?;
            scaled |= factor.is_some_and(|factor| factor != 0.0 && factor != 1.0);
        }
        let kind = self.0.text(&key("scaling.type")).map_err(|what| self.corrupt(what))?;
        match kind {
            // llama.cpp takes a factor without a type for linear scaling
            None if scaled => Err(self.unsupported("linear RoPE scaling".into())),
            None | Some("none") => Ok(()),
            Some(other) => {
                Err(self.unsupported(format!("RoPE scaling \"{other}\" is not supported")))
            }
        }
    }

    fn unsupported(&self, what: String) -> Failure {
        fail::load(
            FailureKind::Unsupported,
            format!("{}: {what}", self.0.path().display()),
            "use the model's safetensors files, or a GGUF file of a supported architecture",
        )
    }

    fn refused(&self, error: ConfigError) -> Failure {
        match error {
            ConfigError::Malformed(what) => self.corrupt(format!("metadata: {what}")),
            ConfigError::Unsupported(what) => self.unsupported(what),
        }
    }

    fn corrupt(&self, what: String) -> Failure {
        fail::corrupt(self.0.path(), what)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.0.number(key).map_err(|what| self.corrupt(what))
    }

    fn float(&self, key: &str) -> Result<Option<f64>, Failure> {
        self.0.float(key).map_err(|what| self.corrupt(what))
    }
}
