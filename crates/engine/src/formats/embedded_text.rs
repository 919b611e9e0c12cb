//! A tokenizer and a chat template that weight files hold themselves.

use modelgate_protocol::Failure;
use std::path::Path;

/// A tokenizer and a chat template that weight files hold themselves, in the forms of the files of a
/// Hugging Face repository.
pub(crate) trait EmbeddedText {
    /// Returns the file, for messages.
    fn path(&self) -> &Path;

    /// Returns the tokenizer as a `tokenizer.json`; `None` if the file has none.
    ///
    /// # Errors
    /// The file's tokenizer is not sound or not supported.
    fn tokenizer(&self) -> Result<Option<serde_json::Value>, Failure>;

    /// Returns the chat template; `None` if the file has none.
    fn chat_template(&self) -> Option<&str>;

    /// Returns the special tokens that a template may name, as a `tokenizer_config.json`.
    fn special_tokens(&self) -> serde_json::Value;
}
