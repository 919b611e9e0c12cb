//! The mixes of llama.cpp: GGUF files with matrices of different types.
//!
//! Source: `llama_tensor_get_type_impl` in `llama-quant.cpp`. It gives most matrices the type in the
//! name of the mix, and more bits to the matrices with the highest loss: values, the outputs of
//! attention and of the feed-forward network, embedding and output matrix.

use super::block_types::{bits, for_rows};
use modelgate_protocol::{DType, Scheme};
use std::collections::HashSet;

/// A mix in one model.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    scheme: Scheme,
    /// The type of most matrices.
    base: DType,
    /// The number of layers.
    layers: u64,
    /// The number of experts. 0 for a model without experts.
    experts: u64,
    /// The number of heads that share a key and a value.
    heads_per_key: u64,
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

/// The number of experts with which llama.cpp gives more bits to attention.
const EXPERTS_OF_MIXTRAL: u64 = 8;

/// The number of layers of the models in which llama.cpp gives more bits to the values, because
/// several heads share them (`LLM_TYPE_70B`).
const LAYERS_OF_70B: u64 = 80;

/// The relative difference from the rule within which the bits per weight of the layers must be.
/// Older versions of llama.cpp gave other types to the values of some models, which have a
/// hundredth to a tenth of the weights of a layer.
const TOLERANCE: f64 = 0.02;

impl Mix {
    /// Returns the mix `scheme` in the model with tensors of these names and shapes (rows first).
    /// `None` for schemes with one type.
    pub(super) fn new<'a>(
        scheme: Scheme,
        tensors: impl Iterator<Item = (&'a str, &'a [u64])>,
    ) -> Option<Mix> {
        let base = scheme.dtype().filter(|_| scheme.is_mix())?;
        let mut layers = HashSet::new();
        let (mut experts, mut queries, mut keys) = (0, 0, 0);
        for (name, shape) in tensors {
            layers.extend(layer(name));
            experts = experts.max(experts_of(name, shape));
            let rows = shape.first().copied().unwrap_or(0);
            match kind(name) {
                Kind::Key => keys = rows,
                _ if has_part(name, "attn_q") => queries = rows,
                _ => {}
            }
        }
        let heads_per_key = queries / u64::max(keys, 1);
        Some(Mix { scheme, base, layers: layers.len() as u64, experts, heads_per_key })
    }

    /// Returns the types that a matrix with this name and rows of `row` weights may have. It is
    /// empty if the matrix cannot be quantized.
    pub(super) fn types(&self, name: &str, row: u64) -> Vec<DType> {
        let kind = kind(name);
        let mut types = match kind {
            Kind::Vocabulary => self.types_of_vocabulary(),
            // in an older file, the layers of the rule are not in order
            _ => (0..self.layers)
                .flat_map(|layer| {
                    [false, true].map(|importance| self.rule(kind, layer, importance))
                })
                .collect(),
        };
        types.sort();
        types.dedup();
        types.iter().filter_map(|dtype| for_rows(dtype, row)).collect()
    }

    /// Returns the type of a matrix of a layer, by the rule of llama.cpp. `importance` says whether
    /// an importance matrix was used.
    fn rule(&self, kind: Kind, layer: u64, importance: bool) -> DType {
        let layers = self.layers;
        let in_first_eighth = layer < layers / 8;
        let more_bits = in_first_eighth || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        let has_experts = self.experts == EXPERTS_OF_MIXTRAL;
        match (kind, self.scheme) {
            (Kind::Key | Kind::Value, _) if has_experts => DType::Q8_0,
            (Kind::Value, _) => self.rule_of_values(layer, more_bits),
            (
                Kind::AttentionOutput,
                Scheme::Q2K | Scheme::Q3KS | Scheme::Q3KM | Scheme::Q4KS | Scheme::Q4KM,
            ) if has_experts => DType::Q5K,
            (Kind::AttentionOutput, _) if has_experts => self.base.clone(),
            (Kind::AttentionOutput | Kind::Down, Scheme::Q2K) => DType::Q3K,
            (Kind::AttentionOutput, Scheme::Q3KM) => DType::Q4K,
            (Kind::AttentionOutput | Kind::Down, Scheme::Q3KL) => DType::Q5K,
            (Kind::Down, Scheme::Q2KS) if in_first_eighth => DType::Q4K,
            (Kind::Down, Scheme::Q3KM) if layer < layers / 16 => DType::Q5K,
            (Kind::Down, Scheme::Q3KM) => DType::Q4K,
            (Kind::Down, Scheme::Q4KS) if in_first_eighth => DType::Q5K,
            (Kind::Down, Scheme::Q4KM | Scheme::Q5KM) if more_bits => DType::Q6K,
            (Kind::Down, Scheme::Q4_0) if importance && in_first_eighth => DType::Q4_1,
            (Kind::Down, Scheme::Q5_0) if importance && in_first_eighth => DType::Q5_1,
            _ => self.base.clone(),
        }
    }

    /// Returns the type of the values of a layer without experts.
    fn rule_of_values(&self, layer: u64, more_bits: bool) -> DType {
        let dtype = match self.scheme {
            Scheme::Q2K | Scheme::Q2KS if self.heads_per_key >= 4 => DType::Q4K,
            Scheme::Q2K => DType::Q3K,
            Scheme::Q3KM if layer >= 2 => DType::Q4K,
            Scheme::Q3KM | Scheme::Q3KL => DType::Q5K,
            Scheme::Q4KS if layer < 4 => DType::Q5K,
            Scheme::Q4KM | Scheme::Q5KM if more_bits => DType::Q6K,
            _ => self.base.clone(),
        };
        let is_shared = self.layers == LAYERS_OF_70B && self.heads_per_key > 1;
        match dtype {
            DType::Q3K | DType::Q4K if is_shared => DType::Q5K,
            dtype => dtype,
        }
    }

    /// Returns the types of the embedding and the output matrix: from the base type to q8_0,
    /// because users of llama.cpp choose them separately (`--output-tensor-type`).
    fn types_of_vocabulary(&self) -> Vec<DType> {
        const TYPES: [DType; 10] = [
            DType::Q2K,
            DType::Q3K,
            DType::Q4_0,
            DType::Q4K,
            DType::Q4_1,
            DType::Q5_0,
            DType::Q5K,
            DType::Q5_1,
            DType::Q6K,
            DType::Q8_0,
        ];
        let has_enough_bits = |dtype: &DType| bits(dtype) >= bits(&self.base);
        TYPES.into_iter().filter(has_enough_bits).collect()
    }

    /// Returns the minimum and the maximum of the bits per weight of matrices of layers, given
    /// their names and shapes. Matrices that cannot be quantized are left out.
    pub(super) fn bounds<'a>(
        &self,
        matrices: impl Iterator<Item = (&'a str, &'a [u64])> + Clone,
    ) -> (f64, f64) {
        let bits = |importance| {
            let (mut weights, mut bytes) = (0u64, 0u64);
            for (name, shape) in matrices.clone() {
                let dtype = self.rule(kind(name), layer(name).unwrap_or(0), importance);
                let row = shape.last().copied().unwrap_or(0);
                let elements = shape.iter().fold(1, |all: u64, size| all.saturating_mul(*size));
                if let Some(size) = for_rows(&dtype, row).and_then(|dtype| dtype.bytes(elements)) {
                    weights = weights.saturating_add(elements);
                    bytes = bytes.saturating_add(size);
                }
            }
            bytes as f64 * 8.0 / weights.max(1) as f64
        };
        // an importance matrix can only add bits
        (bits(false) * (1.0 - TOLERANCE), bits(true) * (1.0 + TOLERANCE))
    }
}

