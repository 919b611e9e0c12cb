//! The request for a synthetic model: to continue a run of token ids that is always the same.
//!
//! A synthetic model has no tokenizer, and random weights cannot answer questions.

use modelgate_model::{Config, DEFAULT_CONTEXT};
use modelgate_protocol::GenerationRequest;
use serde::{Deserialize, Serialize};

/// The number of tokens in the prompt: the usual length for the speed of a prefill.
const PROMPT_TOKENS: u32 = 512;
/// The number of tokens to generate.
const ANSWER_TOKENS: u32 = 64;
/// The upper bound of token ids for a GGUF file: the worker reads the size of its vocabulary only
/// after the request, and each vocabulary contains at least the 256 bytes.
const MIN_VOCABULARY: u32 = 256;

/// The fixed request of one synthetic model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedRun {
    /// The number of positions of the KV cache. `None` for the default of the model.
    pub context: Option<u32>,
    /// Whether the model has a config file, which is known before the request.
    pub has_config: bool,
}

impl FixedRun {
    /// Returns the request, shortened so that prompt and answer fit into the context. `config` is
    /// the config of the model, if it is known.
    pub fn request(self, config: Option<&Config>) -> GenerationRequest {
        let config = config.filter(|_| self.has_config);
        let default_context = config.map_or(DEFAULT_CONTEXT, Config::default_context);
        let context = self.context.unwrap_or(default_context);
        let vocabulary = config.map_or(MIN_VOCABULARY, |config| {
            u32::try_from(config.vocab).unwrap_or(u32::MAX).max(1)
        });
        let max_tokens = ANSWER_TOKENS.min(context / 2).max(1);
        let prompt = PROMPT_TOKENS.min(context.saturating_sub(max_tokens)).max(1);
        GenerationRequest {
            name: "fixed".into(),
            messages: Vec::new(),
            tokens: (1..=u64::from(prompt)).map(|n| pseudo_random_id(n, vocabulary)).collect(),
            max_tokens,
        }
    }
}

/// Returns the `n`th id of a sequence without short periods (SplitMix64).
fn pseudo_random_id(n: u64, vocabulary: u32) -> u32 {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // the high half of the product of the high 32 bits is below the size of the vocabulary
    ((((x ^ (x >> 31)) >> 32) * u64::from(vocabulary)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let config = crate::embedded::known::config("Qwen/Qwen2.5-Omni-7B");
        config.expect("embedded").expect("a valid config")
    }

    #[test]
    fn the_request_is_constant_and_within_the_vocabulary() {
        let config = config();
        let request = FixedRun { context: None, has_config: true }.request(Some(&config));
        assert_eq!((request.tokens.len(), request.max_tokens), (512, 64));
        assert_eq!(request.tokens[..3], [134_319, 65_619, 4_019]);
        assert!(request.tokens.iter().all(|id| (*id as usize) < config.vocab));
        let distinct: std::collections::HashSet<_> = request.tokens.iter().collect();
        assert!(distinct.len() > 500, "{}", distinct.len());
    }

    #[test]
    fn the_request_fits_into_the_context() {
        for (context, prompt, answer) in [(576, 512, 64), (575, 511, 64), (100, 50, 50), (2, 1, 1)]
        {
            let request = FixedRun { context: Some(context), has_config: true }.request(None);
            assert_eq!((request.tokens.len(), request.max_tokens), (prompt, answer), "{context}");
        }
    }

    #[test]
    fn the_request_for_a_gguf_file_does_not_depend_on_the_config_of_the_worker() {
        let fixed_run = FixedRun { context: None, has_config: false };
        let request = fixed_run.request(None);
        assert!(request.tokens.iter().all(|id| *id < MIN_VOCABULARY));
        assert_eq!(fixed_run.request(Some(&config())), request);
    }
    #[test]
    fn the_ids_depend_on_the_size_of_the_vocabulary() {
        for (vocabulary, first) in [(0, 0), (1, 0), (2, 1), (256, 226), (u32::MAX, 3_793_791_032)] {
            let id = pseudo_random_id(1, vocabulary);
            assert!(id < vocabulary.max(1));
            assert_eq!(id, first, "{vocabulary}");
        }
    }

    #[test]
    fn the_context_is_that_of_the_manifest_or_of_the_model() {
        let length = |context, config: Option<&Config>| {
            let request = FixedRun { context, has_config: config.is_some() }.request(config);
            (request.tokens.len(), request.max_tokens)
        };
        let short = Config { max_positions: 20, ..config() };
        assert_eq!(length(None, Some(&short)), (10, 10));
        assert_eq!(length(Some(8), Some(&short)), (4, 4));
        assert_eq!(length(None, None), (512, 64));
        assert_eq!(length(Some(0), None), (1, 1));
        let tiny = Config { vocab: 0, ..config() };
        let request = FixedRun { context: None, has_config: true }.request(Some(&tiny));
        assert!(request.tokens.iter().all(|id| *id == 0));
    }
}
