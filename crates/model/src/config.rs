//! The part of a Hugging Face `config.json` that a decoder of the Llama family needs.
//!
//! Source: `configuration_llama.py`, `configuration_mistral.py`, `configuration_mixtral.py`,
//! `configuration_qwen2.py`, `configuration_qwen2_5_omni.py` of transformers. Both spellings are
//! read: version 4's (`rope_theta`, `rope_scaling`) and version 5's (`rope_parameters`).

use serde::Deserialize;
use serde_json::Value;

/// What a decoder of the Llama family is made of. All sizes are numbers of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `model_type` as the file says it.
    pub architecture: String,
    /// The family whose tensor names and details apply.
    pub family: Family,
    /// What precedes `model.` and `lm_head.` in the names of its tensors.
    pub prefix: &'static str,
    /// Layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward network (of one expert, where there are experts).
    pub ffn: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Mixture of experts, where there is one.
    pub experts: Option<Experts>,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the output matrix is the embedding.
    pub tied_embeddings: bool,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Positions that the model was made for.
    pub max_positions: usize,
    /// How far attention reaches back in the layers where that is limited.
    pub sliding_window: Option<SlidingWindow>,
    /// Token ids that end an answer, where the config names them.
    pub stop_tokens: Vec<u32>,
}

/// Families with tensor names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama and Mistral.
    Llama,
    /// Mixtral.
    Mixtral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// The thinker of Qwen2.5-Omni: Qwen2's text model beside an audio and a vision tower.
    Qwen25Omni,
}

/// Attention that sees only so many of the latest positions (Longformer: Beltagy et al., 2020,
/// arXiv:2004.05150).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Positions that a token sees, its own among them.
    pub positions: usize,
    /// Which layers are limited so.
    pub layers: Vec<bool>,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// How many there are in each layer.
    pub count: usize,
    /// How many a token goes to.
    pub per_token: usize,
    /// Whether the weights of those chosen are scaled to a sum of 1 (`norm_topk_prob`), as
    /// Mixtral always has it.
    pub renormalised: bool,
}

/// Rotary position embedding (Su et al., 2021, arXiv:2104.09864).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How frequencies are changed for long contexts.
    pub scaling: Option<RopeScaling>,
}

/// `llama3` scaling of RoPE's frequencies (`modeling_rope_utils.py` of transformers,
/// `_compute_llama3_parameters`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeScaling {
    /// Low frequencies are divided by this.
    pub factor: f64,
    /// Wavelengths above `original_context / low_freq_factor` are low.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context / high_freq_factor` are left alone.
    pub high_freq_factor: f64,
    /// Positions before the context was stretched.
    pub original_context: f64,
}

/// Why a config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or not of the form expected.
    #[error("{0}")]
    Malformed(String),
    /// A sound config of something that this decoder does not do.
    #[error("{0}")]
    Unsupported(String),
}

/// The longest context that a model gets without being asked: long enough for any question, and
/// small beside the weights.
pub const DEFAULT_CONTEXT: u32 = 4096;

/// Largest value that a width in a config may have.
const MAX_WIDTH: usize = 1 << 24;

/// Largest number of layers, and of experts in all layers together: what follows from a config is a
/// list of tensors, and a config from outside must not make it longer than memory.
const MAX_LAYERS: usize = 4096;
const MAX_EXPERTS: usize = 1 << 17;

/// Names of the architectures that [`Config::from_json`] knows.
const KNOWN: &str = "llama, mistral, mixtral, qwen2, qwen2_5_omni, qwen2_5_omni_thinker";

#[derive(Deserialize)]
struct Raw {
    num_hidden_layers: Option<usize>,
    hidden_size: Option<usize>,
    num_attention_heads: Option<usize>,
    /// Written as null it means as many as there are query heads.
    #[serde(default, deserialize_with = "written")]
    num_key_value_heads: Option<Option<usize>>,
    partial_rotary_factor: Option<f64>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    num_local_experts: Option<usize>,
    num_experts_per_tok: Option<usize>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    max_position_embeddings: Option<usize>,
    /// Written as null it means that there is none, which is not the same as leaving it out.
    #[serde(default, deserialize_with = "written")]
    sliding_window: Option<Option<usize>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    eos_token_id: Option<Value>,
}

