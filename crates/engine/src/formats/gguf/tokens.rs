//! The tokens of a GGUF file's vocabulary.

/// A token of the vocabulary, with its id.
pub(super) struct Token<'a> {
    pub(super) id: usize,
    pub(super) text: &'a str,
    pub(super) kind: TokenKind,
}

/// The kind of a token, equal to `llama_token_type` of llama.cpp.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// Returns the kind with the given number in llama.cpp; `None` if the number is not 1 to 6.
    pub(super) fn from_number(number: u64) -> Option<TokenKind> {
        Some(match number {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => return None,
        })
    }
}
