//! The architecture and the config of a model, from the metadata of GGUF files.

use super::architecture::Architecture;
use super::end_of_generation::end_of_generation;
use super::metadata::Metadata;
use crate::failures;
use crate::formats::source::SourceTensor;
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Failure, FailureKind};
use serde_json::json;
use std::collections::BTreeMap;

/// A reader of the metadata that describe a model. All errors name the file.
pub(super) struct ModelDescription<'a>(pub(super) &'a Metadata);

impl ModelDescription<'_> {
    /// Reads the architecture.
    ///
    /// # Errors
    /// The key is missing or is not a string, or the architecture is not supported.
    pub(super) fn architecture(&self) -> Result<Architecture, Failure> {
        let name = self.0.text("general.architecture").map_err(|what| self.corrupt(what))?;
        let name = name.ok_or_else(|| self.corrupt("general.architecture is missing".into()))?;
        Architecture::from_name(name).ok_or_else(|| {
            let known = Architecture::ALL.map(Architecture::name).join(", ");
            self.unsupported(format!(
                "architecture \"{name}\" is not supported: expected one of {known}"
            ))
        })
    }

    /// Reads the config, and returns it together with the text of an equivalent `config.json`.
    ///
    /// # Errors
    /// A metadata value is missing, has the wrong type, or is not supported.
    pub(super) fn config(
        &self,
        architecture: Architecture,
        tensors: &BTreeMap<String, SourceTensor>,
    ) -> Result<(Config, String), Failure> {
        let key = |name: &str| format!("{}.{name}", architecture.name());
        let number = |name: &str| self.number(&key(name));
        let float = |name: &str| self.float(&key(name));
        let missing = |name: &str| self.corrupt(format!("metadata: {} is missing", key(name)));
        // checked here, so that messages name metadata keys and not the keys of a config.json
        let required = |name: &str| number(name)?.map(Some).ok_or_else(|| missing(name));
        self.refuse_scaling(architecture)?;
        let embedding = tensors.get("token_embd.weight").map(|tensor| tensor.shape.as_slice());
        let experts = number("expert_count")?.unwrap_or(0);
        let stop_tokens = end_of_generation(self.0).map_err(|what| self.corrupt(what))?;
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
        let config = Config::from_json(&text).map_err(|error| self.config_failure(error))?;
        for name in ["rope.dimension_count", "attention.value_length"] {
            if let Some(value) = number(name)?
                && value != config.head_dim as u64
            {
                return Err(self.unsupported(format!(
                    "metadata: {} is {value}, expected {} (the width of a head)",
                    key(name),
                    config.head_dim
                )));
            }
        }
        Ok((config, text))
    }

    /// Refuses RoPE scaling that is described by metadata.
    fn refuse_scaling(&self, architecture: Architecture) -> Result<(), Failure> {
        let key = |name: &str| format!("{}.rope.{name}", architecture.name());
        let mut scaled = false;
        for name in ["scaling.factor", "scale_linear"] {
            let factor = self.float(&key(name))?;
            scaled |= factor.is_some_and(|factor| factor != 0.0 && factor != 1.0);
        }
        let kind = self.0.text(&key("scaling.type")).map_err(|what| self.corrupt(what))?;
        match kind {
            // llama.cpp assumes linear scaling for a factor without a type
            None if scaled => Err(self.unsupported("linear RoPE scaling is not supported".into())),
            None | Some("none") => Ok(()),
            Some(other) => {
                Err(self.unsupported(format!("RoPE scaling \"{other}\" is not supported")))
            }
        }
    }

    fn unsupported(&self, what: String) -> Failure {
        failures::load(
            FailureKind::Unsupported,
            format!("{}: {what}", self.0.path().display()),
            "use the safetensors files of the model; or a GGUF file of a supported architecture",
        )
    }

    fn config_failure(&self, error: ConfigError) -> Failure {
        match error {
            ConfigError::Malformed(what) => self.corrupt(format!("metadata: {what}")),
            ConfigError::Unsupported(what) => self.unsupported(what),
        }
    }

    fn corrupt(&self, what: String) -> Failure {
        failures::corrupt(self.0.path(), what)
    }

    /// Reads a non-negative integer; returns `None` if the key is missing.
    ///
    /// # Errors
    /// The value is not a non-negative integer.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        self.0.number(key).map_err(|what| self.corrupt(what))
    }

    fn float(&self, key: &str) -> Result<Option<f64>, Failure> {
        self.0.float(key).map_err(|what| self.corrupt(what))
    }
}
