//! The mixes of llama.cpp: GGUF files with matrices of different types.
//!
//! Source: `llama_tensor_get_type_impl` in `llama-quant.cpp`. It gives most matrices the type in the
//! name of the mix, and more bits to the matrices with the highest loss: values, the outputs of
//! attention and of the feed-forward network, embedding and output matrix.

use super::block_types::{bits, for_rows};
use modelgate_protocol::{DType, Scheme};

/// A mix in one model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mix {
    scheme: Scheme,
    /// The minimum and the maximum of the bits per weight of the matrices of the layers. Embedding
    /// and output matrix are left out, because their share of the weights varies between a twentieth
    /// and a third.
    pub(super) bounds: (f64, f64),
    /// Whether the layers have experts.
    experts: bool,
    /// The number of layers.
    layers: u64,
}

/// A matrix in terms of the rule of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The embedding or the output matrix.
    Vocabulary,
    Key,
    Value,
    AttentionOutput,
    Down,
    /// A matrix that has the base type in every mix.
    Bulk,
}

/// The number of layers of the models in which llama.cpp gives more bits to the values, because
/// eight heads share them (`LLM_TYPE_70B`).
const LAYERS_OF_70B: u64 = 80;

impl Mix {
    /// Returns the mix `scheme` in the model with tensors of these names. `None` for schemes with
    /// one type.
    pub(super) fn new<'a>(
        scheme: Scheme,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<Mix> {
        let layers = names.clone().filter_map(layer).map(|layer| layer + 1).max().unwrap_or(0);
        let experts = names.clone().any(is_expert);
        Some(Mix { scheme, bounds: bounds(scheme)?, experts, layers })
    }

    /// Returns the types that a matrix with this name and rows of `row` weights may have; the first
    /// one is the usual one. It is empty if the matrix cannot be quantized.
    pub(super) fn types(&self, name: &str, row: u64) -> Vec<DType> {
        let kind = kind(name);
        if kind == Kind::Vocabulary {
            return self.types_of_vocabulary(row);
        }
        let Some(base) = self.scheme.dtype() else { return Vec::new() };
        let mut types = match (kind, self.scheme) {
            (Kind::Value, Scheme::Q2K) => vec![DType::Q4K, DType::Q3K],
            (Kind::Value, Scheme::Q2KS) => vec![DType::Q4K, DType::Q2K],
            (Kind::Value | Kind::Down, Scheme::Q3KM) => vec![DType::Q4K, DType::Q5K],
            (Kind::Value | Kind::Down, Scheme::Q3KL) => vec![DType::Q5K],
            (Kind::Value | Kind::Down, Scheme::Q4KS) => vec![base.clone(), DType::Q5K],
            (Kind::Value | Kind::Down, Scheme::Q4KM | Scheme::Q5KM) => {
                vec![base.clone(), DType::Q6K]
            }
            (Kind::Down, Scheme::Q2K) => vec![DType::Q3K],
            (Kind::Down, Scheme::Q2KS) => vec![base.clone(), DType::Q4K],
            // only with an importance matrix
            (Kind::Down, Scheme::Q4_0) => vec![base.clone(), DType::Q4_1],
            (Kind::Down, Scheme::Q5_0) => vec![base.clone(), DType::Q5_1],
            (Kind::AttentionOutput, Scheme::Q2K) => vec![DType::Q3K],
            (Kind::AttentionOutput, Scheme::Q3KM) => vec![DType::Q4K],
            (Kind::AttentionOutput, Scheme::Q3KL) => vec![DType::Q5K],
            _ => vec![base.clone()],
        };
        if kind == Kind::Value && self.layers == LAYERS_OF_70B {
            let has_few_bits = types.iter().any(|dtype| matches!(dtype, DType::Q3K | DType::Q4K));
            types.extend(has_few_bits.then_some(DType::Q5K));
        }
        if self.experts {
            match kind {
                Kind::Key | Kind::Value => types.push(DType::Q8_0),
                Kind::AttentionOutput => types.extend([base, DType::Q5K]),
                _ => {}
            }
        }
        types.iter().filter_map(|dtype| for_rows(dtype, row)).collect()
    }

    /// Returns the types of the embedding and the output matrix: from the base type to
    /// q8_0, because users of llama.cpp choose them separately (`--output-tensor-type`).
    fn types_of_vocabulary(&self, row: u64) -> Vec<DType> {
        const TYPES: [DType; 10] = [
            DType::Q6K,
            DType::Q2K,
            DType::Q3K,
            DType::Q4_0,
            DType::Q4K,
            DType::Q4_1,
            DType::Q5_0,
            DType::Q5K,
            DType::Q5_1,
            DType::Q8_0,
        ];
        let min = self.scheme.dtype().as_ref().and_then(bits);
        let has_enough_bits = |dtype: &DType| bits(dtype) >= min;
        TYPES.iter().filter_map(|dtype| for_rows(dtype, row)).filter(has_enough_bits).collect()
    }

    /// Returns whether the block of the base type divides rows of `row` weights.
    pub(super) fn divides(&self, row: u64) -> bool {
        let base = self.scheme.dtype();
        base.is_some_and(|base| for_rows(&base, row).as_ref() == Some(&base))
    }
}

/// Returns whether the tensor belongs to a layer.
pub(super) fn is_in_layer(name: &str) -> bool {
    layer(name).is_some()
}

