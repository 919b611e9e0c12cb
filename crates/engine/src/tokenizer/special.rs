//! Special tokens: what a chat template writes is special, the same characters in a user's text are
//! not.
//!
//! The tokenizer is told of every special token under a name that begins with [`MARK`], a character
//! that no text may have. So no text can make a special token, whatever the tokenizer's model does
//! with it, and a prompt gets a mark before each special token of its template. Which are the
//! template's is known because those in the messages get a [`GUARD`] before the chat is rendered.
//! A token of which the template writes one half and a message the other is the template's, and so
//! is one from which a template cuts the guard.
//!
//! Must not know what is in a template, nor how tokens become ids.

use crate::tokenizer::failure;
use aho_corasick::{AhoCorasick, MatchKind};
use modelgate_protocol::{Failure, Stage};
use serde_json::Value;
use std::collections::HashSet;

/// Begins the name of a special token. A noncharacter: Unicode keeps it for uses like this.
const MARK: char = '\u{10FFFF}';

/// The longest added token, in bytes, and how many all may have together. The automata that find them
/// take up to 1,024 times that. The tokenizers of the supported families have up to 1,000 added tokens
/// of up to 40 bytes.
const LONGEST: usize = 1024;
const LONGEST_TOGETHER: usize = 256 << 10;

/// Stands before a special token's characters in a message.
const GUARD: char = '\u{10FFFE}';

/// A chat as a template has rendered it.
pub struct Prompt {
    text: String,
    marked: String,
}

impl Prompt {
    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with a mark before each special token that the template wrote.
    pub(crate) fn marked(&self) -> &str {
        &self.marked
    }
}

/// A tokenizer's special tokens.
pub(crate) struct SpecialTokens {
    /// Finds all tokens that are cut out of a text before it is split into words: the longest
    /// counts, special or not.
    finder: AhoCorasick,
    tokens: Vec<Token>,
}

/// A token that the finder knows, by its number there.
struct Token {
    special: bool,
    /// Whether it counts between words only.
    single_word: bool,
}

impl SpecialTokens {
    /// Renames the special tokens in the JSON of a tokenizer, and gives what they were.
    pub(crate) fn take_from(tokenizer: &mut Value) -> Result<SpecialTokens, String> {
        let (mut names, mut tokens, mut special_names) = (Vec::new(), Vec::new(), HashSet::new());
        let mut together = 0;
        let added = tokenizer.get_mut("added_tokens").and_then(Value::as_array_mut);
        for (number, token) in added.into_iter().flatten().enumerate() {
            let Some(name) = token["content"].as_str() else {
                return Err(format!("added token {number} has no content"));
            };
            together += name.len();
            if name.len() > LONGEST || together > LONGEST_TOGETHER {
                return Err(format!(
                    "added token {number} has {} bytes, and {together} with those before it; expected at \
                     most {LONGEST}, and {LONGEST_TOGETHER} in all",
                    name.len()
                ));
            }
            let name = name.to_owned();
            let special = token["special"] == true;
            // What is matched against normalized text takes no part: the tokenizer finds it later.
            if name.is_empty() || !special && token["normalized"] == true {
                continue;
            }
            let single_word = token["single_word"] == true;
            tokens.push(Token { special, single_word });
            if special {
                token["content"] = marked(&name).into();
                // The mark says where it is: no more to be asked of the text around it.
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
            .map_err(|error| format!("its added tokens cannot be searched for: {error}"))?;
        Ok(SpecialTokens { finder, tokens })
    }

    /// The text of a message, made ready for a template.
    pub(crate) fn guard(&self, text: &str) -> Result<String, Failure> {
        refuse_reserved(text)?;
        Ok(self.before_each(GUARD, text, |_, _| true))
    }

    /// The prompt that a template made of guarded texts.
    pub(crate) fn prompt(&self, rendered: &str) -> Prompt {
        let rendered: String = rendered.chars().filter(|letter| *letter != MARK).collect();
        let mut marked = self.before_each(MARK, &rendered, |token, (before, after)| {
            !before.ends_with(GUARD)
                && !(token.single_word
                    && (before.ends_with(is_of_word) || after.starts_with(is_of_word)))
        });
        marked.retain(|letter| letter != GUARD);
        let text = marked.chars().filter(|letter| *letter != MARK).collect();
        Prompt { text, marked }
    }

    /// `text` with `sign` before each special token that is `wanted`, by what stands around it.
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

/// Refuses a text in which a character would be taken for a mark.
pub(super) fn refuse_reserved(text: &str) -> Result<(), Failure> {
    match text.chars().find(|letter| is_reserved(*letter)) {
        None => Ok(()),
        Some(letter) => Err(failure(
            Stage::Generate,
            format!(
                "a text has the character U+{:X}, a noncharacter of Unicode, which stands for \
                 something else here",
                u32::from(letter)
            ),
            "take the character out of the text",
        )),
    }
}

/// Whether a character stands for something else than itself.
pub(crate) fn is_reserved(letter: char) -> bool {
    letter == MARK || letter == GUARD
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn marked(name: &str) -> String {
    format!("{MARK}{name}")
}

/// The same in the tokenizer's model, which has special tokens in its vocabulary sometimes.
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
    // Tokenizers that were made from sentencepiece's can merge characters to a special token.
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
