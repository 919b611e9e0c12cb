//! The types of tensor values, in a file or resident on a device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The element or block type of a tensor. The names are those of ggml and safetensors in lower
/// case.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names are the documentation
pub enum DType {
    F32,
    F64,
    F16,
    Bf16,
    #[serde(rename = "q4_0")]
    Q4_0,
    #[serde(rename = "q4_1")]
    Q4_1,
    #[serde(rename = "q5_0")]
    Q5_0,
    #[serde(rename = "q5_1")]
    Q5_1,
    #[serde(rename = "q8_0")]
    Q8_0,
    #[serde(rename = "q2_k")]
    Q2K,
    #[serde(rename = "q3_k")]
    Q3K,
    #[serde(rename = "q4_k")]
    Q4K,
    #[serde(rename = "q5_k")]
    Q5K,
    #[serde(rename = "q6_k")]
    Q6K,
    /// A type of another engine, with its name.
    #[serde(untagged)]
    Other(String),
}

impl DType {
    /// Returns elements and bytes of one block: 1 and the size of an element for float types.
    /// `None` for a type with an unknown layout. Source: `ggml-common.h`.
    pub fn block(&self) -> Option<(u64, u64)> {
        Some(match self {
            DType::F32 => (1, 4),
            DType::F64 => (1, 8),
            DType::F16 | DType::Bf16 => (1, 2),
            DType::Q4_0 => (32, 18),
            DType::Q4_1 => (32, 20),
            DType::Q5_0 => (32, 22),
            DType::Q5_1 => (32, 24),
            DType::Q8_0 => (32, 34),
            DType::Q2K => (256, 84),
            DType::Q3K => (256, 110),
            DType::Q4K => (256, 144),
            DType::Q5K => (256, 176),
            DType::Q6K => (256, 210),
            DType::Other(_) => return None,
        })
    }

    /// Returns whether the type consists of blocks of quantized values.
    pub fn is_quantized(&self) -> bool {
        !matches!(self, DType::F32 | DType::F64 | DType::F16 | DType::Bf16)
    }

    /// Returns the bytes of a tensor of `elements` values. `None` if the block size does not divide
    /// their number, or the layout is unknown.
    pub fn bytes(&self, elements: u64) -> Option<u64> {
        let (block, bytes) = self.block()?;
        elements.is_multiple_of(block).then(|| (elements / block).saturating_mul(bytes))
    }

    /// Returns the name in reports and manifests.
    pub fn name(&self) -> &str {
        match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::Q4_0 => "q4_0",
            DType::Q4_1 => "q4_1",
            DType::Q5_0 => "q5_0",
            DType::Q5_1 => "q5_1",
            DType::Q8_0 => "q8_0",
            DType::Q2K => "q2_k",
            DType::Q3K => "q3_k",
            DType::Q4K => "q4_k",
            DType::Q5K => "q5_k",
            DType::Q6K => "q6_k",
            DType::Other(name) => name,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_equal_displayed_names() {
        for dtype in [
            DType::F32,
            DType::F64,
            DType::Bf16,
            DType::Q4_0,
            DType::Q8_0,
            DType::Q4K,
            DType::Other("nf4".into()),
        ] {
            let json = serde_json::to_string(&dtype).expect("serializes");
            assert_eq!(json, format!("\"{}\"", dtype.name()));
            let back: DType = serde_json::from_str(&json).expect("parses");
            assert_eq!(back, dtype);
        }
    }

    #[test]
    fn the_byte_size_is_the_block_count_times_the_block_size() {
        assert_eq!(DType::Q4K.bytes(512), Some(288));
        assert_eq!(DType::Q4K.bytes(300), None);
        assert_eq!(DType::Bf16.bytes(3), Some(6));
    }
}
