//! Answers chats: greedily, twice, with measurements. Judges nothing.

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

/// Answers one chat twice, each time from an empty cache.
///
/// # Errors
/// The template refuses the chat, prompt and answer do not fit the context, or the engine fails.
/// Logits that are not finite are no error: they are counted, and end the answer.
pub fn answer(
    model: &mut Model,
    request: &GenerationRequest,
    events: Events,
) -> Result<Generation, Failure> {
    let (inputs, prompt_tokens) = prompt(model, request)?;
    let max_tokens = request.max_tokens as usize;
    refuse(model, &request.name, prompt_tokens.len(), max_tokens)?;
    let total = 2 * (prompt_tokens.len() + max_tokens) as u64;
    let progress = ProgressReporter::new(ProgressUnit::Tokens, total, events);
    let first = run(model, &prompt_tokens, max_tokens, &progress)?;
    let second = run(model, &prompt_tokens, max_tokens, &progress)?;
    progress.finish();
    Ok(Generation {
        name: request.name.clone(),
        inputs,
        text: model.decode(&first.tokens)?,
        prompt_tokens,
        logprobs: first.logprobs,
        nonfinite_logits: first.nonfinite + second.nonfinite,
        time_to_first_token_s: first.first_token.map(Finite::seconds),
        decode_tokens_per_s: first.tokens_per_s,
        finish_reason: first.finish_reason,
        repeated_identically: first.tokens == second.tokens,
        tokens: first.tokens,
    })
}

/// Returns the prompt as it was rendered, and its tokens.
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
                "token {token} of \"{}\" is not below the size of the vocabulary, \
                     {vocabulary}",
                request.name
            ),
            "use token IDs below the size of the vocabulary",
        )),
    }
}

/// Refuses an empty prompt, and a prompt and answer that do not fit the context.
fn refuse(model: &Model, name: &str, prompt: usize, answer: usize) -> Result<(), Failure> {
    if prompt == 0 {
        let message = format!(
            "the prompt of \"{name}\" has no tokens in {}",
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
            "\"{name}\": a prompt of {prompt} tokens and an answer of up to {answer} do not fit a \
             context of {} positions",
            model.context()
        ),
        format!("set context to at least {}, or use a lower max_tokens", prompt + answer),
    ))
}

/// One answer and its measurements.
struct Run {
    tokens: Vec<u32>,
    logprobs: Vec<Option<Finite>>,
    nonfinite: u64,
    first_token: Option<Duration>,
    tokens_per_s: Option<Finite>,
    finish_reason: FinishReason,
}

/// Answers once, from an empty cache.
fn run(
    model: &mut Model,
    prompt: &[u32],
    max_tokens: usize,
    progress: &ProgressReporter,
) -> Result<Run, Failure> {
    model.reset();
    let mut sampler = LogitsProcessor::from_sampling(0, Sampling::ArgMax);
    let mut run = Run {
        tokens: Vec::new(),
        logprobs: Vec::new(),
        nonfinite: 0,
        first_token: None,
        tokens_per_s: None,
        finish_reason: FinishReason::Length,
    };
    let begin = Instant::now();
    let (mut input, mut position) = (prompt.to_vec(), 0);
    while run.tokens.len() < max_tokens {
        let logits = model.next(&input, position, progress)?;
        let Some(token) = run.choose(&mut sampler, &logits)? else { break };
        run.first_token.get_or_insert_with(|| begin.elapsed());
        if model.stop_tokens().contains(&token) {
            run.finish_reason = FinishReason::Stop;
            break;
        }
        position += input.len();
        input = vec![token];
    }
    if let Some(first) = run.first_token {
        let (later, decoding) = (run.tokens.len().saturating_sub(1), begin.elapsed() - first);
        model.count_prefill(prompt.len(), first);
        model.count_decode(prompt.len(), later, decoding);
        run.tokens_per_s = Finite::new(later as f64 / decoding.as_secs_f64()).filter(|_| later > 0);
    }
    Ok(run)
}

impl Run {
    /// Appends the likeliest token; returns `None` if a logit is not finite.
    fn choose(
        &mut self,
        sampler: &mut LogitsProcessor,
        logits: &Tensor,
    ) -> Result<Option<u32>, Failure> {
        let internal = failures::internal(Stage::Generate);
        let logits = &logits.to_device(&Device::Cpu).map_err(&internal)?;
        let values = logits.to_vec1::<f32>().map_err(&internal)?;
        let nonfinite = values.iter().filter(|value| !value.is_finite()).count() as u64;
        self.nonfinite += nonfinite;
        if nonfinite > 0 {
            return Ok(None);
        }
        let token = sampler.sample(logits).map_err(internal)?;
        self.tokens.push(token);
        self.logprobs.push(Finite::new(log_probability(&values, token)));
        Ok(Some(token))
    }
}
