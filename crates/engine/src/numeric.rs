//! Numeric functions that several modules use.

/// Returns the L2 norm of `found - expected`, divided by the L2 norm of `expected`. The result is
/// NaN if the lengths differ.
pub(crate) fn relative_error<T: Copy + Into<f64>>(found: &[f32], expected: &[T]) -> f64 {
    let square = |value: f64| value * value;
    let pairs = found.iter().zip(expected);
    let difference: f64 = pairs.map(|(a, b)| square(f64::from(*a) - (*b).into())).sum();
    let norm: f64 = expected.iter().map(|value| square((*value).into())).sum();
    if found.len() == expected.len() { (difference / norm).sqrt() } else { f64::NAN }
}

/// Returns the natural logarithm of the softmax probability of `token`, computed in f64. The result
/// is NaN if the token has no logit.
pub(crate) fn log_probability(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    match logits.get(token as usize) {
        Some(logit) => f64::from(*logit) - largest - sum.ln(),
        None => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::log_probability;

    #[test]
    fn log_probabilities_of_extreme_logits_do_not_overflow() {
        let even = log_probability(&[1000.0, 1000.0], 0);
        assert!((even - 0.5f64.ln()).abs() < 1e-12, "{even}");
        assert_eq!(log_probability(&[0.0, -2000.0], 1), -2000.0);
        assert!(log_probability(&[0.0, f32::NAN], 0).is_nan());
        assert!(log_probability(&[0.0], 1).is_nan());
    }
}
