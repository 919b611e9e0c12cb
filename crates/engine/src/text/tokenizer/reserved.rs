//! The characters that mark special tokens, and that no text may have.

use crate::failures;
use modelgate_protocol::{Failure, Stage};

/// Begins the name of a special token. A noncharacter: Unicode reserves it for internal use.
pub(super) const MARK: char = '\u{10FFFF}';

/// Precedes the characters of a special token in a message.
pub(super) const GUARD: char = '\u{10FFFE}';

/// Returns whether a character is one of those that mark special tokens.
pub(crate) fn is_reserved(letter: char) -> bool {
    letter == MARK || letter == GUARD
}

/// Refuses a text with such a character.
pub(super) fn refuse_reserved(text: &str) -> Result<(), Failure> {
    match text.chars().find(|letter| is_reserved(*letter)) {
        None => Ok(()),
        Some(letter) => Err(failures::tokenizer(
            Stage::Generate,
            format!(
                "a text has the character U+{:X}, a noncharacter of Unicode, which is reserved \
                 here",
                u32::from(letter)
            ),
            "remove the character from the text",
        )),
    }
}
