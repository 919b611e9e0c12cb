//! How surprised a model is by a text: exp of the mean negative log likelihood of its tokens.

use crate::fail;
use crate::generate::log_probability;
use crate::meter::Reporter;
use crate::model::{Events, LOGIT_ROWS, Model};
use modelgate_model::PREFILL_CHUNK;
use modelgate_protocol::{Failure, Finite, Perplexity, ProgressUnit, Stage};
use sha2::{Digest, Sha256};

/// The perplexity of `text`, with the special tokens that the tokenizer puts around every text.
/// Where it is longer than the context it is cut into windows, each of which begins anew, and
/// whose first tokens are not predicted.
///
/// # Errors
/// The text has fewer than two tokens, or the engine fails.
pub fn perplexity(model: &mut Model, text: &str, events: Events) -> Result<Perplexity, Failure> {
    let tokens = model.encode(text, true)?;
    if tokens.len() < 2 {
        let message = format!(
            "the text has {} tokens by {}; expected two at least",
            tokens.len(),
            model.tokenizer_path().display()
        );
        return Err(crate::tokenizer::failure(Stage::Generate, message, "give a longer text"));
    }
    let progress = Reporter::new(ProgressUnit::Tokens, tokens.len() as u64, events);
    let (mut sum, mut count) = (0.0, 0);
    for window in tokens.chunks(model.context()) {
        sum += window_loss(model, window, &progress)?;
        count += window.len() as u64 - 1;
    }
    progress.finish();
    let digest = Sha256::digest(text.as_bytes());
    Ok(Perplexity {
        text_sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        tokens: count,
        value: Finite::new((sum / count as f64).exp()),
    })
}

/// Sum of the negative log likelihoods of all tokens of a window but the first.
fn window_loss(model: &mut Model, window: &[u32], progress: &Reporter) -> Result<f64, Failure> {
    model.reset();
    let mut sum = 0.0;
    for (number, chunk) in window.chunks(PREFILL_CHUNK).enumerate() {
        let start = number * PREFILL_CHUNK;
        let hidden = model.hidden(chunk, start)?;
        // The token that each position predicts: the one after it, if there is one.
        let targets = &window[start + 1..window.len().min(start + chunk.len() + 1)];
        for (part, targets) in targets.chunks(LOGIT_ROWS).enumerate() {
            let rows = hidden
                .narrow(0, part * LOGIT_ROWS, targets.len())
                .map_err(fail::internal(Stage::Generate))?;
            let logits = model.logits(&rows)?;
            let losses =
                logits.iter().zip(targets).map(|(row, token)| -log_probability(row, *token));
            sum += losses.sum::<f64>();
        }
        progress.advance(chunk.len() as u64);
    }
    Ok(sum)
}
