//! Encodes and decodes text with the tokenizer of a model.

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

/// The number of rows that an embedding may always have in addition to the tokens of its tokenizer,
/// since publishers round sizes up for the hardware. Qwen2.5 has 399 such rows.
const PADDING_ROWS: usize = 1024;

/// The tokenizer of a model.
pub(crate) struct TextCodec {
    tokenizer: Tokenizer,
    special: SpecialTokens,
    special_ids: HashSet<u32>,
    path: PathBuf,
    /// The number of rows of the embedding; the maximum if the model is not known.
    rows: usize,
}

impl TextCodec {
    /// Reads the tokenizer, and compares it with the model: every id must have a row in the
    /// embedding, and the embedding must not have more additional rows than padding explains. As in
    /// transformers, added tokens may have larger ids, as long as no text contains them. `embedded`
    /// is used for a model without a `tokenizer.json`.
    ///
    /// # Errors
    /// The tokenizer is missing, is invalid, or belongs to another model.
    pub(crate) fn open(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
        config: &Config,
    ) -> Result<TextCodec, Failure> {
        let codec = TextCodec::read(files, embedded)?;
        codec.compare(config)?;
        Ok(TextCodec { rows: config.vocab, ..codec })
    }

    /// Reads the tokenizer, without a comparison with a model.
    ///
    /// # Errors
    /// The tokenizer is missing or invalid.
    pub(crate) fn read(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
    ) -> Result<TextCodec, Failure> {
        let (json, path) = read(files, embedded)?;
        TextCodec::from_json(json, path)
    }

