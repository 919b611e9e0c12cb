//! A tokenizer from the metadata of a GGUF file, put in the words of a `tokenizer.json`.
//!
//! What the metadata mean is llama.cpp's (`llama-vocab.cpp`, `conversion/base.py`); what is made of
//! them is what the model's own `tokenizer.json` says, so that both give the same ids: Qwen2's text
//! is normalized, as the reference does and llama.cpp does not. Must not know how text is encoded.

use crate::source::{Metadata, whole_number};
use crate::{fail, tokenizer};
use candle_core::quantized::gguf_file::Value;
use modelgate_protocol::{Failure, Stage};
use serde_json::{Map, json};
use std::collections::HashMap;
use std::path::Path;

/// The longest token that is believed, in bytes.
const LONGEST: usize = 1024;

/// The longest piece of sentencepiece's. Each is cut in two at every letter and the halves looked up,
/// which takes the square of its length. Trained ones have 16 letters, those of blanks alone up to 32.
const LONGEST_PIECE: usize = 128;

/// Most tokens: the largest vocabulary that is published has 262,144.
const MOST_TOKENS: usize = 1 << 19;

/// Most merges: that vocabulary has 514,906. Pieces can be chosen so that each is made by as many merges
/// as it has letters.
const MOST_MERGES: usize = 1 << 20;

/// The list of tokens.
const TOKENS: &str = "tokenizer.ggml.tokens";

/// What sentencepiece writes for a blank.
const BLANK: &str = "\u{2581}";

/// The vocabulary in the metadata of a GGUF file.
pub(crate) struct GgufVocabulary<'a>(&'a Metadata);

impl<'a> GgufVocabulary<'a> {
    /// That of a file.
    pub(crate) fn new(metadata: &'a Metadata) -> Self {
        GgufVocabulary(metadata)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The tokenizer as a `tokenizer.json` has it; none where the file has none.
    pub(crate) fn tokenizer(&self) -> Result<Option<serde_json::Value>, Failure> {
        let kind = match self.of(self.0.text("tokenizer.ggml.model"))? {
            // llama.cpp's names for a model without tokenizer
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

    /// The template for chats.
    pub(crate) fn chat_template(&self) -> Option<&str> {
        self.0.text("tokenizer.chat_template").ok()?
    }

    /// The special tokens that a template may name, in the words of a `tokenizer_config.json`.
    pub(crate) fn special_tokens(&self) -> serde_json::Value {
        let Ok(Some(tokens)) = self.0.list(TOKENS) else { return serde_json::Value::Null };
        // llama.cpp spells one of them so.
        let keys = ["bos", "eos", "unknown", "seperator", "padding", "cls", "mask"];
        let names = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"];
        let text = |(name, key): (&str, &str)| {
            let id = self.0.number(&format!("tokenizer.ggml.{key}_token_id")).ok()??;
            let Value::String(token) = tokens.get(usize::try_from(id).ok()?)? else { return None };
            Some((format!("{name}_token"), token.as_str().into()))
        };
        names.into_iter().zip(keys).filter_map(text).collect::<Map<_, _>>().into()
    }

    /// Byte-level BPE, as GPT-2's.
    fn byte_level(&self, tokens: &[Token]) -> Result<serde_json::Value, Failure> {
        let words = self.words()?;
        let vocabulary = vocabulary(tokens);
        let mut merges = Vec::new();
        let written = self.array("tokenizer.ggml.merges")?;
        if written.len() > MOST_MERGES {
            return Err(self.too_many("tokenizer.ggml.merges", written.len(), MOST_MERGES));
        }
        for (number, merge) in written.iter().enumerate() {
            let unsound = |what: &str| {
                self.unsound(format!(
                    "metadata: merge {number} of tokenizer.ggml.merges {what}: {merge:?}"
                ))
            };
            // A token may begin with a blank: the one between the two is behind the first letter.
            let pair = match merge {
                Value::String(merge) => split_pair(merge),
                _ => None,
            };
            let (left, right) = pair.ok_or_else(|| unsound("is not of two tokens"))?;
            let known = [left, right, &[left, right].concat()]
                .into_iter()
                .all(|token| vocabulary.contains_key(token));
            if !known {
                return Err(unsound("names an unknown token"));
            }
            merges.push(json!([left, right]));
        }
        let model = json!({
            "type": "BPE",
            "vocab": vocabulary,
            "merges": merges,
            "ignore_merges": words.ignore_merges,
        });
        let bytes = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false
        });
        let splits = words.patterns.iter().map(|pattern| {
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
                "normalizer": words.normalizer.map(|name| json!({ "type": name })),
                "pre_tokenizer": { "type": "Sequence", "pretokenizers": steps },
                "decoder": bytes,
            }),
            words.begins,
        )
    }

