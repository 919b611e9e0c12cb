//! Special tokens: what a chat template writes is special, the same characters in a user's text are
//! not.
//!
//! Every special token is renamed in the tokenizer, so that its name begins with [`MARK`], a character
//! that no text may have. So no text can make a special token, whatever the tokenizer's model does
//! with it, and a prompt gets a mark before each special token of its template. Those in the messages
//! are told apart by a [`GUARD`], which they get before the chat is rendered. A token of which the
//! template writes one half and a message the other is the template's, and so is one from which a
//! template removes the guard.
//!
//! Must not know what is in a template, nor how tokens become ids.

use super::prompt::Prompt;
use super::reserved::{GUARD, MARK, refuse_reserved};
use aho_corasick::{AhoCorasick, MatchKind};
use modelgate_protocol::Failure;
use serde_json::Value;
use std::collections::HashSet;

/// The longest added token, in bytes, and the most bytes of all together. The automata that find them
/// take up to 1,024 times that. The tokenizers of the supported families have up to 1,000 added tokens
/// of up to 40 bytes.
const MAX_TOKEN_BYTES: usize = 1024;
const MAX_TOTAL_BYTES: usize = 256 << 10;

/// A tokenizer's special tokens.
pub(crate) struct SpecialTokens {
    /// Finds all tokens that are cut out of a text before it is split into words: the longest
    /// wins, special or not.
    finder: AhoCorasick,
    tokens: Vec<Token>,
}

/// A token of the finder, by its number there.
struct Token {
    special: bool,
    /// Whether it is recognized between words only.
    single_word: bool,
}

impl SpecialTokens {
    /// Renames the special tokens in the JSON of a tokenizer, and returns them.
    pub(crate) fn take_from(tokenizer: &mut Value) -> Result<SpecialTokens, String> {
        let (mut names, mut tokens, mut special_names) = (Vec::new(), Vec::new(), HashSet::new());
        let mut together = 0;
        let added = tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut);
        for (number, token) in added.into_iter().flatten().enumerate() {
            let Some(name) = token["content"].as_str() else {
                return Err(format!("added token {number} has no content"));
            };
            together += name.len();
            if name.len() > MAX_TOKEN_BYTES || together > MAX_TOTAL_BYTES {
                return Err(format!(
                    "added token {number} has {} bytes, and {together} with those before it; \
                     expected at most {MAX_TOKEN_BYTES}, and {MAX_TOTAL_BYTES} in total",
                    name.len()
                ));
            }
            let name = name.to_owned();
            let special = token["special"] == true;
            // the tokenizer finds those that are matched against normalized text later
            if name.is_empty() || !special && token["normalized"] == true {
                continue;
            }
            let single_word = token["single_word"] == true;
            tokens.push(Token { special, single_word });
            if special {
                token["content"] = marked(&name).into();
                // the mark finds it, so that the text around it does not matter
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
            .map_err(|error| format!("its added tokens cannot be searched: {error}"))?;
        Ok(SpecialTokens { finder, tokens })
    }

    /// Puts a guard before each special token in the text of a message.
    pub(crate) fn guard(&self, text: &str) -> Result<String, Failure> {
        refuse_reserved(text)?;
        Ok(self.before_each(GUARD, text, |_, _| true))
    }

    /// Makes a prompt of what a template rendered of guarded texts.
    pub(crate) fn prompt(&self, rendered: &str) -> Prompt {
        let rendered: String = rendered.chars().filter(|letter| *letter != MARK).collect();
        let mut marked = self.before_each(MARK, &rendered, |token, (before, after)| {
            !before.ends_with(GUARD)
                && !(token.single_word
                    && (before.ends_with(is_of_word) || after.starts_with(is_of_word)))
        });
        marked.retain(|letter| letter != GUARD);
        Prompt::new(marked)
    }

    /// Puts `sign` before each special token in `text` that is `wanted` by the text around it.
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

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn marked(name: &str) -> String {
    format!("{MARK}{name}")
}

/// Renames the special tokens in the tokenizer's model, which sometimes has them in its vocabulary.
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
    // tokenizers that were converted from sentencepiece can merge characters to a special token
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