    fn from_json(mut json: Value, path: PathBuf) -> Result<TextCodec, Failure> {
        // the file is complete JSON, so nothing shows that it is damaged
        let invalid = |error: String| {
            failures::tokenizer(Stage::Load, format!("{}: {error}", path.display()), "")
        };
        refuse_map(&json["normalizer"]).map_err(invalid)?;
        let special = SpecialTokens::take_from(&mut json).map_err(invalid)?;
        let stated = stated_ids(&json);
        let parsed =
            guarded(|| serde_json::from_value::<Tokenizer>(json).map_err(tokenizers::Error::from));
        let mut tokenizer = parsed.map_err(|error| invalid(error.to_string()))?;
        // the library ignores the ids in the entries: it uses the id in the vocabulary, or numbers
        // the tokens that are not in the vocabulary in their order
        for (token, id) in stated {
            let found = tokenizer.token_to_id(&token);
            if found.map(u64::from) != Some(id) {
                let found = found.map_or("none".to_owned(), |found| found.to_string());
                let token = token.trim_start_matches(is_reserved);
                let what = format!(
                    "added token \"{token}\": its entry has the ID {id}, but the vocabulary has \
                     the ID {found}"
                );
                return Err(invalid(what));
            }
        }
        // some files contain the settings of the training; a prompt must not be truncated or padded
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| invalid(error.to_string()))?;
        let added = tokenizer.get_added_tokens_decoder();
        let special_ids =
            added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        Ok(TextCodec { tokenizer, special, special_ids, path, rows: usize::MAX })
    }

    /// Compares the number of tokens with the number of rows of the embedding.
    fn compare(&self, config: &Config) -> Result<(), Failure> {
        let added = self.tokenizer.get_added_tokens_decoder();
        let ids: Vec<u32> = self.tokenizer.get_vocab(true).into_values().collect();
        let needs_row = |id: &&u32| (**id as usize) < config.vocab || !added.contains_key(*id);
        let count = |largest: Option<&u32>| largest.map_or(0, |id| *id as usize + 1);
        let with_row = count(ids.iter().filter(needs_row).max());
        let spare = PADDING_ROWS.max(config.vocab / 100);
        if with_row <= config.vocab && config.vocab - with_row <= spare {
            return Ok(());
        }
        let tokens = count(ids.iter().max());
        Err(failures::tokenizer(
            Stage::Load,
            format!(
                "{}: found {tokens} tokens and an embedding of {} rows; expected as many rows as \
                 tokens, or up to {spare} more rows",
                self.path.display(),
                config.vocab
            ),
            "download the tokenizer and the weights from the same repository",
        ))
    }

    /// Returns the path of the file that contains the tokenizer.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the special tokens.
    pub(crate) fn special(&self) -> &SpecialTokens {
        &self.special
    }

    /// Encodes `text` as plain text, even if it contains the name of a special token. If
    /// `add_special` is set, adds the special tokens that the tokenizer puts around every text.
    ///
    /// # Errors
    /// The text contains a reserved character, or the library fails.
    pub(crate) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Failure> {
        refuse_reserved(text)?;
        self.ids(text, add_special)
    }

    /// Encodes a prompt. Adds no special tokens, since the template has written them.
    ///
    /// # Errors
    /// The library fails.
    pub(crate) fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, Failure> {
        self.ids(prompt.marked(), false)
    }

    fn ids(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Failure> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, add_special))
            .map_err(|error| self.library_failure("encode a text", &error))?;
        match encoding.get_ids().iter().find(|id| **id as usize >= self.rows) {
            None => Ok(encoding.get_ids().to_vec()),
            Some(id) => Err(self.without_row(*id)),
        }
    }

    /// Returns the failure for a text with a token that has no row in the embedding.
    fn without_row(&self, id: u32) -> Failure {
        let token = self.tokenizer.id_to_token(id).unwrap_or_default();
        failures::tokenizer(
            Stage::Generate,
            format!(
                "{}: a text contains the token \"{}\" with the ID {id}: expected an ID below {}, the \
                 number of rows of the embedding",
                self.path.display(),
                token.trim_start_matches(is_reserved),
                self.rows
            ),
            "use the tokenizer and the chat template of the checkpoint that contains the weights",
        )
    }

    /// Decodes token ids, and omits special tokens.
    ///
    /// # Errors
    /// The library fails.
    pub(crate) fn decode(&self, tokens: &[u32]) -> Result<String, Failure> {
        let plain: Vec<u32> =
            tokens.iter().copied().filter(|token| !self.special_ids.contains(token)).collect();
        guarded(|| self.tokenizer.decode(&plain, false))
            .map_err(|error| self.library_failure("decode tokens", &error))
    }

    fn library_failure(&self, what: &str, error: &tokenizers::Error) -> Failure {
        let message = format!("{} cannot {what}: {error}", self.path.display());
        failures::tokenizer(Stage::Generate, message, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::FailureKind;
    use serde_json::json;

    const MARK: &str = "\u{10FFFF}";

    /// Returns the codec and the library's tokenizer for the same JSON.
    fn codec_and_reference(json: &Value) -> (TextCodec, Tokenizer) {
        let codec = TextCodec::from_json(json.clone(), "tokenizer.json".into());
        let reference = serde_json::from_value(json.clone()).expect("the tokenizer is valid");
        (codec.unwrap_or_else(|failure| panic!("{failure}")), reference)
    }

    fn tiny() -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama");
        let bytes =
            std::fs::read(path.join("tokenizer.json")).expect("the tiny tokenizer is readable");
        serde_json::from_slice(&bytes).expect("the tokenizer is JSON")
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

    /// Returns a tokenizer of pieces in the style of sentencepiece. Merges of its pieces can result
    /// in some of its special tokens.
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
            let (codec, reference) = codec_and_reference(&json);
            let expected = reference.get_vocab(true);
            assert_eq!(codec.tokenizer.get_vocab(true).len(), expected.len());
            let special = reference.get_added_tokens_decoder();
            for (token, id) in expected {
                let found = codec.tokenizer.id_to_token(id).expect("the id has a token");
                let plain = found.trim_start_matches(MARK);
                assert_eq!(plain, token);
                let is_special = special.get(&id).is_some_and(|token| token.special);
                assert_eq!(plain != found, is_special, "{token}");
                assert_eq!(codec.special_ids.contains(&id), is_special, "{token}");
            }
        }
    }

    #[test]
    fn a_text_is_never_encoded_to_a_special_token() {
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
            let (codec, mut reference) = codec_and_reference(&json);
            reference.set_encode_special_tokens(true);
            for text in texts {
                for add_special in [false, true] {
                    let expected = reference.encode(text, add_special).expect("ids");
                    assert_eq!(
                        codec.encode(text, add_special).expect("ids"),
                        expected.get_ids(),
                        "{text:?}"
                    );
                }
            }
        }
        // in the library, merges can result in a special token even with this setting
        let (codec, mut reference) = codec_and_reference(&pieces());
        reference.set_encode_special_tokens(true);
        assert_eq!(reference.encode("a</s>", false).expect("ids").get_ids(), [11, 2]);
        assert_eq!(codec.encode("a</s>", false).expect("ids"), [11, 14, 13]);
        assert!(codec.encode("a\u{10FFFF}<s>", false).is_err());
    }

    #[test]
    fn special_tokens_of_a_template_have_the_ids_of_the_library() {
        let chats = [
            "<s>[INST] a b [/INST]",
            "a</s>",
            "<s>",
            "</s></s> a",
            "<unk><tool>a</s>b",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>",
        ];
        for json in [tiny(), pieces()] {
            let (codec, reference) = codec_and_reference(&json);
            for chat in chats {
                let expected = reference.encode(chat, false).expect("ids");
                let prompt = codec.special().prompt(chat);
                assert_eq!(prompt.text(), chat);
                let found = codec.encode_prompt(&prompt).expect("ids");
                assert_eq!(found, expected.get_ids(), "{chat:?}");
                // both omit special tokens when they decode
                let expected = reference.decode(expected.get_ids(), true).expect("text");
                assert_eq!(codec.decode(&found).expect("text"), expected, "{chat:?}");
            }
        }
    }

    #[test]
    fn flags_of_special_tokens_have_the_same_effect_as_in_the_library() {
        let mut json = pieces();
        let tokens = json["added_tokens"].as_array_mut().expect("the added tokens are a list");
        tokens[1] = added(1, "<s>", json!({ "lstrip": true }));
        tokens[2] = added(2, "</s>", json!({ "rstrip": true }));
        tokens[3] = added(15, "[INST]", json!({ "single_word": true }));
        // after "ab", the token [INST] is not a separate word
        let chats = [
            "a  <s> b",
            "a </s>  b",
            "</s>  <s>",
            "[INST] a",
            "ab[INST] a",
            "a [INST]b",
            " [INST]",
        ];
        let (codec, reference) = codec_and_reference(&json);
        for chat in chats {
            let expected = reference.encode(chat, false).expect("ids");
            let prompt = codec.special().prompt(chat);
            assert_eq!(codec.encode_prompt(&prompt).expect("ids"), expected.get_ids(), "{chat:?}");
        }
        // the library searches for this token in the normalized text, where it is unchanged
        json["normalizer"] = json!({ "type": "Lowercase" });
        json["added_tokens"][3] = added(15, "[INST]", json!({ "normalized": true }));
        let (codec, reference) = codec_and_reference(&json);
        let prompt = codec.special().prompt("a[INST]b");
        let expected = reference.encode("a[INST]b", false).expect("ids");
        assert_eq!(codec.encode_prompt(&prompt).expect("ids"), expected.get_ids());
    }

    #[test]
    fn prepend_scheme_first_adds_a_space_only_before_the_first_word() {
        let mut json = pieces();
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({
            "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false
        });
        let (codec, reference) = codec_and_reference(&json);
        for chat in ["a</s>a", "<s>a b</s>a", " a<s> a"] {
            let expected = reference.encode(chat, false).expect("ids");
            let prompt = codec.special().prompt(chat);
            assert_eq!(codec.encode_prompt(&prompt).expect("ids"), expected.get_ids(), "{chat:?}");
        }
    }

    #[test]
    fn an_invalid_tokenizer_is_refused() {
        let mut merges = pieces();
        merges["model"]["merges"] = json!([["no", "token"]]);
        let mut long = pieces();
        long["model"]["continuing_subword_prefix"] = "###".into();
        for json in [json!([]), json!({}), json!({ "added_tokens": [1] }), merges, long] {
            let failure = TextCodec::from_json(json, "x/tokenizer.json".into()).err();
            let failure = failure.expect("the tokenizer is invalid");
            assert_eq!(failure.kind, FailureKind::Tokenizer);
            assert!(failure.message.contains("x/tokenizer.json"), "{failure}");
        }
    }
}