/// What transformers takes for keys that a config leaves out: the defaults of its config classes.
/// Sizes have none here, since no published config leaves them out.
struct Defaults {
    /// None for as many as there are query heads.
    kv_heads: Option<usize>,
    norm_eps: f64,
    theta: f64,
    positions: usize,
    window: Option<usize>,
    max_window_layers: usize,
    experts: usize,
    experts_per_token: usize,
}

impl Defaults {
    fn of(architecture: &str) -> Defaults {
        let llama = Defaults {
            kv_heads: None,
            norm_eps: 1e-6,
            theta: 10_000.0,
            positions: 2048,
            window: None,
            max_window_layers: 28,
            experts: 8,
            experts_per_token: 2,
        };
        let mistral =
            Defaults { kv_heads: Some(8), positions: 131_072, window: Some(4096), ..llama };
        match architecture {
            "mistral" => mistral,
            "mixtral" => Defaults { norm_eps: 1e-5, theta: 1e6, window: None, ..mistral },
            "qwen2" => {
                Defaults { kv_heads: Some(32), positions: 32_768, window: Some(4096), ..llama }
            }
            "qwen2_5_omni" | "qwen2_5_omni_thinker" => Defaults {
                kv_heads: Some(4),
                theta: 1e6,
                positions: 32_768,
                window: Some(32_768),
                ..llama
            },
            _ => llama,
        }
    }
}

#[derive(Deserialize)]
struct RawScaling {
    rope_type: Option<String>,
    /// The older name of `rope_type`; many files have both.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl Config {
    /// The longest text of a config, in bytes: those of the supported families have up to 13,000, and
    /// each byte may become a hundred in memory.
    pub const MAX_TEXT_BYTES: usize = 1 << 20;

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] names the key that is missing or out of bounds;
    /// [`ConfigError::Unsupported`] names the architecture or feature and what is supported.
    pub fn from_json(text: &str) -> Result<Config, ConfigError> {
        if text.len() > Config::MAX_TEXT_BYTES {
            return Err(ConfigError::Malformed(format!(
                "{} bytes, expected at most {}",
                text.len(),
                Config::MAX_TEXT_BYTES
            )));
        }
        let value: Value = serde_json::from_str(text)
            .map_err(|error| ConfigError::Malformed(format!("not JSON: {error}")))?;
        let architecture = value
            .get("model_type")
            .and_then(Value::as_str)
            .ok_or_else(|| ConfigError::Malformed("model_type is missing".into()))?
            .to_owned();
        refuse_quantized(&value)?;
        let inner = |path: &str| {
            let name = path[1..].replace('/', ".");
            value.pointer(path).ok_or_else(|| missing(&name))
        };
        let (family, text_config) = match architecture.as_str() {
            "llama" | "mistral" => (Family::Llama, &value),
            "mixtral" => (Family::Mixtral, &value),
            "qwen2" => (Family::Qwen2, &value),
            "qwen2_5_omni" => (Family::Qwen25Omni, inner("/thinker_config/text_config")?),
            "qwen2_5_omni_thinker" => (Family::Qwen25Omni, inner("/text_config")?),
            other => {
                return Err(ConfigError::Unsupported(format!(
                    "model_type \"{other}\" is not supported; supported are {KNOWN}"
                )));
            }
        };
        let raw: Raw = serde_json::from_value(text_config.clone())
            .map_err(|error| ConfigError::Malformed(error.to_string()))?;
        Config::from_raw(architecture, family, raw)
    }

    fn from_raw(architecture: String, family: Family, raw: Raw) -> Result<Config, ConfigError> {
        let hidden = size("hidden_size", raw.hidden_size)?;
        let heads = size("num_attention_heads", raw.num_attention_heads)?;
        let defaults = Defaults::of(&architecture);
        let kv_heads = match raw.num_key_value_heads.unwrap_or(defaults.kv_heads) {
            Some(n) => size("num_key_value_heads", Some(n))?,
            None => heads,
        };
        if !heads.is_multiple_of(kv_heads) {
            return Err(ConfigError::Malformed(format!(
                "num_key_value_heads is {kv_heads}, which does not divide num_attention_heads, \
                 {heads}"
            )));
        }
        let head_dim = match raw.head_dim {
            Some(n) => size("head_dim", Some(n))?,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(ConfigError::Malformed(format!(
                    "hidden_size {hidden} is not a multiple of num_attention_heads {heads}, and \
                     head_dim is missing"
                )));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(ConfigError::Malformed(format!("head_dim is {head_dim}, expected even")));
        }
        if let Some(act) = raw.hidden_act.as_deref().filter(|act| *act != "silu") {
            return Err(ConfigError::Unsupported(format!(
                "hidden_act \"{act}\" is not supported; supported is silu"
            )));
        }
        if let Some(part) = raw.partial_rotary_factor.filter(|part| *part != 1.0) {
            return Err(ConfigError::Unsupported(format!(
                "partial_rotary_factor {part} is not supported; supported is 1"
            )));
        }
        if family == Family::Llama
            && (raw.attention_bias == Some(true) || raw.mlp_bias == Some(true))
        {
            return Err(ConfigError::Unsupported(
                "attention_bias or mlp_bias of a llama model is not supported".into(),
            ));
        }
        let layers = at_most("num_hidden_layers", raw.num_hidden_layers, MAX_LAYERS)?;
        let experts = match family {
            Family::Mixtral => Some(experts(&raw, layers, &defaults)?),
            _ => None,
        };
        let qwen = matches!(family, Family::Qwen2 | Family::Qwen25Omni);
        let sliding_window = sliding_window(&architecture, qwen, &raw, &defaults, layers)?;
        let prefix = if architecture == "qwen2_5_omni" { "thinker." } else { "" };
        Ok(Config {
            layers,
            hidden,
            heads,
            kv_heads,
            head_dim,
            ffn: size("intermediate_size", raw.intermediate_size)?,
            vocab: size("vocab_size", raw.vocab_size)?,
            experts,
            qkv_bias: qwen,
            tied_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            norm_eps: positive("rms_norm_eps", raw.rms_norm_eps.unwrap_or(defaults.norm_eps))?,
            rope: rope(&raw, &defaults)?,
            max_positions: size(
                "max_position_embeddings",
                Some(raw.max_position_embeddings.unwrap_or(defaults.positions)),
            )?,
            sliding_window,
            stop_tokens: token_ids(raw.eos_token_id.as_ref())?,
            architecture,
            family,
            prefix,
        })
    }

    /// Positions of the KV cache where none are asked for: what the model was made for, at
    /// most [`DEFAULT_CONTEXT`].
    pub fn default_context(&self) -> u32 {
        u32::try_from(self.max_positions).unwrap_or(u32::MAX).min(DEFAULT_CONTEXT)
    }

    /// How many positions a token of that layer sees, where that is limited.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.sliding_window.as_ref()?;
        window.layers.get(layer).copied().unwrap_or(false).then_some(window.positions)
    }
}

