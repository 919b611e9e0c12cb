//! Converts the vocabulary of a GGUF file to a `tokenizer.json`.
//!
//! The metadata have llama.cpp's meaning (`llama-vocab.cpp`, `conversion/base.py`); the result equals
//! the model's own `tokenizer.json`, so that both give the same ids: Qwen2's text is normalized, as the
//! reference does and llama.cpp does not. Must not know how text is encoded.

use super::merges::{MAX_MERGES, merges_by_score, split_pair};
use super::tokens::{Token, TokenKind};
use super::vocabulary::{GgufVocabulary, TOKENS};
use candle_core::quantized::gguf_file::Value;
use modelgate_protocol::Failure;
use serde_json::{Map, json};

/// The longest piece of sentencepiece's. Each is cut in two at every letter and the halves looked up,
/// which takes the square of its length. Trained ones have 16 letters, those of blanks alone up to 32.
const MAX_PIECE_BYTES: usize = 128;

/// What sentencepiece writes for a blank.
const BLANK: &str = "\u{2581}";

impl GgufVocabulary {
    /// Converts the vocabulary to a `tokenizer.json`; returns `None` if the file has none.
    ///
    /// # Errors
    /// The vocabulary is not sound or not supported.
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
                let what = format!("tokenizer.ggml.model \"{other}\"; supported are gpt2, llama");
                return Err(self.unsupported(what));
            }
        };
        Ok(Some(json))
    }

    /// Converts byte-level BPE, as GPT-2's.
    fn byte_level(&self, tokens: &[Token]) -> Result<serde_json::Value, Failure> {
        let splitting = self.pre_tokenizer()?;
        let vocabulary = vocabulary(tokens);
        let mut merges = Vec::new();
        let written = self.array("tokenizer.ggml.merges")?;
        if written.len() > MAX_MERGES {
            return Err(self.too_many("tokenizer.ggml.merges", written.len(), MAX_MERGES));
        }
        for (number, merge) in written.iter().enumerate() {
            let unsound = |what: &str| {
                self.unsound(format!(
                    "metadata: merge {number} of tokenizer.ggml.merges {what}: {merge:?}"
                ))
            };
            let pair = match merge {
                Value::String(merge) => split_pair(merge),
                _ => None,
            };
            let (left, right) = pair.ok_or_else(|| unsound("does not consist of two tokens"))?;
            let known = [left, right, &[left, right].concat()]
                .into_iter()
                .all(|token| vocabulary.contains_key(token));
            if !known {
                return Err(unsound("has an unknown token"));
            }
            merges.push(json!([left, right]));
        }
        let model = json!({
            "type": "BPE",
            "vocab": vocabulary,
            "merges": merges,
            "ignore_merges": splitting.ignore_merges,
        });
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        });
        let splits = splitting.patterns.iter().map(|pattern| {
            json!({
                "type": "Split",
                "pattern": { "Regex": pattern },
                "behavior": "Isolated",
                "invert": false,
            })
        });
        let steps: Vec<serde_json::Value> = splits.chain([bytes.clone()]).collect();
        self.whole(
            tokens,
            json!({
                "model": model,
                "normalizer": splitting.normalizer.map(|name| json!({ "type": name })),
                "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
                "decoder": bytes,
            }),
            splitting.adds_bos,
        )
    }

    /// Converts sentencepiece's BPE, as Llama 2's and Mistral's.
    fn sentencepiece(&self, tokens: &[Token]) -> Result<serde_json::Value, Failure> {
        if let Some(token) = tokens.iter().find(|token| token.text.len() > MAX_PIECE_BYTES) {
            return Err(self.unsound(format!(
                "metadata: token {} of {TOKENS} has {} bytes, expected at most {MAX_PIECE_BYTES} \
                 of a \
                 piece of sentencepiece's",
                token.id,
                token.text.len()
            )));
        }
        let merges = merges_by_score(tokens, &self.scores(tokens.len())?).ok_or_else(|| {
            self.unsound(format!("metadata: {TOKENS} give more than {MAX_MERGES} merges"))
        })?;
        let unknown = tokens.iter().find(|token| token.kind == TokenKind::Unknown);
        let prefix = self.metadata().flag("tokenizer.ggml.add_space_prefix");
        let prefix = self.checked(prefix)?.unwrap_or(true);
        let blanks = json!({
            "type": "Replace", "pattern": { "String": " " }, "content": BLANK
        });
        let normalizer = match prefix {
            true => json!({
                "type": "Sequence",
                "normalizers": [{ "type": "Prepend", "prepend": BLANK }, blanks],
            }),
            false => blanks,
        };
        let mut decoders = vec![
            json!({ "type": "Replace", "pattern": { "String": BLANK }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if prefix {
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        self.whole(
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

    /// Adds what both kinds have: added tokens, and the tokens before and after a text. `adds_bos` says
    /// whether a text gets a token that begins it if the metadata do not say.
    fn whole(
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
        let mut around = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
        let mut special = Map::new();
        for (name, default, at_end) in [("bos", adds_bos, false), ("eos", false, true)] {
            let added = self.metadata().flag(&format!("tokenizer.ggml.add_{name}_token"));
            if !self.checked(added)?.unwrap_or(default) {
                continue;
            }
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = self.checked(self.metadata().number(&key))?;
            let id = id.ok_or_else(|| self.unsound(format!("metadata: {key} is missing")))?;
            let token = tokens.iter().find(|token| token.id as u64 == id).ok_or_else(|| {
                self.unsound(format!(
                    "metadata: {key} is {id}, and there are {} tokens",
                    tokens.len()
                ))
            })?;
            let place = if at_end { around.len() } else { 0 };
            around.insert(place, json!({ "SpecialToken": { "id": token.text, "type_id": 0 } }));
            special.insert(
                token.text.to_owned(),
                json!({ "id": token.text, "ids": [id], "tokens": [token.text] }),
            );
        }
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": around,
            "pair": [
                { "Sequence": { "id": "A", "type_id": 0 } },
                { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": special,
        });
        Ok(json)
    }
}

/// Returns every token that a text may become, with its id.
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

    /// Returns a sound vocabulary of each kind, with `changes` made to it.
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
    fn what_the_metadata_say_is_in_the_tokenizer() {
        for kind in ["gpt2", "llama"] {
            let json = tokenizer(&metadata(kind, &[])).expect("sound").expect("a tokenizer");
            assert_eq!(json["model"]["vocab"]["ab"], 4);
            assert_eq!(json["model"]["merges"], json!([["a", "b"]]));
            assert_eq!(json["model"]["vocab"].get("[PAD6]"), None, "not used");
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
    fn a_file_without_a_tokenizer_has_none() {
        for changes in [[("model", None)], [("model", Some(Value::String("none".into())))]] {
            assert_eq!(tokenizer(&metadata("gpt2", &changes)), Ok(None));
        }
    }

    #[test]
    fn unsound_metadata_are_refused_by_name() {
        let no_list = || Some(Value::U32(1));
        for (kind, key, value, words) in [
            ("gpt2", "tokens", None, "tokens is missing"),
            ("gpt2", "tokens", no_list(), "tokens is no list"),
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
            ("gpt2", "add_bos_token", no_list(), "add_bos_token"),
            ("llama", "scores", None, "scores is missing"),
            ("llama", "scores", Some(list([0.0], Value::F32)), "scores has 1 values"),
            ("llama", "scores", Some(list([f32::NAN; 7], Value::F32)), "scores of token 0"),
            ("bert", "model", Some(Value::String("bert".into())), "gpt2, llama"),
            ("gpt2", "model", no_list(), "model is no text"),
        ] {
            let error = tokenizer(&metadata(kind, &[(key, value)])).expect_err(words);
            assert!(error.contains("x/y.gguf") && error.contains(words), "{words}: {error}");
        }
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        let error = tokenizer(&metadata("gpt2", &[("tokens", Some(texts([long.as_str()])))]));
        assert!(error.is_err());
    }
}