/// Returns [`Mix::bounds`]. `None` for schemes with one type.
fn bounds(scheme: Scheme) -> Option<(f64, f64)> {
    // computed from the rule for models of 1 to 80 layers in which the output matrices of the
    // feed-forward network are a quarter to two fifths of the layer, with a margin of 0.1
    Some(match scheme {
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
    })
}

/// Returns the scheme with this number in `enum llama_ftype` of `llama.h`, the value of
/// `general.file_type`. `None` for other schemes.
pub(super) fn scheme_of_file_type(file_type: u64) -> Option<Scheme> {
    Some(match file_type {
        2 => Scheme::Q4_0,
        3 => Scheme::Q4_1,
        7 => Scheme::Q8_0,
        8 => Scheme::Q5_0,
        9 => Scheme::Q5_1,
        10 => Scheme::Q2K,
        11 => Scheme::Q3KS,
        12 => Scheme::Q3KM,
        13 => Scheme::Q3KL,
        14 => Scheme::Q4KS,
        15 => Scheme::Q4KM,
        16 => Scheme::Q5KS,
        17 => Scheme::Q5KM,
        18 => Scheme::Q6K,
        21 => Scheme::Q2KS,
        _ => return None,
    })
}

/// Returns the number of the layer of a tensor `blk.N.*`.
fn layer(name: &str) -> Option<u64> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// Returns whether the tensor belongs to experts: merged (`ffn_up_exps`), or separate in older
/// files (`ffn_up.E`).
fn is_expert(name: &str) -> bool {
    let mut parts = name.rsplit('.').skip(1);
    parts.next().is_some_and(|part| part.ends_with("_exps") || part.parse::<u64>().is_ok())
        && is_in_layer(name)
}

fn kind(name: &str) -> Kind {
    let has = |part: &str| {
        name.split('.').any(|found| found.strip_suffix("_exps").unwrap_or(found) == part)
    };
    if !is_in_layer(name) {
        Kind::Vocabulary
    } else if has("attn_k") {
        Kind::Key
    } else if has("attn_v") {
        Kind::Value
    } else if has("attn_output") {
        Kind::AttentionOutput
    } else if has("ffn_down") {
        Kind::Down
    } else {
        Kind::Bulk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENSE: [&str; 2] = ["blk.0.ffn_up.weight", "blk.31.ffn_up.weight"];

    fn mix(scheme: Scheme, names: &[&str]) -> Mix {
        Mix::new(scheme, names.iter().copied()).expect("a mix")
    }

    #[test]
    fn sensitive_matrices_have_more_bits() {
        let mix = mix(Scheme::Q4KM, &DENSE);
        let permits = |name: &str, dtype: DType| mix.types(name, 256).contains(&dtype);
        assert!(permits("blk.0.ffn_up.weight", DType::Q4K));
        assert!(!permits("blk.0.ffn_up.weight", DType::Q6K));
        assert!(!permits("blk.0.attn_q.weight", DType::Q8_0));
        for name in ["blk.0.attn_v.weight", "blk.0.ffn_down.weight", "output.weight"] {
            assert!(permits(name, DType::Q6K) && permits(name, DType::Q4K), "{name}");
            assert!(!permits(name, DType::Q3K) && !permits(name, DType::F16), "{name}");
        }
        assert!(!permits("blk.0.attn_v.weight", DType::Q5K), "as in q4_k_s");
        assert!(!permits("blk.0.attn_k.weight", DType::Q8_0), "only with experts");
    }

    #[test]
    fn models_with_experts_or_80_layers_have_more_bits_in_attention() {
        let experts = mix(Scheme::Q4KM, &["blk.0.ffn_up.7.weight"]);
        assert!(experts.types("blk.0.attn_k.weight", 256).contains(&DType::Q8_0));
        assert!(experts.types("blk.0.attn_output.weight", 256).contains(&DType::Q5K));
        assert!(!experts.types("blk.0.ffn_gate.3.weight", 256).contains(&DType::Q6K));
        assert!(experts.types("blk.0.ffn_down.3.weight", 256).contains(&DType::Q6K));
        assert!(mix(Scheme::Q4KM, &["blk.0.ffn_up_exps.weight"]).experts);
        for (layers, expected) in [("blk.79.ffn_up.weight", true), ("blk.78.ffn_up.weight", false)]
        {
            let types = mix(Scheme::Q4KM, &[layers]).types("blk.0.attn_v.weight", 256);
            assert_eq!(types.contains(&DType::Q5K), expected, "{layers}");
        }
    }

    #[test]
    fn rows_not_divisible_by_the_block_size_have_fallback_types() {
        let mix = mix(Scheme::Q4KM, &DENSE);
        assert_eq!(mix.types("blk.0.ffn_up.weight", 896), [DType::Q5_0]);
        assert_eq!(mix.types("blk.0.attn_v.weight", 896), [DType::Q5_0, DType::Q8_0]);
        assert_eq!(mix.types("blk.0.attn_v.weight", 300), []);
        assert!(!mix.divides(896) && mix.divides(4864));
    }

    #[test]
    fn a_scheme_with_one_type_is_not_a_mix() {
        for scheme in [Scheme::None, Scheme::Q4K, Scheme::Q5K, Scheme::Q8_0] {
            assert!(Mix::new(scheme, DENSE.into_iter()).is_none());
        }
    }
}