    /// Sentencepiece's BPE, as Llama 2's and Mistral's.
    fn sentencepiece(&self, tokens: &[Token]) -> Result<serde_json::Value, Failure> {
        if let Some(token) = tokens.iter().find(|token| token.text.len() > LONGEST_PIECE) {
            return Err(self.unsound(format!(
                "metadata: token {} of {TOKENS} has {} bytes, expected at most {LONGEST_PIECE} of a \
                 piece of sentencepiece's",
                token.id,
                token.text.len()
            )));
        }
        let merges = merges_by_score(tokens, &self.scores(tokens.len())?).ok_or_else(|| {
            self.unsound(format!("metadata: {TOKENS} make more than {MOST_MERGES} merges"))
        })?;
        let unknown = tokens.iter().find(|token| token.kind == Kind::Unknown);
        let prefix = self.of(self.0.flag("tokenizer.ggml.add_space_prefix"))?.unwrap_or(true);
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

    /// Adds what both kinds have: added tokens, and what is put around a text. `begins` says
    /// whether a text gets a token that begins it where the metadata do not say.
    fn whole(
        &self,
        tokens: &[Token],
        mut json: serde_json::Value,
        begins: bool,
    ) -> Result<serde_json::Value, Failure> {
        let added = tokens.iter().filter(|token| {
            matches!(token.kind, Kind::Unknown | Kind::Control | Kind::UserDefined)
        });
        let added = added.map(|token| {
            json!({
                "id": token.id,
                "content": token.text,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": token.kind != Kind::UserDefined,
            })
        });
        json["version"] = "1.0".into();
        json["added_tokens"] = added.collect();
        let mut around = vec![json!({ "Sequence": { "id": "A", "type_id": 0 } })];
        let mut special = Map::new();
        for (name, default, at_end) in [("bos", begins, false), ("eos", false, true)] {
            let added = self.of(self.0.flag(&format!("tokenizer.ggml.add_{name}_token")))?;
            if !added.unwrap_or(default) {
                continue;
            }
            let key = format!("tokenizer.ggml.{name}_token_id");
            let id = self.of(self.0.number(&key))?;
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

    fn tokens(&self) -> Result<Vec<Token<'a>>, Failure> {
        let texts = self.array(TOKENS)?;
        if texts.len() > MOST_TOKENS {
            return Err(self.too_many(TOKENS, texts.len(), MOST_TOKENS));
        }
        let kinds = self.of(self.0.list("tokenizer.ggml.token_type"))?.unwrap_or_default();
        if !kinds.is_empty() {
            self.same_length("tokenizer.ggml.token_type", kinds.len(), texts.len())?;
        }
        let mut tokens = Vec::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            let unsound =
                |what: String| self.unsound(format!("metadata: token {id} of {TOKENS} {what}"));
            let Value::String(text) = text else {
                return Err(unsound("is no text".into()));
            };
            if text.len() > LONGEST {
                let what = format!("has {} bytes, expected at most {LONGEST}", text.len());
                return Err(unsound(what));
            }
            let kind = match kinds.get(id).map(whole_number) {
                None => Kind::Normal,
                Some(number) => number.and_then(Kind::of).ok_or_else(|| {
                    unsound(format!("is of type {:?}, expected 1 to 6", kinds[id]))
                })?,
            };
            tokens.push(Token { id, text, kind });
        }
        Ok(tokens)
    }

    fn scores(&self, tokens: usize) -> Result<Vec<f32>, Failure> {
        let key = "tokenizer.ggml.scores";
        let values = self.array(key)?;
        self.same_length(key, values.len(), tokens)?;
        let score = |(id, value): (usize, &Value)| {
            let score = match value {
                Value::F32(score) if !score.is_nan() => Some(*score),
                _ => None,
            };
            score.ok_or_else(|| self.unsound(format!("metadata: {key} of token {id} is {value:?}")))
        };
        values.iter().enumerate().map(score).collect()
    }

    fn same_length(&self, key: &str, found: usize, tokens: usize) -> Result<(), Failure> {
        if found == tokens {
            return Ok(());
        }
        Err(self
            .unsound(format!("metadata: {key} has {found} values, and there are {tokens} tokens")))
    }

    fn too_many(&self, key: &str, found: usize, most: usize) -> Failure {
        self.unsound(format!("metadata: {key} has {found} values, expected at most {most}"))
    }

    fn words(&self) -> Result<&'static Words, Failure> {
        // Files from before there was such a name get what llama.cpp gives them.
        let name = self.of(self.0.text("tokenizer.ggml.pre"))?.unwrap_or("default");
        WORDS.iter().find(|words| words.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = WORDS.iter().flat_map(|words| words.names).copied().collect();
            let what = format!("tokenizer.ggml.pre \"{name}\"; supported are {}", known.join(", "));
            self.unsupported(what)
        })
    }

    fn array(&self, key: &str) -> Result<&'a [Value], Failure> {
        let missing = || self.unsound(format!("metadata: {key} is missing"));
        self.of(self.0.list(key))?.ok_or_else(missing)
    }

    fn of<T>(&self, value: Result<T, String>) -> Result<T, Failure> {
        value.map_err(|what| self.unsound(what))
    }

    fn unsound(&self, what: String) -> Failure {
        let message = format!("{}: {what}", self.path().display());
        tokenizer::failure(Stage::Load, message, fail::FETCH_AGAIN)
    }

    fn unsupported(&self, what: String) -> Failure {
        tokenizer::failure(
            Stage::Load,
            format!("{}: no tokenizer can be made of {what}", self.path().display()),
            "put the tokenizer.json of the original repository beside the weights",
        )
    }
}

