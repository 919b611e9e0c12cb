//! Encodes and decodes text by a model's tokenizer.

use super::library::guarded;
use super::prompt::Prompt;
use super::reserved::{is_reserved, refuse_reserved};
use super::special_tokens::SpecialTokens;
use super::tokenizer_json::{read, refuse_map, stated_ids};
use crate::failures;
use crate::formats::EmbeddedText;
use modelgate_model::Config;
use modelgate_protocol::{Failure, ModelFiles, Stage};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// The most rows that an embedding may have beyond the tokens of its tokenizer: sizes are rounded up
/// for the hardware. Qwen2.5 has 399 such rows.
const PADDING: usize = 1024;

/// A model's tokenizer.
pub(crate) struct TextCodec {
    tokenizer: Tokenizer,
    special: SpecialTokens,
    special_ids: HashSet<u32>,
    path: PathBuf,
}

impl TextCodec {
    /// Reads the tokenizer and compares it with the model: every id must have a row in the
    /// embedding, and the embedding no more rows than padding explains. `embedded` is for a model
    /// without a `tokenizer.json`.
    pub(crate) fn open(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
        config: &Config,
    ) -> Result<TextCodec, Failure> {
        let codec = TextCodec::read(files, embedded)?;
        codec.compare(config)?;
        Ok(codec)
    }

    /// Reads the tokenizer of any model.
    pub(crate) fn read(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
    ) -> Result<TextCodec, Failure> {
        let (json, path) = read(files, embedded)?;
        TextCodec::from_json(json, path)
    }

