//! The perplexity of a text: `exp` of the mean negative log-likelihood of its tokens.

use crate::events::Events;
use crate::failures;
use crate::meter::ProgressReporter;
use crate::model::{LOGIT_ROWS, Model};
use crate::numeric::log_probability;
use crate::thread_pool::in_pool;
use modelgate_model::PREFILL_CHUNK;
use modelgate_protocol::{Failure, Finite, Perplexity, ProgressUnit, Stage};
use sha2::{Digest, Sha256};

/// Computes the perplexity of `text`, with the special tokens that the tokenizer puts before every
/// text. A text that is longer than the context is split into windows, each of which begins with
/// those tokens. If the tokenizer adds none, each window begins with the first token of the text.
///
/// # Errors
/// The text has fewer than two tokens, the context has no position after the leading tokens, or the
/// engine fails.
pub fn perplexity(model: &mut Model, text: &str, events: Events) -> Result<Perplexity, Failure> {
    let tokens = model.encode(text, true)?;
    let mut lead = model.encode("", true)?;
    // some tokenizers also append tokens to a text; `lead` keeps only those at its beginning
    lead.truncate(tokens.iter().zip(&lead).take_while(|(a, b)| a == b).count());
    let room = model.context().saturating_sub(lead.len().max(1));
    if tokens.len() < 2 || room == 0 {
        let message = format!(
            "perplexity: expected a text of at least 2 tokens and a context of at least {} \
             positions, found {} tokens (tokenizer {}) and {} positions",
            lead.len().max(1) + 1,
            tokens.len(),
            model.tokenizer_path().display(),
            model.context()
        );
        let hint = "use a longer text; or use a longer context";
        return Err(failures::tokenizer(Stage::Generate, message, hint));
    }
    if lead.is_empty() {
        lead.push(tokens[0]);
    }
    let body = &tokens[lead.len()..];
    let progress = ProgressReporter::new(ProgressUnit::Tokens, tokens.len() as u64, events);
    let (mut sum, mut count) = (0.0, 0);
    for part in body.chunks(room) {
        let window = [lead.as_slice(), part].concat();
        sum += in_pool(|| window_loss(model, &window, &progress))?;
        count += window.len() as u64 - 1;
    }
    progress.finish();
    Ok(Perplexity {
        text_sha256: hex::encode(Sha256::digest(text.as_bytes())),
        tokens: count,
        value: Finite::new((sum / count as f64).exp()),
    })
}

/// Returns the sum of the negative log-likelihoods, in nats, of all tokens of a window except the
/// first.
fn window_loss(
    model: &mut Model,
    window: &[u32],
    progress: &ProgressReporter,
) -> Result<f64, Failure> {
    model.reset();
    let mut sum = 0.0;
    for (number, chunk) in window.chunks(PREFILL_CHUNK).enumerate() {
        let start = number * PREFILL_CHUNK;
        let hidden = model.hidden(chunk, start, progress)?;
        // each position predicts the next token; the last position of a window has no target
        let targets = &window[start + 1..window.len().min(start + chunk.len() + 1)];
        for (part, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
            let rows = hidden
                .narrow(0, part * LOGIT_ROWS, targets.len())
                .map_err(failures::internal(Stage::Generate))?;
            let logits = model.logits(&rows)?;
            let losses =
                logits.iter().zip(targets).map(|(row, token)| -log_probability(row, *token));
            sum += losses.sum::<f64>();
        }
    }
    Ok(sum)
}