/// The value of a key that is there, which may be null.
fn written<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn refuse_quantized(config: &Value) -> Result<(), ConfigError> {
    let Some(quantization) = config.get("quantization_config").filter(|value| !value.is_null())
    else {
        return Ok(());
    };
    let method = quantization.get("quant_method").and_then(Value::as_str).unwrap_or("unknown");
    Err(ConfigError::Unsupported(format!(
        "quantization_config: the checkpoint is already quantized (quant_method \"{method}\"); \
         expected one in bf16, f16 or f32, which is quantized while loading, or a GGUF file"
    )))
}

fn missing(key: &str) -> ConfigError {
    ConfigError::Malformed(format!("{key} is missing"))
}

fn size(key: &str, value: Option<usize>) -> Result<usize, ConfigError> {
    at_most(key, value, MAX_WIDTH)
}

fn at_most(key: &str, value: Option<usize>, most: usize) -> Result<usize, ConfigError> {
    let value = value.ok_or_else(|| missing(key))?;
    if value == 0 || value > most {
        return Err(ConfigError::Malformed(format!("{key} is {value}, expected 1 to {most}")));
    }
    Ok(value)
}

fn positive(key: &str, value: f64) -> Result<f64, ConfigError> {
    if value.is_finite() && value > 0.0 {
        Ok(value)
    } else {
        Err(ConfigError::Malformed(format!("{key} is {value}, expected a positive number")))
    }
}

