//! The tokenizer and the chat template in the metadata of a GGUF file.

use super::vocabulary::{GgufVocabulary, PRE_TOKENIZER, TOKENS};
use crate::formats::embedded_text::EmbeddedText;
use candle_core::quantized::gguf_file::Value;
use modelgate_protocol::Failure;
use serde_json::Map;
use std::path::Path;

impl EmbeddedText for GgufVocabulary {
    fn path(&self) -> &Path {
        self.file()
    }

    fn tokenizer(&self) -> Result<Option<serde_json::Value>, Failure> {
        self.tokenizer_json()
    }

    fn chat_template(&self) -> Option<&str> {
        self.metadata().text("tokenizer.chat_template").ok()?
    }

    fn note(&self) -> Option<String> {
        let is_missing = |key: &str| matches!(self.metadata().text(key), Ok(None));
        let uses_merges = matches!(self.metadata().text("tokenizer.ggml.model"), Ok(Some("gpt2")));
        (uses_merges && is_missing(PRE_TOKENIZER)).then(|| {
            format!(
                "metadata: {PRE_TOKENIZER} is missing: texts are split by the rule \"default\", as in \
                 llama.cpp, which warns that the quality of the output may be degraded"
            )
        })
    }

    fn special_tokens(&self) -> serde_json::Value {
        let Ok(Some(tokens)) = self.metadata().list(TOKENS) else { return serde_json::Value::Null };
        // the spelling "seperator" is llama.cpp's
        let keys = ["bos", "eos", "unknown", "seperator", "padding", "cls", "mask"];
        let names = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
        let text = |(name, key): (&str, &str)| {
            let id = self.metadata().number(&format!("tokenizer.ggml.{key}_token_id")).ok()??;
            let Value::String(token) = tokens.get(usize::try_from(id).ok()?)? else { return None };
            Some((format!("{name}_token"), token.as_str().into()))
        };
        names.into_iter().zip(keys).filter_map(text).collect::<Map<_, _>>().into()
    }
}
