//! The tokenizer and the chat template of one model.

use super::chat::ChatTemplate;
use super::tokenizer::{Prompt, TextCodec};
use crate::formats::EmbeddedText;
use modelgate_model::Config;
use modelgate_protocol::{Failure, Message, ModelFiles};

/// The tokenizer and the chat template of one model.
pub(crate) struct ModelText {
    codec: TextCodec,
    template: Result<ChatTemplate, Failure>,
}

impl ModelText {
    /// Opens the tokenizer and the chat template among the model's files, or else those that the
    /// weight files hold. A model without a template can be opened; `chats` is whether it will be
    /// needed.
    ///
    /// # Errors
    /// The tokenizer is missing, not sound, or not the model's; or the template is, if it will be
    /// needed.
    pub(crate) fn open(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
        config: &Config,
        chats: bool,
    ) -> Result<ModelText, Failure> {
        let codec = TextCodec::open(files, embedded, config)?;
        let template = ChatTemplate::open(files, embedded);
        if let (Err(failure), true) = (&template, chats) {
            return Err(failure.clone());
        }
        Ok(ModelText { codec, template })
    }

    /// Returns the tokenizer.
    pub(crate) fn codec(&self) -> &TextCodec {
        &self.codec
    }

    /// Renders the prompt that asks for an answer to `messages`.
    ///
    /// # Errors
    /// There is no template, or it refuses the messages.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<Prompt, Failure> {
        match &self.template {
            Ok(template) => template.render(messages, self.codec.special()),
            Err(failure) => Err(failure.clone()),
        }
    }
}
