//! The reserved characters, which mark special tokens. No text may contain them.

use crate::failures;
use modelgate_protocol::{Failure, Stage};

/// The character at the beginning of the renamed special tokens. It is a noncharacter, which
/// Unicode reserves for internal use.
pub(super) const MARK: char = '\u{10FFFF}';

/// The character before each text in a message that looks like a special token.
pub(super) const GUARD: char = '\u{10FFFE}';

/// Returns whether a character is reserved.
pub(crate) fn is_reserved(letter: char) -> bool {
    letter == MARK || letter == GUARD
}

/// Checks that a text contains no reserved character.
pub(super) fn refuse_reserved(text: &str) -> Result<(), Failure> {
    match text.chars().find(|letter| is_reserved(*letter)) {
        None => Ok(()),
        Some(letter) => Err(failures::tokenizer(
            Stage::Generate,
            format!(
                "a text contains the reserved character U+{:X}, a noncharacter of Unicode",
                u32::from(letter)
            ),
            "remove the character from the text",
        )),
    }
}
