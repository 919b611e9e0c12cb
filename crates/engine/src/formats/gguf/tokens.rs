//! The tokens of a GGUF file's vocabulary.

/// A token of the vocabulary.
pub(super) struct Token<'a> {
    pub(super) id: usize,
    pub(super) text: &'a str,
    pub(super) kind: TokenKind,
}

/// `llama_token_type` of llama.cpp.
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
    /// Returns the kind of that number.
    pub(super) fn of(number: u64) -> Option<TokenKind> {
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