    fn from_json(mut json: Value, path: PathBuf) -> Result<TextCodec, Failure> {
        let unsound = |error: String| {
            failures::tokenizer(
                Stage::Load,
                format!("{}: {error}", path.display()),
                failures::FETCH_AGAIN,
            )
        };
        refuse_map(&json["normalizer"]).map_err(unsound)?;
        let special = SpecialTokens::take_from(&mut json).map_err(unsound)?;
        let stated = stated_ids(&json);
        let made =
            guarded(|| serde_json::from_value::<Tokenizer>(json).map_err(tokenizers::Error::from));
        let mut tokenizer = made.map_err(|error| unsound(error.to_string()))?;
        // the library uses the vocabulary's ids, and the order of those that are not in it
        for (token, id) in stated {
            let found = tokenizer.token_to_id(&token);
            if found.map(u64::from) != Some(id) {
                let found = found.map_or("none".to_owned(), |found| found.to_string());
                let token = token.trim_start_matches(is_reserved);
                let what = format!(
                    "added token \"{token}\" has the ID {id} in its own entry, and {found} in \
                     the vocabulary"
                );
                return Err(unsound(what));
            }
        }
        // some files keep these from training; a prompt must be neither truncated nor padded
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unsound(error.to_string()))?;
        let added = tokenizer.get_added_tokens_decoder();
        let special_ids =
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        Ok(TextCodec { tokenizer, special, special_ids, path })
    }

    fn compare(&self, config: &Config) -> Result<(), Failure> {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        let tokens = largest.map_or(0, |id| id as usize + 1);
        let spare = PADDING.max(config.vocab / 100);
        if tokens <= config.vocab && config.vocab - tokens <= spare {
            return Ok(());
        }
        Err(failures::tokenizer(
            Stage::Load,
            format!(
                "{} has {tokens} tokens, but the embedding of the model has {} rows; expected \
                 the same number, or up to {spare} more rows",
                self.path.display(),
                config.vocab
            ),
            "download tokenizer and weights from one repository: they are not of the same model",
        ))
    }

    /// Returns the file that the tokenizer is from.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the special tokens.
    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Encodes a text, in which nothing is special; `around` adds the special tokens that the
    /// tokenizer puts around every text.
    pub(crate) fn encode(&self, text: &str, around: bool) -> Result<Vec<u32>, Failure> {
        refuse_reserved(text)?;
        self.ids(text, around)
    }

    /// Encodes a prompt, whose template has written the special tokens that begin a text.
    pub(crate) fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        self.ids(prompt.marked(), false)
    }

    fn ids(&self, text: &str, around: bool) -> Result<Vec<u32>, Failure> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, around))
            .map_err(|error| self.cannot("encode a text", &error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Decodes token ids, without special tokens.
    pub(crate) fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        let plain: Vec<u32> =
            tokens.iter().copied().filter(|token| !self.special_ids.contains(token)).collect();
        guarded(|| self.tokenizer.decode(&plain, false))
            .map_err(|error| self.cannot("decode tokens", &error))
    }

    fn cannot(&self, what: &str, error: &tokenizers::Error) -> Failure {
        let message = format!("{} cannot {what}: {error}", self.path.display());
        failures::tokenizer(Stage::Generate, message, failures::FETCH_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::FailureKind;
    use serde_json::json;

    const MARK: &str = "\u{10FFFF}";

    /// Returns the codec, and the library's tokenizer of the same JSON.
    fn both(json: &Value) -> (TextCodec, Tokenizer) {
        let codec = TextCodec::from_json(json.clone(), "tokenizer.json".into());
        let reference = serde_json::from_value(json.clone()).expect("a sound tokenizer");
        (codec.unwrap_or_else(|failure| panic!("{failure}")), reference)
    }

    fn tiny() -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama");
        let bytes = std::fs::read(path.join("tokenizer.json")).expect("the tiny tokenizer");
        serde_json::from_slice(&bytes).expect("JSON")
    }

    fn added(id: u32, content: &str, flags: Value) -> Value {
        let mut token = json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true
        });
        for (flag, value) in flags.as_object().into_iter().flatten() {
            token[flag] = value.clone();
        }
        token
    }

    /// Returns a tokenizer of pieces like sentencepiece's; merges can make some of its special tokens.
    fn pieces() -> Value {
        let vocabulary = [
            "<unk>",
            "<s>",
            "</s>",
            "<0x21>",
            "\u{2581}",
            "a",
            "b",
            "<",
            "/",
            "s",
            ">",
            "\u{2581}a",
            "ab",
            "s>",
            "</",
            "[INST]",
            "<tool>",
            "<s",
            "t",
            "o",
            "l",
        ];
        let ids: serde_json::Map<String, Value> =
            vocabulary.into_iter().zip(0..).map(|(piece, id)| (piece.into(), id.into())).collect();
        json!({
            "version": "1.0",
            "added_tokens": [
                added(0, "<unk>", json!({})), added(1, "<s>", json!({})), added(2, "</s>", json!({})),
                added(15, "[INST]", json!({})), added(16, "<tool>", json!({ "special": false })),
            ],
            "normalizer": { "type": "Sequence", "normalizers": [
                { "type": "Prepend", "prepend": "\u{2581}" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" },
            ]},
            "pre_tokenizer": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    { "SpecialToken": { "id": "<s>", "type_id": 0 } },
                    { "Sequence": { "id": "A", "type_id": 0 } },
                ],
                "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }],
                "special_tokens": { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } },
            },
            "decoder": null,
            "model": {
                "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                "vocab": ids,
                "merges": [["\u{2581}", "a"], ["a", "b"], ["s", ">"], ["<", "/"], ["</", "s>"]],
            },
        })
    }

    #[test]
    fn every_token_keeps_its_id() {
        let word_pieces = json!({
            "version": "1.0", "pre_tokenizer": { "type": "Whitespace" },
            "added_tokens": [added(0, "[UNK]", json!({})), added(7, "[SEP]", json!({}))],
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": { "[UNK]": 0, "[SEP]": 7, "a": 3 },
            },
        });
        let scored = json!({
            "version": "1.0", "added_tokens": [added(1, "<s>", json!({}))],
            "model": { "type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0], ["<s>", 0], ["a", -1]] },
        });
        for json in [tiny(), pieces(), word_pieces, scored] {
            let (codec, reference) = both(&json);
            let expected = reference.get_vocab(true);
            assert_eq!(codec.tokenizer.get_vocab(true).len(), expected.len());
            let special = reference.get_added_tokens_decoder();
            for (token, id) in expected {
                let found = codec.tokenizer.id_to_token(id).expect("a token");
                let plain = found.trim_start_matches(MARK);
                assert_eq!(plain, token);
                let is_special = special.get(&id).is_some_and(|token| token.special);
                assert_eq!(plain != found, is_special, "{token}");
                assert_eq!(codec.special_ids.contains(&id), is_special, "{token}");
            }
        }
    }

    #[test]
    fn no_text_makes_a_special_token() {
        let texts = [
            "",
            " ",
            "a b",
            "a<|eot_id|>b <|begin_of_text|>",
            "<|eot_id|>",
            "ab [INST] a!",
            "<tool>a<tool> [INST]<tool>",
            "<unk>",
            "\u{2581}a\u{e9}",
        ];
        for json in [tiny(), pieces()] {
            let (codec, mut reference) = both(&json);
            reference.set_encode_special_tokens(true);
            for text in texts {
                for around in [false, true] {
                    let expected = reference.encode(text, around).expect("ids");
                    assert_eq!(
                        codec.encode(text, around).expect("ids"),
                        expected.get_ids(),
                        "{text:?}"
                    );
                }
            }
        }
        // the library lets merges make it nevertheless
        let (codec, mut reference) = both(&pieces());
        reference.set_encode_special_tokens(true);
        assert_eq!(reference.encode("a</s>", false).expect("ids").get_ids(), [11, 2]);
        assert_eq!(codec.encode("a</s>", false).expect("ids"), [11, 14, 13]);
        assert!(codec.encode("a\u{10FFFF}<s>", false).is_err());
    }

    #[test]
    fn a_template_s_special_tokens_are_those_of_the_library() {
        let chats = [
            "<s>[INST] a b [/INST]",
            "a</s>",
            "<s>",
            "</s></s> a",
            "<unk><tool>a</s>b",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>",
        ];
        for json in [tiny(), pieces()] {
            let (codec, reference) = both(&json);
            for chat in chats {
                let expected = reference.encode(chat, false).expect("ids");
                let prompt = codec.special().prompt(chat);
                assert_eq!(prompt.text(), chat);
                let found = codec.encode_prompt(&prompt).expect("ids");
                assert_eq!(found, expected.get_ids(), "{chat:?}");
                // both leave special tokens out of an answer
                let expected = reference.decode(expected.get_ids(), true).expect("text");
                assert_eq!(codec.decode(&found).expect("text"), expected, "{chat:?}");
            }
        }
    }

    #[test]
    fn flags_of_special_tokens_mean_what_they_do_in_the_library() {
        let mut json = pieces();
        let tokens = json["added_tokens"].as_array_mut().expect("a list");
        tokens[1] = added(1, "<s>", json!({ "lstrip": true }));
        tokens[2] = added(2, "</s>", json!({ "rstrip": true }));
        tokens[3] = added(15, "[INST]", json!({ "single_word": true }));
        // after "ab" it is not a word of its own
        let chats = [
            "a  <s> b",
            "a </s>  b",
            "</s>  <s>",
            "[INST] a",
            "ab[INST] a",
            "a [INST]b",
            " [INST]",
        ];
        let (codec, reference) = both(&json);
        for chat in chats {
            let expected = reference.encode(chat, false).expect("ids");
            let prompt = codec.special().prompt(chat);
            assert_eq!(codec.encode_prompt(&prompt).expect("ids"), expected.get_ids(), "{chat:?}");
        }
        // a token that the library searches in the normalized text is there as it was written
        json["normalizer"] = json!({ "type": "Lowercase" });
        json["added_tokens"][3] = added(15, "[INST]", json!({ "normalized": true }));
        let (codec, reference) = both(&json);
        let prompt = codec.special().prompt("a[INST]b");
        let expected = reference.encode("a[INST]b", false).expect("ids");
        assert_eq!(codec.encode_prompt(&prompt).expect("ids"), expected.get_ids());
    }

    #[test]
    fn a_blank_goes_before_the_first_word_alone_where_the_tokenizer_says_so() {
        let mut json = pieces();
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({
            "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false
        });
        let (codec, reference) = both(&json);
        for chat in ["a</s>a", "<s>a b</s>a", " a<s> a"] {
            let expected = reference.encode(chat, false).expect("ids");
            let prompt = codec.special().prompt(chat);
            assert_eq!(codec.encode_prompt(&prompt).expect("ids"), expected.get_ids(), "{chat:?}");
        }
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        let mut merges = pieces();
        merges["model"]["merges"] = json!([["no", "token"]]);
        let mut long = pieces();
        long["model"]["continuing_subword_prefix"] = "###".into();
        for json in [json!([]), json!({}), json!({ "added_tokens": [1] }), merges, long] {
            let failure = TextCodec::from_json(json, "x/tokenizer.json".into()).err();
            let failure = failure.expect("a failure");
            assert_eq!(failure.kind, FailureKind::Tokenizer);
            assert!(failure.message.contains("x/tokenizer.json"), "{failure}");
        }
    }
}
