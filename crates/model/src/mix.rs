//! llama.cpp's mixes: GGUF files whose matrices are not all of one type.
//!
//! Source: `llama-quant.cpp`, which gives the bulk of a model the type that the mix is named after,
//! and more bits to the matrices that suffer most: values, attention's and the network's outputs,
//! embedding and output matrix.

use crate::{Role, role};
use modelgate_protocol::{DType, Scheme};

/// What a mix may be made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    /// The type of its bulk; no matrix has fewer bits.
    pub base: DType,
    /// Bits per weight, least and most, over the matrices of the layers whose rows the base's block
    /// divides. Embedding and output matrix are left out: how much of a model they are differs
    /// from a twentieth to a third.
    pub bits_per_weight: (f64, f64),
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
    Some(Mix { base, bits_per_weight: (least, most) })
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
        // Where the block does not divide the rows, llama.cpp takes blocks of 32 instead.
        let row = shape.last().copied().unwrap_or(0);
        let divides = |dtype: &DType| dtype.block().is_some_and(|(n, _)| row.is_multiple_of(n));
        *dtype == self.base || !divides(&self.base) || !is_bulk(name, role)
    }

    /// Whether a tensor counts in [`Mix::bits_per_weight`].
    pub fn counts(&self, name: &str, shape: &[u64]) -> bool {
        let row = shape.last().copied().unwrap_or(0);
        let divided = self.base.block().is_some_and(|(block, _)| row.is_multiple_of(block));
        divided && matches!(role(name, shape), Role::Linear | Role::Expert)
    }
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
        assert!(mix.permits("blk.0.ffn_up.weight", &[512, 896], &DType::Q5_0));
    }

    #[test]
    fn a_scheme_of_one_type_is_no_mix() {
        assert_eq!(super::mix(Scheme::Q4K), None);
        assert_eq!(super::mix(Scheme::None), None);
    }
}
