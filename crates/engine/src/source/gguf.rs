//! GGUF files of architecture `llama`, by llama.cpp's names and metadata
//! (`gguf-py/gguf/constants.py`, `tensor_mapping.py`).

use super::{Source, SourceFile, SourceTensor};
use crate::{fail, storage};
use candle_core::quantized::gguf_file::{Content, Value};
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Failure, FailureKind};
use serde_json::json;
use std::collections::HashMap;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A GGUF file that was opened.
pub(crate) struct Gguf {
    /// Its tensors.
    pub(crate) source: Source,
    /// What its metadata say of the model.
    pub(crate) config: Config,
    /// The same in the words of a `config.json`.
    pub(crate) config_json: String,
}

impl Gguf {
    /// Opens the one file of a model.
    pub(crate) fn open(root: &Path, path: &Path) -> Result<Gguf, Failure> {
        let file = SourceFile::open(root, path)?;
        let content = read_header(&file)?;
        refuse_duplicates(&file, &content)?;
        let tensors = tensors(&file, &content)?;
        let (config, config_json) =
            Metadata { path, values: &content.metadata }.config(&tensors)?;
        let source = Source { files: vec![file], tensors: tensors.into_iter().collect() };
        Ok(Gguf { source, config, config_json })
    }
}

/// llama.cpp's name of a tensor that [`modelgate_model::tensors`] calls by its Hugging Face name.
pub(crate) fn tensor_name(name: &str) -> Option<String> {
    let Some(of_layer) = name.strip_prefix("model.layers.") else {
        let whole = match name {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            _ => return None,
        };
        return Some(whole.to_owned());
    };
    let (layer, rest) = of_layer.split_once('.')?;
    let (stem, kind) = rest.rsplit_once('.')?;
    let stem = match stem {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{stem}.{kind}"))
}

fn read_header(file: &SourceFile) -> Result<Content, Failure> {
    let path = &file.path;
    // candle divides by the alignment that the file gives, which may be zero.
    let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut BufReader::new(&file.file))))
        .map_err(|_| fail::corrupt(path, "its header cannot be read"))?;
    content.map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        if text.contains("unknown dtype") {
            fail::load(
                FailureKind::Unsupported,
                format!("{}: {text} of ggml's list of types", path.display()),
                "use a file with f32, f16, bf16, q4_0 to q8_0 or q2_k to q6_k tensors",
            )
        } else {
            fail::corrupt(path, format!("its header is not sound: {text}"))
        }
    })
}

/// Candle keeps the last of several tensors of one name, and says nothing of the others.
fn refuse_duplicates(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    let mut header = [0u8; 16];
    file.file.read_exact_at(&mut header, 0).map_err(|error| fail::io(&file.path, &error))?;
    // magic, version, then the number of tensors, which version 1 wrote in 32 bits
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let count = match word(4) {
        1 => u64::from(word(8)),
        _ => u64::from(word(8)) | u64::from(word(12)) << 32,
    };
    let distinct = content.tensor_infos.len() as u64;
    if count == distinct {
        return Ok(());
    }
    let what = format!("{count} tensors with {distinct} distinct names; a name stands twice");
    Err(fail::corrupt(&file.path, what))
}

/// Every tensor with its place in the file, none of which leaves it or overlaps another.
fn tensors(file: &SourceFile, content: &Content) -> Result<Vec<(String, SourceTensor)>, Failure> {
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
        list.push((name.clone(), SourceTensor { file: 0, shape, dtype, offset, bytes }));
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

/// The metadata of a file, for messages that name it.
struct Metadata<'a> {
    path: &'a Path,
    values: &'a HashMap<String, Value>,
}

