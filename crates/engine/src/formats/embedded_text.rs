//! The tokenizer and the chat template in weight files.

use modelgate_protocol::Failure;
use std::path::Path;

/// The tokenizer and the chat template that weight files contain, converted to the file formats of
/// a Hugging Face repository.
pub(crate) trait EmbeddedText {
    /// Returns the path of the weight file, for messages.
    fn path(&self) -> &Path;

    /// Returns the tokenizer as the content of a `tokenizer.json`; `None` if the file has no
    /// tokenizer.
    ///
    /// # Errors
    /// The tokenizer in the file is invalid or not supported.
    fn tokenizer(&self) -> Result<Option<serde_json::Value>, Failure>;

    /// Returns the source text of the chat template; `None` if the file has no chat template.
    fn chat_template(&self) -> Option<&str>;

    /// Returns a remark for the report on how the tokenizer is read. `None` if there is nothing
    /// unusual.
    fn note(&self) -> Option<String>;

    /// Returns the special tokens that a chat template may refer to, as the content of a
    /// `tokenizer_config.json`.
    fn special_tokens(&self) -> serde_json::Value;
}
