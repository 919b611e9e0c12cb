//! The tokenizer and the chat template of one model.

use super::chat::ChatTemplate;
use super::tokenizer::{Prompt, TextCodec};
use crate::formats::EmbeddedText;
use modelgate_model::Config;
use modelgate_protocol::{Failure, Message, ModelFiles, WeightFormat};

/// The tokenizer and the chat template of one model.
pub(crate) struct ModelText {
    codec: TextCodec,
    template: Result<ChatTemplate, Failure>,
}

impl ModelText {
    /// Opens the tokenizer and the chat template, which are files of the model or parts of its
    /// weight files (`embedded`). `needs_template` says whether the chat template will be used.
    ///
    /// # Errors
    /// The tokenizer is missing, is invalid, or belongs to another model. With `needs_template`, a
    /// missing or invalid template is an error too.
    pub(crate) fn open(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
        config: &Config,
        needs_template: bool,
    ) -> Result<ModelText, Failure> {
        let codec = TextCodec::open(files, embedded, config)?;
        let template = ChatTemplate::open(files, embedded);
        if let (Err(failure), true) = (&template, needs_template) {
            return Err(failure.clone());
        }
        Ok(ModelText { codec, template })
    }

    /// Returns the tokenizer.
    pub(crate) fn codec(&self) -> &TextCodec {
        &self.codec
    }

    /// Returns a remark if vLLM stops at a token that is not among `ids`: it also stops at the
    /// `eos_token` of the tokenizer. `None` for GGUF files, which vLLM reads differently.
    pub(crate) fn other_stop(&self, files: &ModelFiles, ids: &[u32]) -> Option<String> {
        if files.format != WeightFormat::Safetensors {
            return None;
        }
        let token = self.template.as_ref().ok()?.eos_token()?;
        let prompt = self.codec.special().prompt(&token);
        let [id] = self.codec.encode_prompt(&prompt).ok()?[..] else { return None };
        (!ids.contains(&id)).then(|| {
            format!(
                "vLLM also stops at \"{token}\" ({id}), the eos_token of the tokenizer; transformers \
                 does not, because the generation config does not contain it"
            )
        })
    }

    /// Renders `messages`, up to the beginning of the answer.
    ///
    /// # Errors
    /// The template is missing or invalid, or rejects the messages.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<Prompt, Failure> {
        match &self.template {
            Ok(template) => template.render(messages, self.codec.special()),
            Err(failure) => Err(failure.clone()),
        }
    }
}
