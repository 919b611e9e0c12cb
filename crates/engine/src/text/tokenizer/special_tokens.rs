//! Separates the special tokens that a chat template writes from the same characters in the text of
//! a user, which are plain text.
//!
//! Every special token is renamed in the tokenizer: its new name begins with [`MARK`], a character
//! that no text may contain. Therefore, no text can be encoded to a special token, independent of
//! the tokenizer's model. In a prompt, a mark is inserted before each special token of the
//! template. To distinguish special tokens in the messages, a [`GUARD`] is inserted before them
//! before the chat is rendered. A token counts as a token of the template if the template wrote one
//! half of it and a message the other half, or if the template removed the guard.
//!
//! This module does not depend on the content of templates or on the encoding of tokens.

use super::prompt::Prompt;
use super::reserved::{GUARD, MARK, refuse_reserved};
use aho_corasick::{AhoCorasick, MatchKind};
use modelgate_protocol::Failure;
use serde_json::Value;
use std::collections::HashSet;

/// The maximum length of an added token in bytes. The tokenizers of the supported families have up
/// to 1,000 added tokens of up to 40 bytes.
const MAX_TOKEN_BYTES: usize = 1024;
/// The maximum sum of the lengths of all added tokens in bytes. The automata that find the tokens
/// take up to 1,024 times as much memory.
const MAX_TOTAL_BYTES: usize = 256 << 10;

/// The special tokens of a tokenizer.
pub(crate) struct SpecialTokens {
    /// The search automaton for all tokens, special or not, that the tokenizer separates from a
    /// text before it splits the text into words. It prefers the longest token.
    finder: AhoCorasick,
    tokens: Vec<Token>,
}

/// The properties of a token of the finder.
struct Token {
    special: bool,
    /// Whether the token is recognized only between words.
    single_word: bool,
}

impl SpecialTokens {
    /// Renames the special tokens in the JSON of a tokenizer, and returns them.
    ///
    /// # Errors
    /// An added token has no content, or the added tokens are too long.
    pub(crate) fn take_from(tokenizer: &mut Value) -> Result<SpecialTokens, String> {
        let (mut names, mut tokens, mut special_names) = (Vec::new(), Vec::new(), HashSet::new());
        let mut total_bytes = 0;
        let added = tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut);
        for (number, token) in added.into_iter().flatten().enumerate() {
            let Some(name) = token["content"].as_str() else {
                return Err(format!("added token {number} has no content"));
            };
            total_bytes += name.len();
            if name.len() > MAX_TOKEN_BYTES || total_bytes > MAX_TOTAL_BYTES {
                return Err(format!(
                    "added token {number}: expected at most {MAX_TOKEN_BYTES} bytes, and at most \
                     {MAX_TOTAL_BYTES} bytes for all tokens up to this one; found {} bytes, and \
                     {total_bytes} bytes in total",
                    name.len()
                ));
            }
            let name = name.to_owned();
            let special = token["special"] == true;
            // the tokenizer itself finds these tokens later, in the normalized text
            if name.is_empty() || !special && token["normalized"] == true {
                continue;
            }
            let single_word = token["single_word"] == true;
            tokens.push(Token { special, single_word });
            if special {
                token["content"] = marked(&name).into();
                // the token is recognized by its mark, independent of the text around it
                token["single_word"] = false.into();
                token["normalized"] = false.into();
                special_names.insert(name.clone());
            }
            names.push(name);
        }
        if let Some(model) = tokenizer.get_mut("model") {
            rename_in_model(model, &special_names);
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(names)
            .map_err(|error| format!("the added tokens cannot be searched: {error}"))?;
        Ok(SpecialTokens { finder, tokens })
    }

    /// Inserts a guard before each special token in the text of a message.
    ///
    /// # Errors
    /// The text contains a reserved character.
    pub(crate) fn guard(&self, text: &str) -> Result<String, Failure> {
        refuse_reserved(text)?;
        Ok(self.before_each(GUARD, text, |_, _| true))
    }

    /// Creates a prompt from the text that a template rendered from guarded messages.
    pub(crate) fn prompt(&self, rendered: &str) -> Prompt {
        let rendered: String = rendered.chars().filter(|letter| *letter != MARK).collect();
        let mut marked = self.before_each(MARK, &rendered, |token, (before, after)| {
            !before.ends_with(GUARD)
                && !(token.single_word
                    && (before.ends_with(is_word_character)
                        || after.starts_with(is_word_character)))
        });
        marked.retain(|letter| letter != GUARD);
        Prompt::new(marked)
    }

    /// Inserts `sign` before each special token in `text` for which `wanted` returns true. `wanted`
    /// receives the token, and the text before and after it.
    fn before_each(
        &self,
        sign: char,
        text: &str,
        wanted: impl Fn(&Token, (&str, &str)) -> bool,
    ) -> String {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for found in self.finder.find_iter(text) {
            let token = &self.tokens[found.pattern()];
            if token.special && wanted(token, (&text[..found.start()], &text[found.end()..])) {
                out.push_str(&text[done..found.start()]);
                out.push(sign);
                done = found.start();
            }
        }
        out.push_str(&text[done..]);
        out
    }
}

fn is_word_character(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn marked(name: &str) -> String {
    format!("{MARK}{name}")
}

/// Renames the special tokens in the vocabulary of the tokenizer's model, if they are in it.
fn rename_in_model(model: &mut Value, names: &HashSet<String>) {
    let mut found = false;
    match model.get_mut("vocab") {
        Some(Value::Object(ids)) => {
            for name in names {
                if let Some(id) = ids.remove(name) {
                    ids.insert(marked(name), id);
                    found = true;
                }
            }
        }
        Some(Value::Array(pieces)) => {
            for piece in pieces {
                if let Some(name) = piece[0].as_str().filter(|name| names.contains(*name)) {
                    piece[0] = marked(name).into();
                }
            }
        }
        _ => {}
    }
    if let Some(name) = model["unk_token"].as_str().filter(|name| names.contains(*name)) {
        model["unk_token"] = marked(name).into();
    }
    // in tokenizers that were converted from sentencepiece, merges can result in a special token
    let merges = model.get_mut("merges").and_then(Value::as_array_mut);
    if let (true, Some(merges)) = (found, merges) {
        merges.retain(|merge| {
            let pair = match merge {
                Value::String(pair) => pair.split_once(' '),
                pair => pair[0].as_str().zip(pair[1].as_str()),
            };
            !pair.is_some_and(|(left, right)| {
                names.contains(left)
                    || names.contains(right)
                    || names.contains(&[left, right].concat())
            })
        });
    }
}
