//! Conversions between the ggml types of candle and the types of the protocol.

use super::with_block;
use candle_core::quantized::{GgmlDType, GgmlType};
use modelgate_protocol::DType;

/// Converts a type of the protocol to candle's type. `None` if the type has no blocks.
pub(crate) fn to_ggml(dtype: &DType) -> Option<GgmlDType> {
    with_block!(dtype, B => Some(B::DTYPE), else None)
}

/// Converts a type of candle to the type of the protocol.
pub(crate) fn from_ggml(dtype: GgmlDType) -> DType {
    match dtype {
        GgmlDType::F32 => DType::F32,
        GgmlDType::F16 => DType::F16,
        GgmlDType::BF16 => DType::Bf16,
        GgmlDType::Q4_0 => DType::Q4_0,
        GgmlDType::Q4_1 => DType::Q4_1,
        GgmlDType::Q5_0 => DType::Q5_0,
        GgmlDType::Q5_1 => DType::Q5_1,
        GgmlDType::Q8_0 => DType::Q8_0,
        GgmlDType::Q2K => DType::Q2K,
        GgmlDType::Q3K => DType::Q3K,
        GgmlDType::Q4K => DType::Q4K,
        GgmlDType::Q5K => DType::Q5K,
        GgmlDType::Q6K => DType::Q6K,
        GgmlDType::Q8_1 => DType::Other("q8_1".into()),
        GgmlDType::Q8K => DType::Other("q8_k".into()),
    }
}
