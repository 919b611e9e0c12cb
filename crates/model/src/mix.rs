//! llama.cpp's mixes: GGUF files whose matrices are not all of one type.
//!
//! Source: `llama-quant.cpp`, which gives the bulk of a model the type that the mix is named after,
//! and more bits to the matrices that suffer most: values, attention's and the network's outputs,
//! embedding and output matrix.

use crate::rule::role;
use modelgate_protocol::{DType, Role, Scheme};

/// What a mix may be made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The type of its bulk; no matrix has fewer bits.
    pub base: DType,
    /// What [`Mix::bits_per_weight`] is at least and at most. Embedding and output matrix are left
    /// out: how much of a model they are differs from a twentieth to a third.
    pub bounds: (f64, f64),
}

/// The largest type that a matrix of a mix has.
const LARGEST: DType = DType::Q8_0;

/// What a GGUF file of that scheme may be made of; none for the schemes that are of one type
/// throughout, in GGUF files too.
pub fn mix(scheme: Scheme) -> Option<Mix> {
    let base = scheme.dtype()?;
    // Worked out from the rule for models of 1 to 80 layers in which the network's output matrices
    // are a quarter to two fifths of the layer, with 0.1 of room.
    let (least, most) = match scheme {
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
    Some(Mix { base, bounds: (least, most) })
}

impl Mix {
    /// Whether a matrix of that name and shape (rows first) may have that type.
    pub fn permits(&self, name: &str, shape: &[u64], dtype: &DType) -> bool {
        let role = role(name, shape);
        let (Some(bits), Some(least), Some(most)) = (bits(dtype), bits(&self.base), bits(&LARGEST))
        else {
            return false;
        };
        if !role.is_quantizable() || !dtype.is_quantized() || bits < least || bits > most {
            return false;
        }
        if is_bulk(name, role) {
            return *dtype == self.bulk(shape);
        }
        !falls_back(&self.base, shape) || FALLBACKS.iter().any(|(_, other)| dtype == other)
    }

    /// The type of the bulk's matrices of that shape.
    pub fn bulk(&self, shape: &[u64]) -> DType {
        let fallback = FALLBACKS.iter().find(|(dtype, _)| *dtype == self.base);
        match fallback {
            Some((_, other)) if falls_back(&self.base, shape) => other.clone(),
            _ => self.base.clone(),
        }
    }

    /// Bits per weight of `tensors` (name, shape, bytes), as far as they are bounded; `None` if
    /// the block divides the rows of less than half of the layers' weights.
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

/// What llama.cpp takes where a type's block does not divide the rows (`tensor_type_fallback`).
const FALLBACKS: [(DType, DType); 5] = [
    (DType::Q2K, DType::Q4_0),
    (DType::Q3K, DType::Q4_0),
    (DType::Q4K, DType::Q5_0),
    (DType::Q5K, DType::Q5_1),
    (DType::Q6K, DType::Q8_0),
];

fn falls_back(dtype: &DType, shape: &[u64]) -> bool {
    let row = shape.last().copied().unwrap_or(0);
    !dtype.block().is_some_and(|(block, _)| row.is_multiple_of(block))
}

/// Bits per weight of a type.
fn bits(dtype: &DType) -> Option<f64> {
    let (elements, bytes) = dtype.block()?;
    Some(bytes as f64 * 8.0 / elements as f64)
}

/// Matrices that have the base type in every mix.
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
    fn more_bits_are_for_the_matrices_that_need_them() {
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
        assert!(permits("blk.0.attn_k.weight", DType::Q8_0), "as Mixtral's");
        assert!(!permits("blk.0.attn_norm.weight", DType::Q4K));
    }

    #[test]
    fn rows_that_the_block_does_not_divide_have_their_own_types() {
        let mix = mix(Scheme::Q4KM).expect("a mix");
        let permits = |name: &str, dtype: DType| mix.permits(name, &[512, 896], &dtype);
        assert!(permits("blk.0.ffn_up.weight", DType::Q5_0));
        assert!(!permits("blk.0.ffn_up.weight", DType::Q8_0));
        assert!(permits("blk.0.attn_v.weight", DType::Q8_0));
        assert!(!permits("blk.0.attn_v.weight", DType::F16));
        let q2_k = super::mix(Scheme::Q2K).expect("a mix");
        assert!(!q2_k.permits("blk.0.ffn_up.weight", &[512, 896], &DType::Q8_0));
        // as Qwen2.5 0.5B has it: of each layer the block divides the rows of one matrix
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
    fn a_scheme_of_one_type_is_no_mix() {
        assert_eq!(super::mix(Scheme::Q4K), None);
        assert_eq!(super::mix(Scheme::None), None);
    }
}
