//! The implementation of [`Format`] for GGUF files.

use super::files::Gguf;
use super::vocabulary::GgufVocabulary;
use crate::formats::embedded_text::EmbeddedText;
use crate::formats::format::{Conversion, Format, OpenedModel, refuse_without_weights};
use crate::formats::source::Source;
use modelgate_model::{Config, Family, TensorShape, gguf_name};
use modelgate_protocol::{DType, Failure, ModelFiles, Scheme};

/// The name of the tensor that contains factors on the RoPE frequencies, which some GGUF files
/// have.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The format of GGUF files.
pub(in crate::formats) struct GgufFormat;

impl Format for GgufFormat {
    fn open(&self, files: &ModelFiles, _: Scheme, _: bool) -> Result<OpenedModel, Failure> {
        refuse_without_weights(files)?;
        let gguf = Gguf::open(&files.root, &files.weights)?;
        Ok(OpenedModel {
            source: gguf.source,
            config: gguf.config,
            config_json: Some(gguf.config_json),
            architecture: gguf.architecture.name().to_owned(),
            rope_layout: gguf.architecture.rope_layout(),
            embedded_text: Some(Box::new(GgufVocabulary::new(gguf.metadata))),
        })
    }

    fn conversion(&self) -> Conversion {
        Conversion::Keep
    }

    fn stored_tensor(&self, source: &Source, config: &Config, needed: &TensorShape) -> TensorShape {
        let Some(gguf) = gguf_name(&needed.name) else { return needed.clone() };
        match (gguf.merged, config.experts) {
            (Some(merged), Some(experts)) if source.tensors.contains_key(&merged) => {
                let shape = [&[experts.count], needed.shape.as_slice()].concat();
                TensorShape { name: merged, shape }
            }
            _ => TensorShape { name: gguf.name, shape: needed.shape.clone() },
        }
    }

    fn additional_tensors(&self, source: &Source, config: &Config) -> Vec<TensorShape> {
        // llama.cpp writes this tensor only for these families
        let has_factors = matches!(config.family, Family::Llama | Family::Mixtral);
        if has_factors && source.tensors.contains_key(ROPE_FACTORS) {
            let shape = vec![config.head_dim / 2];
            return vec![TensorShape { name: ROPE_FACTORS.into(), shape }];
        }
        Vec::new()
    }

    fn refuse_scheme(&self, _: Scheme) -> Result<(), Failure> {
        Ok(())
    }

    fn block_types(&self, _: Scheme) -> Vec<DType> {
        Scheme::all().filter_map(Scheme::dtype).collect()
    }

    fn embedded_text(&self, files: &ModelFiles) -> Result<Option<Box<dyn EmbeddedText>>, Failure> {
        let gguf = Gguf::open(&files.root, &files.weights)?;
        Ok(Some(Box::new(GgufVocabulary::new(gguf.metadata))))
    }
}
