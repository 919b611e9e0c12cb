//! The part of a Hugging Face `config.json` that a decoder of the Llama family needs.
//!
//! Source: `configuration_llama.py`, `configuration_mistral.py`, `configuration_mixtral.py`,
//! `configuration_qwen2.py`, `configuration_qwen2_5_omni.py` of transformers. The keys of both
//! versions are supported: 4 (`rope_theta`, `rope_scaling`) and 5 (`rope_parameters`).

use crate::python_json;
use crate::token_ids::token_ids;
use serde::Deserialize;
use serde_json::Value;

/// The configuration of a decoder of the Llama family. All sizes are numbers of elements.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The `model_type` in the file.
    pub architecture: String,
    /// The family, which decides tensor names and details.
    pub family: Family,
    /// The prefix of `model.` and `lm_head.` in the names of the tensors.
    pub prefix: &'static str,
    /// The number of layers.
    pub layers: usize,
    /// The width of the residual stream.
    pub hidden: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// The width of one head.
    pub head_dim: usize,
    /// The width of the feed-forward network, or of one expert if the model has experts.
    pub ffn: usize,
    /// The number of rows of the embedding.
    pub vocab: usize,
    /// The mixture of experts. `None` for a dense model.
    pub experts: Option<Experts>,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Whether the output matrix is the embedding.
    pub tied_embeddings: bool,
    /// The epsilon of the RMS norms.
    pub norm_eps: f64,
    /// The rotary position embedding.
    pub rope: Rope,
    /// The number of positions for which the model was trained.
    pub max_positions: usize,
    /// The number of positions that attention can see, and the layers with this limit. `None` if no
    /// layer is limited.
    pub sliding_window: Option<SlidingWindow>,
    /// The token ids that end an answer. Empty if the config contains none.
    pub stop_tokens: Vec<u32>,
}

/// A family of models with its own tensor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama and Mistral.
    Llama,
    /// Mixtral.
    Mixtral,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// The thinker of Qwen2.5-Omni: the text model of Qwen2 with an audio and a vision tower.
    Qwen25Omni,
}

/// Attention that is limited to the latest positions (Longformer: Beltagy et al., 2020,
/// arXiv:2004.05150).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// The number of visible positions, including that of the token itself.
    pub positions: usize,
    /// Whether each layer is limited.
    pub layers: Vec<bool>,
}

/// A mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Experts {
    /// The number of experts in each layer.
    pub count: usize,
    /// The number of experts for each token.
    pub per_token: usize,
    /// Whether the weights of the selected experts are scaled to a sum of 1 (`norm_topk_prob`), as
    /// in Mixtral.
    pub renormalized: bool,
}

/// Rotary position embedding (Su et al., 2021, arXiv:2104.09864).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// The change of the frequencies for long contexts. `None` if they are not changed.
    pub scaling: Option<RopeScaling>,
}

/// The `llama3` scaling of RoPE frequencies (`modeling_rope_utils.py` of transformers,
/// `_compute_llama3_parameters`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeScaling {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// Wavelengths above `original_context / low_freq_factor` are low.
    pub low_freq_factor: f64,
    /// Wavelengths below `original_context / high_freq_factor` are not changed.
    pub high_freq_factor: f64,
    /// The number of positions before the extension of the context.
    pub original_context: f64,
}

/// Why a config cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not JSON, or a key is missing or invalid.
    #[error("{0}")]
    Malformed(String),
    /// A valid config with a feature that this decoder does not support.
    #[error("{0}")]
    Unsupported(String),
}

/// The maximum of [`Config::default_context`], in positions: sufficient for questions, with a KV
/// cache that is small compared with the weights.
pub const DEFAULT_CONTEXT: u32 = 4096;

/// The maximum of a width in a config, in elements.
const MAX_WIDTH: usize = 1 << 24;

/// The maximum number of layers, and of experts in all layers together. They bound the memory of
/// the list of tensors, because a config may come from an untrusted source.
const MAX_LAYERS: usize = 4096;
const MAX_EXPERTS: usize = 1 << 17;

/// The architectures that [`Config::from_json`] supports.
const KNOWN: &str = "llama, mistral, mixtral, qwen2, qwen2_5_omni, qwen2_5_omni_thinker";

#[derive(Deserialize)]
struct Raw {
    num_hidden_layers: Option<usize>,
    hidden_size: Option<usize>,
    num_attention_heads: Option<usize>,
    /// The number of KV heads. Null means the number of query heads.
    #[serde(default, deserialize_with = "present_or_null")]
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
    /// The window of attention. Null disables it; a missing key selects the default of the family.
    #[serde(default, deserialize_with = "present_or_null")]
    sliding_window: Option<Option<usize>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    eos_token_id: Option<Value>,
}