/// Returns whether the tensor belongs to a layer.
pub(super) fn is_in_layer(name: &str) -> bool {
    layer(name).is_some()
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

/// Returns the number of experts of which the tensor is evidence: all of a merged tensor
/// (`ffn_up_exps`), or those up to its own number in an older file (`ffn_up.E`).
fn experts_of(name: &str, shape: &[u64]) -> u64 {
    let last = name.rsplit('.').nth(1).unwrap_or_default();
    match (is_in_layer(name), shape, last.parse::<u64>()) {
        (true, [experts, _, _], _) => *experts,
        (true, _, Ok(number)) => number.saturating_add(1),
        _ => 0,
    }
}

/// Returns whether the name contains `part`, alone or for all experts.
fn has_part(name: &str, part: &str) -> bool {
    name.split('.').any(|found| found.strip_suffix("_exps").unwrap_or(found) == part)
}

fn kind(name: &str) -> Kind {
    if !is_in_layer(name) {
        Kind::Vocabulary
    } else if has_part(name, "attn_k") {
        Kind::Key
    } else if has_part(name, "attn_v") {
        Kind::Value
    } else if has_part(name, "attn_output") {
        Kind::AttentionOutput
    } else if has_part(name, "ffn_down") {
        Kind::Down
    } else {
        Kind::Bulk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the mix in a model with `layers` layers.
    fn mix(scheme: Scheme, layers: u64) -> Mix {
        let names: Vec<String> = (0..layers).map(|n| format!("blk.{n}.ffn_up.weight")).collect();
        let tensors = names.iter().map(|name| (name.as_str(), &[512, 256][..]));
        Mix::new(scheme, tensors).expect("a mix")
    }

    #[test]
    fn sensitive_matrices_have_more_bits() {
        let mix = mix(Scheme::Q4KM, 32);
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
    fn experts_are_counted_in_merged_and_separate_tensors() {
        for (name, shape, expected) in [
            ("blk.0.ffn_up.7.weight", &[512, 256][..], 8),
            ("blk.0.ffn_up_exps.weight", &[8, 512, 256], 8),
            ("blk.0.ffn_up_exps.weight", &[4, 512, 256], 4),
            ("blk.0.ffn_up.weight", &[512, 256], 0),
            ("token_embd.weight", &[512, 256], 0),
        ] {
            let mix = Mix::new(Scheme::Q4KM, [(name, shape)].into_iter()).expect("a mix");
            assert_eq!(mix.experts, expected, "{name} {shape:?}");
        }
    }

    #[test]
    fn rows_not_divisible_by_the_block_size_have_fallback_types() {
        let mix = mix(Scheme::Q4KM, 32);
        assert_eq!(mix.types("blk.0.ffn_up.weight", 896), [DType::Q5_0]);
        assert_eq!(mix.types("blk.0.attn_v.weight", 896), [DType::Q5_0, DType::Q8_0]);
        assert_eq!(mix.types("blk.0.attn_v.weight", 300), []);
    }

    #[test]
    fn a_scheme_with_one_type_is_not_a_mix() {
        for scheme in [Scheme::None, Scheme::Q4K, Scheme::Q5K, Scheme::Q8_0] {
            assert!(
                Mix::new(scheme, [("blk.0.ffn_up.weight", &[8u64, 256][..])].into_iter()).is_none()
            );
        }
    }
}
