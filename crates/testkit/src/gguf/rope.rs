//! The order of rows and the frequency factors of rotary position embedding in llama.cpp's GGUF
//! files.

use modelgate_model::{Config, Family, RopeScaling};

/// Returns the values with the rows of q and k permuted, if llama.cpp's architecture is `llama`:
/// the pair (i, i + half) of each head becomes (2 i, 2 i + 1). Other tensors are returned
/// unchanged.
pub(super) fn permuted(config: &Config, name: &str, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    if !matches!(config.family, Family::Llama | Family::Mixtral) {
        return values;
    }
    let heads = match name.rsplit('.').nth(1) {
        Some("q_proj") => config.heads,
        Some("k_proj") => config.kv_heads,
        _ => return values,
    };
    let (rows, columns) = (shape[0], values.len() / shape[0]);
    let head = rows / heads;
    let mut out = vec![0.0; values.len()];
    for row in 0..rows {
        let (first, within) = (row / head * head, row % head);
        let source = first + within / 2 + (within % 2) * (head / 2);
        out[row * columns..][..columns].copy_from_slice(&values[source * columns..][..columns]);
    }
    out
}

/// Returns the divisors of the RoPE frequencies for the tensor `rope_freqs.weight`, one for each of
/// the `head_dim / 2` pairs.
pub(crate) fn rope_factors(config: &Config, scaling: RopeScaling) -> Vec<f32> {
    let low = scaling.original_context / scaling.low_freq_factor;
    let high = scaling.original_context / scaling.high_freq_factor;
    let factor = |pair: usize| {
        let exponent = 2.0 * pair as f64 / config.head_dim as f64;
        let wavelength = std::f64::consts::TAU * config.rope.theta.powf(exponent);
        if wavelength < high {
            1.0
        } else if wavelength > low {
            scaling.factor
        } else {
            let smooth = (scaling.original_context / wavelength - scaling.low_freq_factor)
                / (scaling.high_freq_factor - scaling.low_freq_factor);
            1.0 / ((1.0 - smooth) / scaling.factor + smooth)
        }
    };
    (0..config.head_dim / 2).map(|pair| factor(pair) as f32).collect()
}