/// The values that transformers uses for missing keys: the defaults of its config classes. Sizes
/// have no default here, because all published configs contain them.
struct Defaults {
    /// The number of KV heads. `None` if it is the number of query heads.
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
    /// The older name of `rope_type`; many files contain both.
    r#type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

impl Config {
    /// The maximum length of a config in bytes. Configs of the supported families have up to 13,000
    /// bytes, and each byte may need a hundred bytes of memory.
    pub const MAX_TEXT_BYTES: usize = 1 << 20;

    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`] names the key that is missing or out of bounds;
    /// [`ConfigError::Unsupported`] names the architecture or feature, and what is supported.
    pub fn from_json(text: &str) -> Result<Config, ConfigError> {
        if text.len() > Config::MAX_TEXT_BYTES {
            return Err(ConfigError::Malformed(format!(
                "{} bytes, expected at most {}",
                text.len(),
                Config::MAX_TEXT_BYTES
            )));
        }
        let value: Value = python_json::parse(text.as_bytes())
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
                    "model_type \"{other}\" is not supported: expected one of {KNOWN}"
                )));
            }
        };
        let mut raw: Raw = serde_json::from_value(text_config.clone())
            .map_err(|error| ConfigError::Malformed(error.to_string()))?;
        if family == Family::Qwen25Omni {
            // transformers reads this key from the config of the thinker, and not from that of its
            // text model, in which transformers 5 writes another value
            let thinker = value.get("thinker_config").unwrap_or(&value);
            raw.tie_word_embeddings =
                Option::deserialize(thinker.get("tie_word_embeddings").unwrap_or(&Value::Null))
                    .map_err(|error| {
                        ConfigError::Malformed(format!("tie_word_embeddings: {error}"))
                    })?;
        }
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
            stop_tokens: token_ids("eos_token_id", raw.eos_token_id.as_ref())
                .map_err(ConfigError::Malformed)?,
            architecture,
            family,
            prefix,
        })
    }

    /// Returns the default number of positions of the KV cache: that of the model, at most
    /// [`DEFAULT_CONTEXT`].
    pub fn default_context(&self) -> u32 {
        u32::try_from(self.max_positions).unwrap_or(u32::MAX).min(DEFAULT_CONTEXT)
    }

    /// Returns the number of positions that a token of this layer can see. `None` without a limit.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.sliding_window.as_ref()?;
        window.layers.get(layer).copied().unwrap_or(false).then_some(window.positions)
    }
}

/// Reads the value of a key that is present: `Some(None)` for null.
fn present_or_null<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn refuse_quantized(config: &Value) -> Result<(), ConfigError> {
    let Some(quantization) = config.get("quantization_config").filter(|value| !value.is_null())
    else {
        return Ok(());
    };
    let number = |key| quantization.get(key).and_then(Value::as_u64);
    let method = match quantization.get("quant_method").and_then(Value::as_str) {
        Some(method) => format!("quant_method \"{method}\""),
        // MLX writes its parameters without a method
        None => match (number("bits"), number("group_size")) {
            (Some(bits), Some(group)) => format!("by MLX, {bits} bits in groups of {group}"),
            _ => "quant_method is missing".to_owned(),
        },
    };
    Err(ConfigError::Unsupported(format!(
        "quantization_config: the checkpoint is already quantized ({method}); \
         expected one in bf16, f16 or f32, which is quantized while loading, or a GGUF file"
    )))
}

fn missing(key: &str) -> ConfigError {
    ConfigError::Malformed(format!("{key} is missing"))
}

fn size(key: &str, value: Option<usize>) -> Result<usize, ConfigError> {
    at_most(key, value, MAX_WIDTH)
}

fn at_most(key: &str, value: Option<usize>, max: usize) -> Result<usize, ConfigError> {
    let value = value.ok_or_else(|| missing(key))?;
    if value == 0 || value > max {
        return Err(ConfigError::Malformed(format!("{key} is {value}, expected 1 to {max}")));
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

/// Returns the limit of attention. In transformers, Llama ignores the keys, Mistral and Mixtral
/// limit all layers, and Qwen2 limits the layers in `layer_types`, otherwise those from
/// `max_window_layers` on.
fn sliding_window(
    architecture: &str,
    qwen: bool,
    raw: &Raw,
    defaults: &Defaults,
    layers: usize,
) -> Result<Option<SlidingWindow>, ConfigError> {
    let positions = match &raw.sliding_window {
        Some(value) => *value,
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
    Ok(Experts { count, per_token, renormalized: true })
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
        // for text, the three axes of mrope are equal, which is ordinary RoPE
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
            "rope_scaling of type \"{other}\" is not supported: expected one of default, llama3, \
             mrope"
        ))),
    }
}
