//! Answers each chat twice by greedy decoding, and measures the answers. Does not judge the
//! results.

use crate::events::Events;
use crate::failures;
use crate::meter::ProgressReporter;
use crate::model::Model;
use crate::numeric::log_probability;
use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use modelgate_protocol::{
    Failure, FailureKind, FinishReason, Finite, Generation, GenerationRequest, ProgressUnit, Stage,
};
use std::time::{Duration, Instant};

/// Answers one chat twice, each time from an empty KV cache.
///
/// # Errors
/// The template rejects the chat, the prompt and the answer do not fit in the context, or the
/// engine fails. Logits that are not finite are not an error: they are counted, and end the answer.
pub fn answer(
    model: &mut Model,
    request: &GenerationRequest,
    events: Events,
) -> Result<Generation, Failure> {
    let (inputs, prompt_tokens) = prompt(model, request)?;
    let max_tokens = request.max_tokens as usize;
    check_lengths(model, &request.name, prompt_tokens.len(), max_tokens)?;
    let total = 2 * (prompt_tokens.len() + max_tokens) as u64;
    let progress = ProgressReporter::new(ProgressUnit::Tokens, total, events);
    let first = answer_once(model, &prompt_tokens, max_tokens, &progress)?;
    let second = answer_once(model, &prompt_tokens, max_tokens, &progress)?;
    progress.finish();
    Ok(Generation {
        name: request.name.clone(),
        inputs,
        text: model.decode(&first.tokens)?,
        prompt_tokens,
        logprobs: first.logprobs,
        non_finite_logits: first.non_finite + second.non_finite,
        time_to_first_token_s: first.first_token.map(Finite::seconds),
        decode_tokens_per_s: first.tokens_per_s,
        finish_reason: first.finish_reason,
        repeated_identically: first.tokens == second.tokens,
        tokens: first.tokens,
    })
}

/// Returns the rendered prompt and its tokens. The list of prompts is empty if the request has
/// tokens instead of messages.
fn prompt(model: &Model, request: &GenerationRequest) -> Result<(Vec<String>, Vec<u32>), Failure> {
    if request.tokens.is_empty() {
        let prompt = model.render(&request.messages)?;
        return Ok((vec![prompt.text().to_owned()], model.encode_prompt(&prompt)?));
    }
    let vocabulary = model.config().vocab;
    match request.tokens.iter().find(|token| **token as usize >= vocabulary) {
        None => Ok((Vec::new(), request.tokens.clone())),
        Some(token) => Err(failures::generate(
            FailureKind::Tokenizer,
            format!(
                "\"{}\": expected token IDs below the vocabulary size {vocabulary}, found {token}",
                request.name
            ),
            "use token IDs below the vocabulary size",
        )),
    }
}

/// Checks that the prompt has tokens, and that the prompt and the answer fit in the context.
/// `prompt` and `answer` are their lengths in tokens.
fn check_lengths(model: &Model, name: &str, prompt: usize, answer: usize) -> Result<(), Failure> {
    if prompt == 0 {
        let message = format!(
            "\"{name}\": the tokenizer {} encodes the prompt to 0 tokens",
            model.tokenizer_path().display()
        );
        return Err(failures::tokenizer(Stage::Generate, message, "add a message to the chat"));
    }
    if prompt + answer <= model.context() {
        return Ok(());
    }
    Err(failures::generate(
        FailureKind::ContextLength,
        format!(
            "\"{name}\": a prompt of {prompt} tokens and an answer of up to {answer} tokens do not \
             fit in a context of {} positions",
            model.context()
        ),
        format!("set `context` to at least {}; or set a lower `max_tokens`", prompt + answer),
    ))
}

/// One answer and its measurements.
struct Answer {
    tokens: Vec<u32>,
    /// The natural logarithm of the probability of each token.
    logprobs: Vec<Option<Finite>>,
    /// The number of logits that were not finite.
    non_finite: u64,
    /// The time to the first token. `None` if there is no token.
    first_token: Option<Duration>,
    /// The number of tokens per second after the first token. `None` if there is at most one token.
    tokens_per_s: Option<Finite>,
    finish_reason: FinishReason,
}

/// Answers once, from an empty KV cache.
fn answer_once(
    model: &mut Model,
    prompt: &[u32],
    max_tokens: usize,
    progress: &ProgressReporter,
) -> Result<Answer, Failure> {
    model.reset();
    let mut sampler = LogitsProcessor::from_sampling(0, Sampling::ArgMax);
    let mut answer = Answer {
        tokens: Vec::new(),
        logprobs: Vec::new(),
        non_finite: 0,
        first_token: None,
        tokens_per_s: None,
        finish_reason: FinishReason::Length,
    };
    let begin = Instant::now();
    let (mut input, mut position) = (prompt.to_vec(), 0);
    while answer.tokens.len() < max_tokens {
        let logits = model.next(&input, position, progress)?;
        let Some(token) = answer.append_most_likely(&mut sampler, &logits)? else { break };
        answer.first_token.get_or_insert_with(|| begin.elapsed());
        if model.stop_tokens().contains(&token) {
            answer.finish_reason = FinishReason::Stop;
            break;
        }
        position += input.len();
        input = vec![token];
    }
    if let Some(first) = answer.first_token {
        let (later, decoding) = (answer.tokens.len().saturating_sub(1), begin.elapsed() - first);
        model.count_prefill(prompt.len(), first);
        model.count_decode(prompt.len(), later, decoding);
        answer.tokens_per_s =
            Finite::new(later as f64 / decoding.as_secs_f64()).filter(|_| later > 0);
    }
    Ok(answer)
}

impl Answer {
    /// Appends the token with the highest logit in `logits` (vocabulary), and returns it. `None` if
    /// a logit is not finite.
    fn append_most_likely(
        &mut self,
        sampler: &mut LogitsProcessor,
        logits: &Tensor,
    ) -> Result<Option<u32>, Failure> {
        let internal = failures::internal(Stage::Generate);
        let logits = &logits.to_device(&Device::Cpu).map_err(&internal)?;
        let values = logits.to_vec1::<f32>().map_err(&internal)?;
        let non_finite = values.iter().filter(|value| !value.is_finite()).count() as u64;
        self.non_finite += non_finite;
        if non_finite > 0 {
            return Ok(None);
        }
        let token = sampler.sample(logits).map_err(internal)?;
        self.tokens.push(token);
        self.logprobs.push(Finite::new(log_probability(&values, token)));
        Ok(Some(token))
    }
}
