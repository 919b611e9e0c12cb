//! The quantization that a manifest requests.

use crate::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A quantization scheme: one block type for all matrices, no quantization, or a mix of llama.cpp,
/// which exists only in GGUF files.
///
/// The rule in `modelgate-model` decides which tensors a scheme quantizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// No quantization.
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
    /// llama.cpp's `Q4_1`: 5 bits per weight.
    #[serde(rename = "q4_1")]
    Q4_1,
    /// llama.cpp's `Q5_0`: 5.5 bits per weight.
    #[serde(rename = "q5_0")]
    Q5_0,
    /// llama.cpp's `Q5_1`: 6 bits per weight.
    #[serde(rename = "q5_1")]
    Q5_1,
    /// llama.cpp's `Q2_K`: mostly 2.625 bits per weight.
    #[serde(rename = "q2_k")]
    Q2K,
    /// llama.cpp's `Q2_K_S`.
    #[serde(rename = "q2_k_s")]
    Q2KS,
    /// llama.cpp's `Q3_K_S`: mostly 3.4375 bits per weight.
    #[serde(rename = "q3_k_s")]
    Q3KS,
    /// llama.cpp's `Q3_K_M`.
    #[serde(rename = "q3_k_m")]
    Q3KM,
    /// llama.cpp's `Q3_K_L`.
    #[serde(rename = "q3_k_l")]
    Q3KL,
    /// llama.cpp's `Q4_K_S`.
    #[serde(rename = "q4_k_s")]
    Q4KS,
    /// llama.cpp's `Q4_K_M`.
    #[serde(rename = "q4_k_m")]
    Q4KM,
    /// llama.cpp's `Q5_K_S`.
    #[serde(rename = "q5_k_s")]
    Q5KS,
    /// llama.cpp's `Q5_K_M`.
    #[serde(rename = "q5_k_m")]
    Q5KM,
}

impl Scheme {
    /// The schemes to which weights can be quantized during a load.
    pub const UNIFORM: [Scheme; 6] =
        [Scheme::None, Scheme::Q4_0, Scheme::Q4K, Scheme::Q5K, Scheme::Q6K, Scheme::Q8_0];

    /// The schemes that exist only in GGUF files.
    pub const GGUF_ONLY: [Scheme; 12] = [
        Scheme::Q4_1,
        Scheme::Q5_0,
        Scheme::Q5_1,
        Scheme::Q2K,
        Scheme::Q2KS,
        Scheme::Q3KS,
        Scheme::Q3KM,
        Scheme::Q3KL,
        Scheme::Q4KS,
        Scheme::Q4KM,
        Scheme::Q5KS,
        Scheme::Q5KM,
    ];

    /// Returns the block type of all matrices, or of most matrices of a mix. `None` for
    /// [`Scheme::None`].
    pub fn dtype(self) -> Option<DType> {
        Some(match self {
            Scheme::None => return None,
            Scheme::Q4_0 => DType::Q4_0,
            Scheme::Q4_1 => DType::Q4_1,
            Scheme::Q5_0 => DType::Q5_0,
            Scheme::Q5_1 => DType::Q5_1,
            Scheme::Q8_0 => DType::Q8_0,
            Scheme::Q2K | Scheme::Q2KS => DType::Q2K,
            Scheme::Q3KS | Scheme::Q3KM | Scheme::Q3KL => DType::Q3K,
            Scheme::Q4K | Scheme::Q4KS | Scheme::Q4KM => DType::Q4K,
            Scheme::Q5K | Scheme::Q5KS | Scheme::Q5KM => DType::Q5K,
            Scheme::Q6K => DType::Q6K,
        })
    }

    /// Returns whether the scheme exists only in GGUF files.
    pub fn is_gguf_only(self) -> bool {
        Scheme::GGUF_ONLY.contains(&self)
    }

    /// Returns whether the matrices of a GGUF file of this scheme have several types, because
    /// llama.cpp gives more bits to some of them.
    pub fn is_mix(self) -> bool {
        !matches!(self, Scheme::None | Scheme::Q4K | Scheme::Q5K | Scheme::Q8_0)
    }

    /// Returns the name in manifests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::None => "none",
            Scheme::Q4_0 => "q4_0",
            Scheme::Q4K => "q4_k",
            Scheme::Q5K => "q5_k",
            Scheme::Q6K => "q6_k",
            Scheme::Q8_0 => "q8_0",
            Scheme::Q4_1 => "q4_1",
            Scheme::Q5_0 => "q5_0",
            Scheme::Q5_1 => "q5_1",
            Scheme::Q2K => "q2_k",
            Scheme::Q2KS => "q2_k_s",
            Scheme::Q3KS => "q3_k_s",
            Scheme::Q3KM => "q3_k_m",
            Scheme::Q3KL => "q3_k_l",
            Scheme::Q4KS => "q4_k_s",
            Scheme::Q4KM => "q4_k_m",
            Scheme::Q5KS => "q5_k_s",
            Scheme::Q5KM => "q5_k_m",
        }
    }

    /// Returns all schemes, in the order of messages.
    pub fn all() -> impl Iterator<Item = Scheme> {
        Scheme::UNIFORM.into_iter().chain(Scheme::GGUF_ONLY)
    }

    /// Returns the scheme with this name, if there is one.
    pub fn from_name(name: &str) -> Option<Scheme> {
        Scheme::all().find(|scheme| scheme.name() == name)
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_equal_displayed_names() {
        assert_eq!(Scheme::all().count(), 18);
        for scheme in Scheme::all() {
            let json = serde_json::to_string(&scheme).expect("serializes");
            assert_eq!(json, format!("\"{scheme}\""));
            assert_eq!(Scheme::from_name(scheme.name()), Some(scheme));
        }
    }
}
