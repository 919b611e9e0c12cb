//! Converts the vocabulary of a GGUF file to a `tokenizer.json`.
//!
//! The metadata have the meaning that llama.cpp defines (`llama-vocab.cpp`, `conversion/base.py`).
//! The result gives the token ids of llama.cpp, with one exception: texts of Qwen2 are normalized, as
//! by the `tokenizer.json` of the model and unlike in llama.cpp. This module only converts the data;
//! it does not encode texts.

use super::merges::{MAX_MERGES, merges_by_score, split_pair};
use super::tokens::{Token, TokenKind};
use super::vocabulary::{GgufVocabulary, TOKENS};
use candle_core::quantized::gguf_file::Value;
use modelgate_protocol::Failure;
use serde_json::{Map, json};

/// The maximum length of a sentencepiece token in bytes. Each token is split at every character and
/// both parts are looked up, which takes time quadratic in its length. Tokens of trained models
/// have up to 16 characters, and tokens that consist of spaces up to 32.
const MAX_PIECE_BYTES: usize = 128;

/// The character that sentencepiece writes for a space.
const SPACE_SYMBOL: &str = "\u{2581}";

impl GgufVocabulary {
    /// Converts the vocabulary to a `tokenizer.json`; returns `None` if the file has no tokenizer.
    ///
    /// # Errors
    /// The vocabulary is invalid or not supported.
    pub(super) fn tokenizer_json(&self) -> Result<Option<serde_json::Value>, Failure> {
        let kind = match self.checked(self.metadata().text("tokenizer.ggml.model"))? {
            // llama.cpp's names for a model without a tokenizer
            None | Some("none" | "no_vocab") => return Ok(None),
            Some(kind) => kind,
        };
        let tokens = self.tokens()?;
        let json = match kind {
            "gpt2" => self.byte_level(&tokens)?,
            "llama" => self.sentencepiece(&tokens)?,
            other => {
                let what = format!("tokenizer.ggml.model \"{other}\": expected one of gpt2, llama");
                return Err(self.unsupported(what));
            }
        };
        Ok(Some(json))
    }

