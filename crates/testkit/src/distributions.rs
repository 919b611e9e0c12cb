//! Comparison of the token distributions that logits describe.

/// Returns the log-probabilities of a row of logits, computed in f64.
pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - highest) - sum.ln()).collect()
}

/// Returns the Kullback-Leibler divergence from the distribution of `reference` to that of `other`,
/// both log-probabilities, in nats.
pub fn divergence(reference: &[f64], other: &[f64]) -> f64 {
    reference.iter().zip(other).map(|(p, q)| p.exp() * (p - q)).sum()
}
