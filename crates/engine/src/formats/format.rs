//! What the engine asks of a format of weight files.

use super::embedded_text::EmbeddedText;
use super::source::Source;
use crate::failures;
use crate::weights::RopeLayout;
use modelgate_model::{Config, TensorShape};
use modelgate_protocol::{DType, Failure, FailureKind, ModelFiles, Scheme};

/// A format of weight files.
pub(crate) trait Format: Sync {
    /// Opens the weight files of a model, and reads what they and its config say of it. `scheme` and
    /// `on_device` are for formats whose weights are made when they are loaded.
    ///
    /// # Errors
    /// What is wrong with which file.
    fn open(&self, files: &ModelFiles, scheme: Scheme, on_device: bool) -> Result<Opened, Failure>;

    /// Returns how loading converts weights.
    fn conversion(&self) -> Conversion;

    /// Returns the name and shape of the tensor in the files that holds a tensor of the
    /// architecture, by itself or merged with those of the other experts of its layer.
    fn stored(&self, _source: &Source, _config: &Config, needed: &TensorShape) -> TensorShape {
        needed.clone()
    }

    /// Returns tensors that the files hold beyond those of the architecture, and that are loaded too.
    fn additional(&self, _source: &Source, _config: &Config) -> Vec<TensorShape> {
        Vec::new()
    }

    /// Refuses a scheme in which weights of this format cannot be loaded.
    ///
    /// # Errors
    /// The scheme is one of llama.cpp's mixes, which only GGUF files have.
    fn refuse_scheme(&self, scheme: Scheme) -> Result<(), Failure> {
        if scheme.is_gguf_only() { Err(mix_of_safetensors(scheme)) } else { Ok(()) }
    }

    /// Returns the block types that resident weights may have if `scheme` is requested.
    fn block_types(&self, scheme: Scheme) -> Vec<DType> {
        scheme.dtype().into_iter().collect()
    }

    /// Returns the tokenizer and the chat template that the weight files hold themselves; `None` for
    /// formats that hold none.
    ///
    /// # Errors
    /// What is wrong with which file.
    fn embedded_text(&self, _files: &ModelFiles) -> Result<Option<Box<dyn EmbeddedText>>, Failure> {
        Ok(None)
    }
}

/// How loading converts weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Quantizes floats as the scheme says.
    Quantize,
    /// Quantizes nothing: the files hold the types that the scheme says.
    Keep,
    /// Makes random weights instead of reading them.
    Make,
}

/// What weight files say of the model before any weight is read.
pub(crate) struct Opened {
    /// The files and their tensors.
    pub(crate) source: Source,
    /// The model's config.
    pub(crate) config: Config,
    /// The config as a `config.json`, if the files have none.
    pub(crate) config_json: Option<String>,
    /// The architecture's name in reports.
    pub(crate) architecture: String,
    /// The order of the rows of q and k.
    pub(crate) rope_layout: RopeLayout,
    /// The tokenizer and the chat template that the files hold themselves.
    pub(crate) embedded_text: Option<Box<dyn EmbeddedText>>,
}

impl Opened {
    /// Returns what is known of a model that a `config.json` of Hugging Face's describes, with its
    /// tensors in `source`.
    pub(super) fn described_by_config(config: Config, source: Source) -> Opened {
        Opened {
            source,
            architecture: config.architecture.clone(),
            config,
            config_json: None,
            rope_layout: RopeLayout::Halves,
            embedded_text: None,
        }
    }
}

/// Refuses a model without a weight file.
pub(super) fn refuse_without_weights(files: &ModelFiles) -> Result<(), Failure> {
    if files.weights.is_empty() && files.index.is_none() {
        return Err(failures::load(
            FailureKind::NotFound,
            format!("{} has no weight file", files.root.display()),
            "check the path of the model, or download it again",
        ));
    }
    Ok(())
}

fn mix_of_safetensors(scheme: Scheme) -> Failure {
    let instead = scheme.dtype().map_or("none".to_owned(), |dtype| dtype.to_string());
    let instead = match Scheme::from_name(&instead) {
        Some(uniform) if !uniform.is_gguf_only() => uniform,
        _ => Scheme::Q4K,
    };
    failures::load(
        FailureKind::Unsupported,
        format!(
            "{scheme} is a quantization of GGUF files, and these weights are safetensors \
                 files"
        ),
        format!("set quantization = \"{instead}\", or set path to a GGUF file"),
    )
}