    /// Converts a byte-level BPE vocabulary (the kind of GPT-2).
    fn byte_level(&self, tokens: &[Token]) -> Result<serde_json::Value, Failure> {
        let pre_tokenizer = self.pre_tokenizer()?;
        let vocabulary = vocabulary(tokens);
        let mut merges = Vec::new();
        let listed = self.array("tokenizer.ggml.merges")?;
        if listed.len() > MAX_MERGES {
            return Err(self.too_many("tokenizer.ggml.merges", listed.len(), MAX_MERGES));
        }
        for (number, merge) in listed.iter().enumerate() {
            let invalid = |what: &str| {
                self.invalid(format!(
                    "metadata: merge {number} of tokenizer.ggml.merges {what}: {merge:?}"
                ))
            };
            let pair = match merge {
                Value::String(merge) => split_pair(merge),
                _ => None,
            };
            let (left, right) = pair.ok_or_else(|| invalid("does not consist of two tokens"))?;
            let known = [left, right, &[left, right].concat()]
                .into_iter()
                .all(|token| vocabulary.contains_key(token));
            if !known {
                return Err(invalid("contains an unknown token"));
            }
            merges.push(json!([left, right]));
        }
        let model = json!({
            "type": "BPE",
            "vocab": vocabulary,
            "merges": merges,
            "ignore_merges": pre_tokenizer.ignore_merges,
        });
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        });
        let splits = pre_tokenizer.patterns.iter().map(|pattern| {
            json!({
                "type": "Split",
                "pattern": { "Regex": pattern },
                "behavior": "Isolated",
                "invert": false,
            })
        });
        let steps: Vec<serde_json::Value> = splits.chain([bytes.clone()]).collect();
        self.completed(
            tokens,
            json!({
                "model": model,
                "normalizer": pre_tokenizer.normalizer.map(|name| json!({ "type": name })),
                "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
                "decoder": bytes,
            }),
            pre_tokenizer.adds_bos,
        )
    }

    /// Converts a sentencepiece BPE vocabulary (the kind of Llama 2 and Mistral).
    fn sentencepiece(&self, tokens: &[Token]) -> Result<serde_json::Value, Failure> {
        if let Some(token) = tokens.iter().find(|token| token.text.len() > MAX_PIECE_BYTES) {
            return Err(self.invalid(format!(
                "metadata: token {} of {TOKENS} has {} bytes, expected at most {MAX_PIECE_BYTES} \
                 in a sentencepiece vocabulary",
                token.id,
                token.text.len()
            )));
        }
        let merges = merges_by_score(tokens, &self.scores(tokens.len())?).ok_or_else(|| {
            self.invalid(format!("metadata: {TOKENS} give more than {MAX_MERGES} merges"))
        })?;
        let unknown = tokens.iter().find(|token| token.kind == TokenKind::Unknown);
        let has_prefix = self.metadata().flag("tokenizer.ggml.add_space_prefix");
        let has_prefix = self.checked(has_prefix)?.unwrap_or(true);
        let replace_spaces = json!({
            "type": "Replace", "pattern": { "String": " " }, "content": SPACE_SYMBOL
        });
        let normalizer = match has_prefix {
            true => json!({
                "type": "Sequence",
                "normalizers": [{ "type": "Prepend", "prepend": SPACE_SYMBOL }, replace_spaces],
            }),
            false => replace_spaces,
        };
        let mut decoders = vec![
            json!({ "type": "Replace", "pattern": { "String": SPACE_SYMBOL }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if has_prefix {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        self.completed(
            tokens,
            json!({
                "model": {
                    "type": "BPE",
                    "vocab": vocabulary(tokens),
                    "merges": merges,
                    "unk_token": unknown.map(|token| token.text),
                    "fuse_unk": true,
                    "byte_fallback": true,
                },
                "normalizer": normalizer,
                "pre_tokenizer": null,
                "decoder": { "type": "Sequence", "decoders": decoders },
            }),
            true,
        )
    }

    /// Adds the parts that both kinds of vocabulary have: the added tokens, and the tokens before
    /// and after a text. `adds_bos` is the default for the BOS token if the metadata do not specify
    /// it.
    fn completed(
        &self,
        tokens: &[Token],
        mut json: serde_json::Value,
        adds_bos: bool,
    ) -> Result<serde_json::Value, Failure> {
        let added = tokens.iter().filter(|token| {
            matches!(token.kind, TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined)
        });
        let added = added.map(|token| {
            json!({
                "id": token.id,
                "content": token.text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": token.kind != TokenKind::UserDefined,
            })
        });
        json["version"] = "1.0".into();
        json["added_tokens"] = added.collect();
        let mut single = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
        let mut special = Map::new();
        for (name, default, at_end) in [("bos", adds_bos, false), ("eos", false, true)] {
            let added = self.metadata().flag(&format!("tokenizer.ggml.add_{name}_token"));
            if !self.checked(added)?.unwrap_or(default) {
                continue;
            }
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = self.checked(self.metadata().number(&key))?;
            let id = id.ok_or_else(|| self.invalid(format!("metadata: {key} is missing")))?;
            let token = tokens.iter().find(|token| token.id as u64 == id).ok_or_else(|| {
                self.invalid(format!(
                    "metadata: {key} is {id}, but the vocabulary has {} tokens",
                    tokens.len()
                ))
            })?;
            let place = if at_end { single.len() } else { 0 };
            single.insert(place, json!({ "SpecialToken": { "id": token.text, "type_id": 0 } }));
            special.insert(
                token.text.to_owned(),
                json!({ "id": token.text, "ids": [id], "tokens": [token.text] }),
            );
        }
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": single,
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": special,
        });
        Ok(json)
    }
}

/// Returns the ids of all tokens that are in use, by their texts.
fn vocabulary(tokens: &[Token]) -> Map<String, serde_json::Value> {
    let used = tokens.iter().filter(|token| token.kind != TokenKind::Unused);
    used.map(|token| (token.text.to_owned(), token.id.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::gguf::metadata::Metadata;
    use crate::formats::gguf::vocabulary::MAX_TOKEN_BYTES;
    use std::collections::HashMap;
    use std::path::Path;

    fn list<T>(values: impl IntoIterator<Item = T>, value: fn(T) -> Value) -> Value {
        Value::Array(values.into_iter().map(value).collect())
    }

    fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Value {
        list(values, |text: &str| Value::String(text.into()))
    }

    /// Returns the metadata of a valid vocabulary of `kind` (`gpt2` or `llama`), with `changes`
    /// applied: a value replaces the value of its key, and `None` removes the key.
    fn metadata(kind: &str, changes: &[(&str, Option<Value>)]) -> HashMap<String, Value> {
        let mut values = HashMap::from([
            ("model", Value::String(kind.into())),
            ("pre", Value::String("qwen2".into())),
            ("tokens", texts(["<unk>", "<s>", "a", "b", "ab", "<tool>", "[PAD6]"])),
            ("token_type", list([2, 3, 1, 1, 1, 4, 5], Value::I32)),
            ("bos_token_id", Value::U32(1)),
            ("add_bos_token", Value::Bool(true)),
        ]);
        match kind {
            "llama" => values.insert("scores", list((0..7).map(|id| -(id as f32)), Value::F32)),
            _ => values.insert("merges", texts(["a b"])),
        };
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key, value.clone()),
                None => values.remove(key),
            };
        }
        let key = |(key, value): (&str, Value)| (format!("tokenizer.ggml.{key}"), value);
        values.into_iter().map(key).collect()
    }

    fn tokenizer(metadata: &HashMap<String, Value>) -> Result<Option<serde_json::Value>, String> {
        let metadata = Metadata::new(Path::new("x/y.gguf"), metadata.clone());
        GgufVocabulary::new(metadata).tokenizer_json().map_err(|failure| failure.message)
    }

    #[test]
    fn tokens_merges_and_bos_of_the_metadata_are_in_the_tokenizer() {
        for kind in ["gpt2", "llama"] {
            let json =
                tokenizer(&metadata(kind, &[])).expect("a valid vocabulary").expect("a tokenizer");
            assert_eq!(json["model"]["vocab"]["ab"], 4);
            assert_eq!(json["model"]["merges"], json!([["a", "b"]]));
            assert_eq!(
                json["model"]["vocab"].get("[PAD6]"),
                None,
                "an unused token is in the vocabulary"
            );
            let added = json["added_tokens"].as_array().expect("a list");
            let special: Vec<_> =
                added.iter().map(|token| (&token["content"], token["special"] == true)).collect();
            assert_eq!(
                special,
                [(&json!("<unk>"), true), (&json!("<s>"), true), (&json!("<tool>"), false)]
            );
            let single = json!([
                { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                { "Sequence": { "id": "A", "type_id": 0 } },
            ]);
            assert_eq!(json["post_processor"]["single"], single);
        }
    }

    #[test]
    fn metadata_without_a_tokenizer_give_no_tokenizer() {
        for changes in [[("model", None)], [("model", Some(Value::String("none".into())))]] {
            assert_eq!(tokenizer(&metadata("gpt2", &changes)), Ok(None));
        }
    }

    #[test]
    fn invalid_metadata_are_refused_with_the_file_and_key() {
        let number = || Some(Value::U32(1));
        for (kind, key, value, words) in [
            ("gpt2", "tokens", None, "tokens is missing"),
            ("gpt2", "tokens", number(), "tokens: expected a list"),
            ("gpt2", "tokens", Some(list([1; 7], Value::U32)), "token 0"),
            ("gpt2", "token_type", Some(list([1], Value::I32)), "token_type has 1 values"),
            ("gpt2", "token_type", Some(list([9; 7], Value::I32)), "token 0"),
            ("gpt2", "merges", None, "merges is missing"),
            ("gpt2", "merges", Some(texts(["a b", "a q"])), "merge 1"),
            ("gpt2", "merges", Some(texts(["ab"])), "merge 0"),
            ("gpt2", "merges", Some(texts([""])), "merge 0"),
            ("gpt2", "merges", Some(texts(["b a"])), "merge 0"),
            ("gpt2", "pre", Some(Value::String("other".into())), "qwen2"),
            ("gpt2", "bos_token_id", None, "bos_token_id is missing"),
            ("gpt2", "bos_token_id", Some(Value::U32(99)), "bos_token_id is 99"),
            ("gpt2", "bos_token_id", Some(Value::I32(-1)), "bos_token_id"),
            ("gpt2", "add_bos_token", number(), "add_bos_token"),
            ("llama", "scores", None, "scores is missing"),
            ("llama", "scores", Some(list([0.0], Value::F32)), "scores has 1 values"),
            ("llama", "scores", Some(list([f32::NAN; 7], Value::F32)), "scores of token 0"),
            ("bert", "model", Some(Value::String("bert".into())), "gpt2, llama"),
            ("gpt2", "model", number(), "model: expected a string"),
        ] {
            let error = tokenizer(&metadata(kind, &[(key, value)])).expect_err(words);
            assert!(error.contains("x/y.gguf") && error.contains(words), "{words}: {error}");
        }
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        let error = tokenizer(&metadata("gpt2", &[("tokens", Some(texts([long.as_str()])))]));
        assert!(error.is_err());
    }
}