/// Whether, how far and where attention is limited: transformers' Llama ignores the keys, its
/// Mistral and Mixtral limit all layers, its Qwen2 those that `layer_types` names, or else those
/// from `max_window_layers` on.
fn sliding_window(
    architecture: &str,
    qwen: bool,
    raw: &Raw,
    defaults: &Defaults,
    layers: usize,
) -> Result<Option<SlidingWindow>, ConfigError> {
    let positions = match &raw.sliding_window {
        Some(written) => *written,
        None => defaults.window,
    };
    let off = architecture == "llama" || (qwen && raw.use_sliding_window != Some(true));
    let Some(positions) = positions.filter(|_| !off) else { return Ok(None) };
    let limited = match (&raw.layer_types, qwen) {
        (Some(types), true) if types.len() == layers => {
            types.iter().map(|kind| kind == "sliding_attention").collect()
        }
        (Some(types), true) => {
            return Err(ConfigError::Malformed(format!(
                "layer_types has {} entries, expected num_hidden_layers, {layers}",
                types.len()
            )));
        }
        (None, true) => {
            let first = raw.max_window_layers.unwrap_or(defaults.max_window_layers);
            (0..layers).map(|layer| layer >= first).collect()
        }
        (_, false) => vec![true; layers],
    };
    let positions = size("sliding_window", Some(positions))?;
    Ok(Some(SlidingWindow { positions, layers: limited }))
}

fn experts(raw: &Raw, layers: usize, defaults: &Defaults) -> Result<Experts, ConfigError> {
    let count = raw.num_local_experts.unwrap_or(defaults.experts);
    let count = at_most("num_local_experts", Some(count), MAX_EXPERTS / layers)?;
    let per_token = raw.num_experts_per_tok.unwrap_or(defaults.experts_per_token);
    let per_token = size("num_experts_per_tok", Some(per_token))?;
    if per_token > count {
        return Err(ConfigError::Malformed(format!(
            "num_experts_per_tok is {per_token}, more than num_local_experts, {count}"
        )));
    }
    Ok(Experts { count, per_token, renormalised: true })
}

fn rope(raw: &Raw, defaults: &Defaults) -> Result<Rope, ConfigError> {
    let parameters = raw
        .rope_parameters
        .as_ref()
        .or(raw.rope_scaling.as_ref())
        .filter(|value| !value.is_null())
        .map(|value| RawScaling::deserialize(value.clone()))
        .transpose()
        .map_err(|error| ConfigError::Malformed(format!("rope_scaling: {error}")))?;
    let theta = parameters.as_ref().and_then(|p| p.rope_theta).or(raw.rope_theta);
    let theta = theta.unwrap_or(defaults.theta);
    let scaling = match &parameters {
        Some(p) => scaling(p)?,
        None => None,
    };
    Ok(Rope { theta: positive("rope_theta", theta)?, scaling })
}

fn scaling(raw: &RawScaling) -> Result<Option<RopeScaling>, ConfigError> {
    let get = |key: &str, value: Option<f64>| {
        positive(key, value.ok_or_else(|| missing(&format!("rope_scaling.{key}")))?)
    };
    match raw.rope_type.as_deref().or(raw.r#type.as_deref()) {
        None if raw.factor.is_some() => Err(ConfigError::Malformed(
            "rope_scaling has a factor and no rope_type, expected both or neither".into(),
        )),
        // mrope's three axes agree where there is only text: then it is ordinary RoPE.
        None | Some("default" | "mrope") => Ok(None),
        Some("llama3") => Ok(Some(RopeScaling {
            factor: get("factor", raw.factor)?,
            low_freq_factor: get("low_freq_factor", raw.low_freq_factor)?,
            high_freq_factor: get("high_freq_factor", raw.high_freq_factor)?,
            original_context: get(
                "original_max_position_embeddings",
                raw.original_max_position_embeddings,
            )?,
        })),
        Some(other) => Err(ConfigError::Unsupported(format!(
            "rope_scaling of type \"{other}\" is not supported; supported are default, llama3, \
             mrope"
        ))),
    }
}

/// Token ids from a number, a list of numbers, or nothing.
fn token_ids(value: Option<&Value>) -> Result<Vec<u32>, ConfigError> {
    let id = |value: &Value| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            ConfigError::Malformed(format!(
                "eos_token_id: {value} is not a token \
                                                           ID"
            ))
        })
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
