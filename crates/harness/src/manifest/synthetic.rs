//! Random weights: the models that have them, and the synthetic variants that need only a config.

use super::model::{Expect, Model, SYNTHETIC_VARIANT, Source, WeightOrigin};
use super::read::{RawModel, Spanned};
use super::resolver::{MAX_ID_BYTES, Resolver, Result};
use crate::embedded::known;
use modelgate_hub::nearest;
use modelgate_protocol::Scheme;
use std::ops::Range;

impl Resolver<'_> {
    /// Returns the origin of the weights of an entry.
    pub(super) fn weights(&self, raw: &RawModel) -> Result<WeightOrigin> {
        let Some(evidence) = &raw.evidence else { return Ok(WeightOrigin::Files) };
        match evidence.get_ref().as_str() {
            "real" => return Ok(WeightOrigin::Files),
            "synthetic" => {}
            other => {
                let hint = match nearest(other, ["real", "synthetic"]) {
                    Some(nearest) => format!("use \"{nearest}\", which is the nearest value"),
                    None => "remove the key for trained weights".to_owned(),
                };
                return self.error(
                    evidence.span(),
                    format!("evidence is \"{other}\", expected \"real\" or \"synthetic\""),
                    hint,
                );
            }
        }
        if raw.repo.is_some() {
            return self.error(
                evidence.span(),
                "evidence = \"synthetic\" is valid only with path, not with repo: it means that \
                 local files contain random weights",
                "set synthetic = true to plan a variant of the model that needs no files",
            );
        }
        self.refuse_answer_expectations(raw)?;
        Ok(WeightOrigin::RandomFiles)
    }

    /// Refuses expectations about answers, because answers of random weights are not judged.
    fn refuse_answer_expectations(&self, raw: &RawModel) -> Result<()> {
        let perplexity = raw.expect.perplexity.as_ref();
        let answer_keys = [
            ("generation", raw.generation.as_ref().map(Spanned::span)),
            ("expect.perplexity", perplexity.map(Spanned::span)),
        ];
        match answer_keys.into_iter().find_map(|(key, span)| Some((key, span?))) {
            None => Ok(()),
            Some((key, span)) => self.error(
                span,
                format!(
                    "{key} of a model of random weights is not allowed: its answers are not judged"
                ),
                "remove the key: a synthetic model always continues a built-in list of token IDs",
            ),
        }
    }

    /// Returns the variant of `model` whose weights are made in place. `span` is the position of
    /// the key that requests it.
    pub(super) fn variant(&self, model: &Model, span: Range<usize>) -> Result<Model> {
        self.require_shapes(model, span.clone())?;
        if model.quantization.is_gguf_only() {
            return self.error(
                span,
                format!(
                    "synthetic weights cannot be in {}, which only GGUF files have",
                    model.quantization
                ),
                format!(
                    "set quantization = \"{}\", which is the most similar",
                    nearest_uniform_scheme(model.quantization)
                ),
            );
        }
        let id = format!("{}{SYNTHETIC_VARIANT}", model.id);
        if id.len() > MAX_ID_BYTES {
            return self.error(
                span,
                format!("the id \"{id}\" of the variant is longer than {MAX_ID_BYTES} characters"),
                "shorten the id of the model",
            );
        }
        Ok(Model {
            id,
            weights: WeightOrigin::InPlace,
            tokenizer: None,
            generations: Vec::new(),
            expect: Expect { memory: model.expect.memory, ..Expect::default() },
            ..model.clone()
        })
    }

    /// Refuses a model whose shapes are unknown without its weights.
    fn require_shapes(&self, model: &Model, span: Range<usize>) -> Result<()> {
        match &model.source {
            Source::Hub { repo, .. } if known::text(repo).is_none() => {
                let names = known::repositories().collect::<Vec<_>>().join(", ");
                self.error(
                    span,
                    format!("the shapes of {repo} are not built in: expected one of {names}"),
                    "set `path` to a folder with the config.json of the model, instead of `repo`",
                )
            }
            source if source.is_gguf_file() => self.error(
                span,
                "a synthetic variant needs a config.json, and a GGUF file has none",
                "set `path` to a folder with the config.json of the model; or, if the file itself \
                 contains random weights, set evidence = \"synthetic\"",
            ),
            _ => Ok(()),
        }
    }
}

/// Returns the smallest scheme for weights made in place with at least as many bits as most
/// matrices of `scheme`.
fn nearest_uniform_scheme(scheme: Scheme) -> Scheme {
    let bits = |scheme: Scheme| {
        let (elements, bytes) = scheme.dtype()?.block()?;
        Some(bytes * 8 * 256 / elements)
    };
    let has_enough_bits = |candidate: &Scheme| bits(*candidate) >= bits(scheme);
    // of two schemes with equal bits, the k-quant has the smaller error, and comes later
    let quantized =
        Scheme::UNIFORM.into_iter().rev().filter(|candidate| bits(*candidate).is_some());
    quantized
        .filter(has_enough_bits)
        .min_by_key(|candidate| bits(*candidate))
        .unwrap_or(Scheme::Q8_0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gguf_only_scheme_has_a_nearest_uniform_scheme() {
        for (gguf_only, uniform) in [
            (Scheme::Q4KM, Scheme::Q4K),
            (Scheme::Q2K, Scheme::Q4K),
            (Scheme::Q4_1, Scheme::Q5K),
            (Scheme::Q5_1, Scheme::Q6K),
        ] {
            assert_eq!(nearest_uniform_scheme(gguf_only), uniform);
        }
    }
}