/// A token of the vocabulary.
struct Token<'a> {
    id: usize,
    text: &'a str,
    kind: Kind,
}

/// `llama_token_type` of llama.cpp.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn of(number: u64) -> Option<Kind> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

/// How a text is split into words before they are merged.
struct Words {
    /// Names under which llama.cpp knows it.
    names: &'static [&'static str],
    /// One after the other.
    patterns: &'static [&'static str],
    /// Whether a word that is a token is that token, whatever its merges.
    ignore_merges: bool,
    /// What the reference does with the text first.
    normalizer: Option<&'static str>,
    /// Whether a text begins with a token of its own where the file does not say.
    begins: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Patterns of the models' own `tokenizer.json`, which llama.cpp has in other words.
const WORDS: [Words; 4] = [
    Words {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ignore_merges: true,
        normalizer: None,
        begins: true,
    },
    Words {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ignore_merges: false,
        normalizer: Some("NFC"),
        begins: false,
    },
    Words {
        names: &["gpt-2"],
        patterns: &[GPT2],
        ignore_merges: false,
        normalizer: None,
        begins: false,
    },
    Words {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        normalizer: None,
        begins: false,
    },
];

/// Every token that a text can be made of, with its id.
fn vocabulary(tokens: &[Token]) -> Map<String, serde_json::Value> {
    let used = tokens.iter().filter(|token| token.kind != Kind::Unused);
    used.map(|token| (token.text.to_owned(), token.id.into())).collect()
}

/// The two tokens of a merge.
fn split_pair(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    Some((&merge[..at], &merge[at + 1..])).filter(|(_, right)| !right.is_empty())
}

/// Merges that do what sentencepiece does with scores: join the two neighbours whose whole has the
/// highest. In the order of transformers' `generate_merges` (`convert_slow_tokenizer.py`). None where
/// they are more than [`MOST_MERGES`].
fn merges_by_score(tokens: &[Token], scores: &[f32]) -> Option<serde_json::Value> {
    let pieces: Vec<&Token> = tokens
        .iter()
        .filter(|token| matches!(token.kind, Kind::Normal | Kind::UserDefined))
        .collect();
    let ids: HashMap<&str, usize> = pieces.iter().map(|piece| (piece.text, piece.id)).collect();
    let mut merges = Vec::new();
    for piece in pieces {
        let first = merges.len();
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[piece.id], left, right, (left_id, right_id)));
            }
        }
        if merges.len() > MOST_MERGES {
            return None;
        }
        merges[first..].sort_by_key(|(_, _, _, ids)| *ids);
    }
    let letters = |text: &str| text.chars().count();
    merges.sort_by(|(a, a_left, a_right, _), (b, b_left, b_right, _)| {
        b.total_cmp(a)
            .then_with(|| letters(b_left).cmp(&letters(a_left)))
            .then_with(|| letters(b_right).cmp(&letters(a_right)))
    });
    Some(merges.into_iter().map(|(_, left, right, _)| json!([left, right])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<T>(values: impl IntoIterator<Item = T>, value: fn(T) -> Value) -> Value {
        Value::Array(values.into_iter().map(value).collect())
    }

    fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> Value {
        list(values, |text: &str| Value::String(text.into()))
    }

    /// A sound vocabulary of each kind, with `changes` made to it.
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
        GgufVocabulary::new(&metadata).tokenizer().map_err(|failure| failure.message)
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
    fn merges_go_by_score_and_then_as_the_reference_orders_them() {
        let texts = ["a", "b", "c", "ab", "bc", "abc", "<s>"];
        let kinds = [Kind::Normal; 6].into_iter().chain([Kind::Control]);
        let tokens: Vec<Token> = texts
            .iter()
            .zip(kinds)
            .enumerate()
            .map(|(id, (text, kind))| Token { id, text, kind })
            .collect();
        let merges = merges_by_score(&tokens, &[0.0, 0.0, 0.0, -5.0, -1.0, -2.0, 0.0]);
        assert_eq!(merges.expect("few"), json!([["b", "c"], ["ab", "c"], ["a", "bc"], ["a", "b"]]));
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
        let long = "a".repeat(LONGEST + 1);
        let error = tokenizer(&metadata("gpt2", &[("tokens", Some(texts([long.as_str()])))]));
        assert!(error.is_err());
    }
}