impl Metadata<'_> {
    fn config(&self, tensors: &[(String, SourceTensor)]) -> Result<(Config, String), Failure> {
        self.refuse_what_is_not_done()?;
        let find = |name: &str| tensors.iter().find(|(tensor, _)| tensor == name);
        let embedding = find("token_embd.weight").map(|(_, tensor)| tensor.shape.as_slice());
        let experts = self.number("llama.expert_count")?.unwrap_or(0);
        let mut stop_tokens = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            stop_tokens.extend(self.number(key)?);
        }
        let eps = self.float("llama.attention.layer_norm_rms_epsilon")?;
        let text = json!({
            "model_type": if experts > 0 { "mixtral" } else { "llama" },
            "num_hidden_layers": self.number("llama.block_count")?,
            "hidden_size": self.number("llama.embedding_length")?,
            "num_attention_heads": self.number("llama.attention.head_count")?,
            "num_key_value_heads": self.number("llama.attention.head_count_kv")?,
            "head_dim": self.number("llama.attention.key_length")?,
            "intermediate_size": self.number("llama.feed_forward_length")?,
            "vocab_size": embedding.and_then(|shape| shape.first()),
            "num_local_experts": experts,
            "num_experts_per_tok": self.number("llama.expert_used_count")?,
            "tie_word_embeddings": find("output.weight").is_none(),
            "rms_norm_eps": eps.unwrap_or(1e-5),
            "rope_theta": self.float("llama.rope.freq_base")?,
            "max_position_embeddings": self.number("llama.context_length")?,
            "eos_token_id": stop_tokens,
        })
        .to_string();
        let config = Config::from_json(&text).map_err(|error| self.refused(error))?;
        for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
            if let Some(value) = self.number(key)?
                && value != config.head_dim as u64
            {
                return Err(self.unsupported(format!(
                    "{key} is {value}; only {}, the width of a head, is supported",
                    config.head_dim
                )));
            }
        }
        Ok((config, text))
    }

    fn is_scaled(&self) -> Result<bool, Failure> {
        for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
            if self.float(key)?.is_some_and(|factor| factor != 0.0 && factor != 1.0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refuse_what_is_not_done(&self) -> Result<(), Failure> {
        match self.text("general.architecture") {
            Some("llama") => {}
            Some(other) => {
                let what = format!("architecture \"{other}\" is not supported; supported is llama");
                return Err(self.unsupported(what));
            }
            None => return Err(fail::corrupt(self.path, "general.architecture is missing")),
        }
        if let Some(count) = self.number("split.count")?
            && count > 1
        {
            let what = format!("one of {count} parts; supported is a model in one file");
            return Err(self.unsupported(what));
        }
        match self.text("llama.rope.scaling.type") {
            // llama.cpp takes a factor without a type for linear scaling
            None if self.is_scaled()? => Err(self.unsupported("linear RoPE scaling".into())),
            None | Some("none") => Ok(()),
            Some(other) => {
                Err(self.unsupported(format!("RoPE scaling \"{other}\" is not supported")))
            }
        }
    }

    fn unsupported(&self, what: String) -> Failure {
        fail::load(
            FailureKind::Unsupported,
            format!("{}: {what}", self.path.display()),
            "use the model's safetensors files, or a GGUF file of architecture llama",
        )
    }

    fn refused(&self, error: ConfigError) -> Failure {
        match error {
            ConfigError::Malformed(what) => fail::corrupt(self.path, format!("metadata: {what}")),
            ConfigError::Unsupported(what) => self.unsupported(what),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key)?.to_string().ok().map(String::as_str)
    }

    fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let number = value.to_u64().ok();
        let number = number.or_else(|| value.to_i32().ok().and_then(|n| u64::try_from(n).ok()));
        number.map(Some).ok_or_else(|| {
            fail::corrupt(self.path, format!("metadata: {key} is not a single whole number"))
        })
    }

    fn float(&self, key: &str) -> Result<Option<f64>, Failure> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let number = value.to_f32().map(f64::from).or_else(|_| value.to_f64()).ok();
        number.filter(|number| number.is_finite()).map(Some).ok_or_else(|| {
            fail::corrupt(self.path, format!("metadata: {key} is not a finite number"))
        })
    }
}
