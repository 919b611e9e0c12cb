//! The quantization that a manifest asks for.

use crate::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A quantization scheme: one block type for every matrix, or none at all.
///
/// Which tensors it touches is said by the rule in `modelgate-model`, not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Nothing is quantized.
    None,
    /// 4.5 bits per weight: blocks of 32 with one f16 scale.
    #[serde(rename = "q4_0")]
    Q4_0,
    /// 4.5 bits per weight: super-blocks of 256, 6-bit scales and minima.
    #[serde(rename = "q4_k")]
    Q4K,
    /// 5.5 bits per weight: super-blocks of 256, 6-bit scales and minima.
    #[serde(rename = "q5_k")]
    Q5K,
    /// 6.5625 bits per weight: super-blocks of 256, 8-bit scales.
    #[serde(rename = "q6_k")]
    Q6K,
    /// 8.5 bits per weight: blocks of 32 with one f16 scale.
    #[serde(rename = "q8_0")]
    Q8_0,
}

impl Scheme {
    /// Every scheme, in the order in which messages list them.
    pub const ALL: [Scheme; 6] =
        [Scheme::None, Scheme::Q4_0, Scheme::Q4K, Scheme::Q5K, Scheme::Q6K, Scheme::Q8_0];

    /// The block type that the scheme gives a matrix; none for [`Scheme::None`].
    pub fn dtype(self) -> Option<DType> {
        match self {
            Scheme::None => None,
            Scheme::Q4_0 => Some(DType::Q4_0),
            Scheme::Q4K => Some(DType::Q4K),
            Scheme::Q5K => Some(DType::Q5K),
            Scheme::Q6K => Some(DType::Q6K),
            Scheme::Q8_0 => Some(DType::Q8_0),
        }
    }

    /// The name as manifests and reports write it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::None => "none",
            Scheme::Q4_0 => "q4_0",
            Scheme::Q4K => "q4_k",
            Scheme::Q5K => "q5_k",
            Scheme::Q6K => "q6_k",
            Scheme::Q8_0 => "q8_0",
        }
    }

    /// The scheme of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|scheme| scheme.name() == name)
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
