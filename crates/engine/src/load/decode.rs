//! Decodes the float types of weight files.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use modelgate_protocol::DType;

/// Decodes little-endian values of a float type (f64, f32, bf16 or f16) into `values`. Values of 64
/// bits are rounded; those outside the range of f32 become infinite.
pub(super) fn decode(dtype: &DType, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        DType::F64 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *value = f64::from_le_bytes(*bytes) as f32;
            }
        }
        DType::Bf16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        DType::F16 => {
            // in groups of 64, so that the conversion instructions of the processor are used
            let mut bits = [0u16; 64];
            for (values, bytes) in values.chunks_mut(64).zip(bytes.chunks(128)) {
                let bits = &mut bits[..values.len()];
                for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *bits = u16::from_le_bytes(*bytes);
                }
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(values);
            }
        }
        // unreachable: the plan decodes float types only
        _ => values.fill(f32::NAN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_type_is_decoded() {
        let expected: Vec<f32> = (0..100).map(|n| (n as f32 - 50.0) / 8.0).collect();
        let mut found = vec![0.0; 100];
        let f32s: Vec<u8> = expected.iter().flat_map(|v| v.to_le_bytes()).collect();
        decode(&DType::F32, &f32s, &mut found);
        assert_eq!(found, expected);
        found.fill(0.0);
        let f64s: Vec<u8> = expected.iter().flat_map(|v| f64::from(*v).to_le_bytes()).collect();
        decode(&DType::F64, &f64s, &mut found);
        assert_eq!(found, expected);
        found.fill(0.0);
        let f16s = expected.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
        decode(&DType::F16, &f16s.collect::<Vec<_>>(), &mut found);
        assert_eq!(found, expected);
        found.fill(0.0);
        let bf16s = expected.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes());
        decode(&DType::Bf16, &bf16s.collect::<Vec<_>>(), &mut found);
        assert_eq!(found, expected);
    }
}
