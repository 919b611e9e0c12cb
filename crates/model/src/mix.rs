//! The mixes of llama.cpp: GGUF files with matrices of different types.
//!
//! Source: `llama-quant.cpp`, which gives most matrices the type in the name of the mix, and more
//! bits to the matrices with the highest loss: values, the outputs of attention and of the
//! feed-forward network, embedding and output matrix.

use crate::rule::{FALLBACKS, divides, fallback, role};
use modelgate_protocol::{DType, Role, Scheme};

/// The types in a mix.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The type of most matrices; no matrix has fewer bits.
    pub base: DType,
    /// The minimum and maximum of [`Mix::bits_per_weight`]. Embedding and output matrix are left
    /// out, because their share of the weights varies between a twentieth and a third.
    pub bounds: (f64, f64),
}

/// The largest type of a matrix in a mix.
const LARGEST: DType = DType::Q8_0;

/// Returns the types in a GGUF file of this scheme. `None` for schemes with one type.
pub fn mix(scheme: Scheme) -> Option<Mix> {
    let base = scheme.dtype()?;
    // computed from the rule for models of 1 to 80 layers in which the output matrices of the
    // feed-forward network are a quarter to two fifths of the layer, with a margin of 0.1
    let (min, max) = match scheme {
        Scheme::Q2K => (2.75, 3.6),
        Scheme::Q2KS => (2.6, 3.3),
        Scheme::Q3KS => (3.4, 3.7),
        Scheme::Q3KM => (3.6, 4.3),
        Scheme::Q3KL => (3.85, 4.8),
        Scheme::Q4_0 => (4.5, 4.7),
        Scheme::Q4_1 => (5.0, 5.2),
        Scheme::Q4KS => (4.5, 4.8),
        Scheme::Q4KM => (4.6, 5.2),
        Scheme::Q5_0 => (5.5, 5.7),
        Scheme::Q5_1 => (6.0, 6.2),
        Scheme::Q5KS => (5.5, 5.7),
        Scheme::Q5KM => (5.55, 6.0),
        Scheme::Q6K => (6.5, 6.7),
        Scheme::None | Scheme::Q4K | Scheme::Q5K | Scheme::Q8_0 => return None,
    };
    Some(Mix { base, bounds: (min, max) })
}

impl Mix {
    /// Returns whether a matrix with this name and shape (rows first) may have this type.
    pub fn permits(&self, name: &str, shape: &[u64], dtype: &DType) -> bool {
        let role = role(name, shape);
        let (Some(bits), Some(min), Some(max)) = (bits(dtype), bits(&self.base), bits(&LARGEST))
        else {
            return false;
        };
        if !role.is_quantizable() || !dtype.is_quantized() || bits < min || bits > max {
            return false;
        }
        if is_bulk(name, role) {
            return *dtype == self.bulk(shape);
        }
        !falls_back(&self.base, shape) || FALLBACKS.iter().any(|(_, other)| dtype == other)
    }

    /// Returns the type of most matrices with this shape.
    pub fn bulk(&self, shape: &[u64]) -> DType {
        match fallback(&self.base) {
            Some(other) if falls_back(&self.base, shape) => other,
            _ => self.base.clone(),
        }
    }

    /// Returns the bits per weight of `tensors` (name, shape, bytes) that have bounds. `None` if
    /// the block divides the rows of less than half of the weights of the layers.
    pub fn bits_per_weight<'a>(
        &self,
        tensors: impl Iterator<Item = (&'a str, &'a [u64], u64)>,
    ) -> Option<f64> {
        let (mut weights, mut counted, mut bytes) = (0u64, 0u64, 0u64);
        for (name, shape, size) in tensors {
            if !matches!(role(name, shape), Role::Linear | Role::Expert) {
                continue;
            }
            let elements = shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size));
            weights = weights.saturating_add(elements);
            if !falls_back(&self.base, shape) {
                counted = counted.saturating_add(elements);
                bytes = bytes.saturating_add(size);
            }
        }
        (counted > 0 && counted >= weights / 2).then(|| bytes as f64 * 8.0 / counted as f64)
    }
}

fn falls_back(dtype: &DType, shape: &[u64]) -> bool {
    !divides(dtype, shape.last().copied().unwrap_or(0))
}

/// Returns the bits per weight of a type.
fn bits(dtype: &DType) -> Option<f64> {
    let (elements, bytes) = dtype.block()?;
    Some(bytes as f64 * 8.0 / elements as f64)
}

/// Returns whether a matrix has the base type in every mix.
fn is_bulk(name: &str, role: Role) -> bool {
    let has = |part: &str| name.split('.').any(|found| found == part);
    matches!(role, Role::Linear | Role::Expert)
        && ["attn_q", "ffn_gate", "ffn_up", "ffn_gate_exps", "ffn_up_exps"]
            .iter()
            .any(|part| has(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_matrices_have_more_bits() {
        let mix = mix(Scheme::Q4KM).expect("a mix");
        let permits = |name: &str, dtype: DType| mix.permits(name, &[512, 256], &dtype);
        assert!(permits("blk.0.ffn_up.weight", DType::Q4K));
        assert!(!permits("blk.0.ffn_up.weight", DType::Q6K));
        assert!(!permits("blk.0.ffn_gate.3.weight", DType::Q6K));
        assert!(!permits("blk.0.attn_q.weight", DType::Q8_0));
        for name in ["blk.0.attn_v.weight", "blk.0.ffn_down.weight", "output.weight"] {
            assert!(permits(name, DType::Q6K) && permits(name, DType::Q4K), "{name}");
            assert!(!permits(name, DType::Q3K) && !permits(name, DType::F16), "{name}");
        }
        assert!(permits("blk.0.attn_k.weight", DType::Q8_0), "as in Mixtral");
        assert!(!permits("blk.0.attn_norm.weight", DType::Q4K));
    }

    #[test]
    fn rows_not_divisible_by_the_block_size_have_fallback_types() {
        let mix = mix(Scheme::Q4KM).expect("a mix");
        let permits = |name: &str, dtype: DType| mix.permits(name, &[512, 896], &dtype);
        assert!(permits("blk.0.ffn_up.weight", DType::Q5_0));
        assert!(!permits("blk.0.ffn_up.weight", DType::Q8_0));
        assert!(permits("blk.0.attn_v.weight", DType::Q8_0));
        assert!(!permits("blk.0.attn_v.weight", DType::F16));
        let q2_k = super::mix(Scheme::Q2K).expect("a mix");
        assert!(!q2_k.permits("blk.0.ffn_up.weight", &[512, 896], &DType::Q8_0));
        // as in Qwen2.5 0.5B: the block divides the rows of one matrix of each layer
        let (wide, down) = ([4864u64, 896], [896u64, 4864]);
        let layer = [
            ("blk.0.ffn_up.weight", &wide[..], 4864 * 896 / 32 * 22),
            ("blk.0.ffn_gate.weight", &wide[..], 4864 * 896 / 32 * 22),
            ("blk.0.ffn_down.weight", &down[..], 4864 * 896 / 256 * 210),
        ];
        assert_eq!(mix.bits_per_weight(layer.into_iter()), None);
        let bits = mix.bits_per_weight(layer.into_iter().skip(1)).expect("half of the weights");
        assert!((bits - 6.5625).abs() < 1e-9, "{bits}");
    }

    #[test]
    fn a_scheme_with_one_type_is_not_a_mix() {
        assert_eq!(super::mix(Scheme::Q4K), None);
        assert_eq!(super::mix(Scheme::None), None);
    }
}
