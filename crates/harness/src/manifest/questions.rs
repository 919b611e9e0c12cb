//! Resolves the questions of a model: chats with their accepted answers.

use super::model::Question;
use super::read::{OneOrMany, RawGeneration, RawMessage, RawPart, Spanned};
use super::resolver::{MAX_CONTEXT, Resolver, Result};
use modelgate_protocol::{ContentPart, Message};
use std::collections::HashSet;
use std::path::PathBuf;

const DEFAULT_MAX_TOKENS: u32 = 64;

impl Resolver<'_> {
    /// Validates the questions of a model. No key gives an empty list.
    pub(super) fn generations(
        &self,
        raw: Option<Spanned<OneOrMany<RawGeneration>>>,
    ) -> Result<Vec<Question>> {
        let Some(raw) = raw else {
            return Ok(Vec::new());
        };
        let span = raw.span();
        let OneOrMany(list) = raw.into_inner();
        if list.is_empty() {
            return self.error(
                span,
                "generation is an empty list",
                "remove the key to use the built-in questions",
            );
        }
        let mut names = HashSet::new();
        let mut questions = Vec::with_capacity(list.len());
        for (index, raw) in list.into_iter().enumerate() {
            let name_span = raw.name.as_ref().map_or_else(|| span.clone(), Spanned::span);
            let question = self.question(index, raw)?;
            if !names.insert(question.name.clone()) {
                return self.error(
                    name_span,
                    format!("generation \"{}\" is duplicated", question.name),
                    "give each question a different name",
                );
            }
            questions.push(question);
        }
        Ok(questions)
    }

    fn question(&self, index: usize, raw: RawGeneration) -> Result<Question> {
        let messages = match (raw.prompt, raw.messages) {
            (Some(prompt), None) => vec![Message {
                role: "user".into(),
                content: vec![ContentPart::Text(self.text(&prompt, "prompt")?)],
            }],
            (None, Some(messages)) => {
                let span = messages.span();
                let list = messages.into_inner();
                if list.is_empty() {
                    return self.error(
                        span,
                        "messages is an empty list",
                        "add at least one message",
                    );
                }
                list.into_iter().map(|raw| self.message(raw)).collect::<Result<_>>()?
            }
            _ => {
                return self.error(
                    raw.expect.span(),
                    "a generation needs either prompt or messages",
                    "use `prompt` for one message of the user, or `messages` for a chat",
                );
            }
        };
        let max_tokens = match raw.max_tokens {
            None => DEFAULT_MAX_TOKENS,
            Some(n) if (1..=MAX_CONTEXT).contains(n.get_ref()) => n.into_inner(),
            Some(n) => {
                return self.error(
                    n.span(),
                    format!("max_tokens is {}, expected 1 to {MAX_CONTEXT}", n.get_ref()),
                    "set it to the maximum number of tokens of an answer",
                );
            }
        };
        let expect = raw.expect.get_ref().0.clone();
        if expect.is_empty() || expect.iter().any(|answer| answer.trim().is_empty()) {
            return self.error(
                raw.expect.span(),
                "expect is empty: every text would pass",
                "list the accepted answers, for example [\"Paris\"]",
            );
        }
        let name = match &raw.name {
            Some(name) => self.text(name, "name")?,
            None => format!("question-{}", index + 1),
        };
        Ok(Question { name, messages, max_tokens, expect })
    }

    fn message(&self, raw: RawMessage) -> Result<Message> {
        let role = raw.role.get_ref().clone();
        if !["system", "user", "assistant"].contains(&role.as_str()) {
            return self.error(
                raw.role.span(),
                format!("role is \"{role}\", expected system, user or assistant"),
                "set it to system, user or assistant",
            );
        }
        let span = raw.content.span();
        let OneOrMany(parts) = raw.content.into_inner();
        if parts.is_empty() {
            return self.error(span, "content is empty", "write the text of the message");
        }
        let content = parts
            .into_iter()
            .map(|part| match part {
                RawPart::Text(text) => Ok(ContentPart::Text(text)),
                RawPart::Image(path) => self.unsupported_medium(&path, "image"),
                RawPart::Audio(path) => self.unsupported_medium(&path, "audio"),
            })
            .collect::<Result<_>>()?;
        Ok(Message { role, content })
    }

    fn unsupported_medium<T>(&self, path: &Spanned<PathBuf>, medium: &str) -> Result<T> {
        self.error(
            path.span(),
            format!(
                "{medium} input is not supported: the {medium} encoder of a model is not loaded"
            ),
            "remove it: this version evaluates the text part of every model",
        )
    }

    fn text(&self, text: &Spanned<String>, key: &str) -> Result<String> {
        if text.get_ref().trim().is_empty() {
            return self.error(
                text.span(),
                format!("{key} is empty"),
                "write a text between the quotes",
            );
        }
        Ok(text.get_ref().clone())
    }
}
