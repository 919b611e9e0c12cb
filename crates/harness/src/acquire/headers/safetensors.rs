//! The header of a safetensors file: its length in 8 bytes, then JSON.
//! Source: <https://huggingface.co/docs/safetensors>.

use super::header::{Header, invalid};
use crate::acquire::companions::Embedded;
use ::safetensors::Dtype;
use ::safetensors::tensor::Metadata;
use modelgate_protocol::DType;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The maximum length of a header in bytes, equal to the limit of the safetensors crate.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Reads the header of the file at `path`.
///
/// # Errors
/// The file cannot be read, or its header is invalid.
pub(super) fn read(path: &Path) -> io::Result<Header> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(invalid(format!(
            "header length: expected at most {MAX_HEADER_BYTES} bytes, found {length}"
        )));
    }
    let mut json = Vec::new();
    file.take(length).read_to_end(&mut json)?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|error| invalid(format!("the header is not that of safetensors: {error}")))?;
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        if let Some(info) = metadata.info(&name) {
            let shape = info.shape.iter().map(|size| *size as u64).collect();
            tensors.push((name, shape, dtype(info.dtype)));
        }
    }
    Ok(Header { tensors, file_type: None, experts: None, embedded: Embedded::default() })
}

/// Converts a type of the safetensors crate.
fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        other => DType::Other(other.to_string().to_lowercase()),
    }
}
