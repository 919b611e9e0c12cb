//! The interface of a weight file format.

use super::embedded_text::EmbeddedText;
use super::source::Source;
use crate::failures;
use crate::weights::RopeLayout;
use modelgate_model::{Config, TensorShape};
use modelgate_protocol::{DType, Failure, FailureKind, ModelFiles, Scheme};

/// A weight file format: how files are opened, and how their tensors are loaded.
pub(crate) trait Format: Sync {
    /// Opens the weight files of a model, and reads their headers and the config. `scheme` and
    /// `on_device` decide the types of tensors in formats whose weights are generated during
    /// loading.
    ///
    /// # Errors
    /// A file is missing, cannot be read, is invalid or is not supported.
    fn open(
        &self,
        files: &ModelFiles,
        scheme: Scheme,
        on_device: bool,
    ) -> Result<OpenedModel, Failure>;

    /// Returns how loading converts weights.
    fn conversion(&self) -> Conversion;

    /// Returns the name and shape of the tensor in the files that contains the tensor `needed` of
    /// the architecture. The stored tensor may be `needed` alone, or the merged tensor of all
    /// experts of its layer.
    fn stored_tensor(
        &self,
        _source: &Source,
        _config: &Config,
        needed: &TensorShape,
    ) -> TensorShape {
        needed.clone()
    }

    /// Returns the tensors that are loaded in addition to those of the architecture.
    fn additional_tensors(&self, _source: &Source, _config: &Config) -> Vec<TensorShape> {
        Vec::new()
    }

    /// Refuses a scheme in which weights of this format cannot be loaded.
    ///
    /// # Errors
    /// The scheme is a mix of quantizations of llama.cpp, which is supported only in GGUF files.
    fn refuse_scheme(&self, scheme: Scheme) -> Result<(), Failure> {
        if scheme.is_gguf_only() { Err(gguf_only_scheme_failure(scheme)) } else { Ok(()) }
    }

    /// Returns the block types that resident weights can have if `scheme` is requested.
    fn block_types(&self, scheme: Scheme) -> Vec<DType> {
        scheme.dtype().into_iter().collect()
    }

    /// Returns the tokenizer and the chat template in the weight files; `None` if the format does
    /// not contain them.
    ///
    /// # Errors
    /// A file is missing, cannot be read or is invalid.
    fn embedded_text(&self, _files: &ModelFiles) -> Result<Option<Box<dyn EmbeddedText>>, Failure> {
        Ok(None)
    }
}

/// The conversion of weights during loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Float tensors are quantized to the types of the requested scheme.
    Quantize,
    /// No tensor is quantized; the types in the files are kept.
    Keep,
    /// Random weights are generated instead of read.
    Random,
}

/// A model whose weight files are open, before any weight is read.
pub(crate) struct OpenedModel {
    /// The open files, and the places of their tensors.
    pub(crate) source: Source,
    /// The config of the model, from the weight files or from `config.json`.
    pub(crate) config: Config,
    /// The config as the text of a `config.json`; `None` if the model has its own `config.json`.
    pub(crate) config_json: Option<String>,
    /// The name of the architecture in reports, for example `llama`.
    pub(crate) architecture: String,
    /// The order of the rows in the matrices of queries and keys.
    pub(crate) rope_layout: RopeLayout,
    /// The tokenizer and the chat template in the files; `None` if the files do not contain them.
    pub(crate) embedded_text: Option<Box<dyn EmbeddedText>>,
}

impl OpenedModel {
    /// Returns a model that a Hugging Face `config.json` describes, with its tensors in `source`.
    pub(super) fn from_config(config: Config, source: Source) -> OpenedModel {
        OpenedModel {
            source,
            architecture: config.architecture.clone(),
            config,
            config_json: None,
            rope_layout: RopeLayout::Halves,
            embedded_text: None,
        }
    }
}

/// Refuses a model that has neither weight files nor an index of them.
///
/// # Errors
/// There is no weight file.
pub(super) fn refuse_without_weights(files: &ModelFiles) -> Result<(), Failure> {
    if files.weights.is_empty() && files.index.is_none() {
        return Err(failures::load(
            FailureKind::NotFound,
            format!("{}: no weight file was found", files.root.display()),
            "check the path of the model; or download the model again",
        ));
    }
    Ok(())
}

/// Returns the failure for a scheme that exists only in GGUF files. The hint suggests the uniform
/// scheme of the same type, or `q4_k` if there is none.
fn gguf_only_scheme_failure(scheme: Scheme) -> Failure {
    let dtype = scheme.dtype().map_or("none".to_owned(), |dtype| dtype.to_string());
    let suggestion = match Scheme::from_name(&dtype) {
        Some(uniform) if !uniform.is_gguf_only() => uniform,
        _ => Scheme::Q4K,
    };
    failures::load(
        FailureKind::Unsupported,
        format!(
            "quantization \"{scheme}\": supported for GGUF files only, found safetensors files"
        ),
        format!("set quantization = \"{suggestion}\"; or set path to a GGUF file"),
    )
}
