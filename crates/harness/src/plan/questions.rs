//! The questions for a model: those of the manifest, otherwise the built-in ones.

use crate::manifest::{Model, Question};
use modelgate_protocol::{ContentPart, GenerationRequest, Message};

/// The maximum length of an answer to a built-in question, in tokens.
const MAX_TOKENS: u32 = 128;

/// Returns the questions of `model` with their accepted answers.
pub(super) fn questions(model: &Model) -> Vec<Question> {
    if !model.generations.is_empty() {
        return model.generations.clone();
    }
    let ask = |name: &str, prompt: &str, expect: &[&str]| Question {
        name: name.to_owned(),
        messages: vec![Message {
            role: "user".into(),
            content: vec![ContentPart::Text(prompt.to_owned())],
        }],
        max_tokens: MAX_TOKENS,
        expect: expect.iter().map(|answer| (*answer).to_owned()).collect(),
    };
    // Small healthy models must pass: SmolLM2 135M Instruct answers both in transformers, but fails at
    // arithmetic.
    vec![
        ask("capital", "What is the capital of France? Answer in one sentence.", &["Paris"]),
        ask("opposite", "What is the opposite of hot? Answer in one sentence.", &["cold", "cool"]),
    ]
}

/// Returns a question without its answers, in the form of a request.
pub(super) fn request(question: Question) -> GenerationRequest {
    GenerationRequest {
        name: question.name,
        messages: question.messages,
        tokens: Vec::new(),
        max_tokens: question.max_tokens,
    }
}
