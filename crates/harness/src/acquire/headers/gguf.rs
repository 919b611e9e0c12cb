//! The header of a GGUF file: counts, metadata, and the list of tensors.
//! Source: `docs/gguf.md` of the ggml repository, and `enum ggml_type` in `ggml.h`.

use super::header::{Header, invalid};
use crate::acquire::companions::Embedded;
use modelgate_protocol::DType;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// The maximum length of a header in bytes. A vocabulary of 262,000 tokens takes less than 20 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// The maximum length of a key or of the name of a tensor in bytes, as in the specification.
const MAX_NAME_BYTES: u64 = 65_535;
/// The maximum number of dimensions (`GGML_MAX_DIMS`).
const MAX_DIMENSIONS: u32 = 4;
/// The maximum depth of lists in lists.
const MAX_DEPTH: u32 = 4;

/// The number of the value type `string`.
const STRING: u32 = 8;
/// The number of the value type `array`.
const ARRAY: u32 = 9;

/// Reads the header of the file at `path`.
///
/// # Errors
/// The file cannot be read, or its header is invalid.
pub(super) fn read(path: &Path) -> io::Result<Header> {
    let file = BufReader::new(File::open(path)?).take(MAX_HEADER_BYTES);
    let mut header = HeaderReader { file, wide: true };
    if header.bytes()? != *b"GGUF" {
        return Err(invalid("expected the magic number GGUF at the start"));
    }
    let version = header.u32()?;
    if !(1..=3).contains(&version) {
        return Err(invalid(format!("GGUF version: expected 1 to 3, found {version}")));
    }
    header.wide = version > 1;
    let (tensor_count, value_count) = (header.length()?, header.length()?);
    let mut file_type = None;
    let (mut expert_count, mut experts_per_token) = (None, None);
    let mut embedded = Embedded::default();
    for _ in 0..value_count {
        let key = header.text()?;
        let number = header.value()?;
        match key.as_str() {
            "general.file_type" => file_type = number,
            "tokenizer.ggml.tokens" => embedded.vocabulary = true,
            "tokenizer.chat_template" => embedded.chat_template = true,
            "tokenizer.ggml.eos_token_id" => embedded.stop_token = true,
            key if key.ends_with(".expert_count") => expert_count = number,
            key if key.ends_with(".expert_used_count") => experts_per_token = number,
            _ => {}
        }
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(header.tensor()?);
    }
    let experts = experts_per_token.zip(expert_count).filter(|(_, count)| *count > 0);
    Ok(Header { tensors, file_type, experts, embedded })
}

/// The position in a header.
struct HeaderReader<R> {
    file: R,
    /// Whether lengths have 64 bits. They have 32 bits in version 1.
    wide: bool,
}

impl<R: Read> HeaderReader<R> {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    /// Reads a length or a count.
    fn length(&mut self) -> io::Result<u64> {
        match self.wide {
            true => Ok(u64::from_le_bytes(self.bytes()?)),
            false => Ok(u64::from(self.u32()?)),
        }
    }

    /// Reads a key or a name.
    fn text(&mut self) -> io::Result<String> {
        let length = self.length()?;
        if length > MAX_NAME_BYTES {
            return Err(invalid(format!(
                "a name: expected at most {MAX_NAME_BYTES} bytes, found {length}"
            )));
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(|error| invalid(format!("a name is not UTF-8: {error}")))
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.file.by_ref().take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads the type and the value of a key. Returns the value if it is a non-negative integer.
    fn value(&mut self) -> io::Result<Option<u64>> {
        let kind = self.u32()?;
        self.value_of(kind, MAX_DEPTH)
    }

    fn value_of(&mut self, kind: u32, depth: u32) -> io::Result<Option<u64>> {
        match kind {
            STRING => {
                let length = self.length()?;
                self.skip(length)?;
                Ok(None)
            }
            ARRAY if depth > 0 => {
                let (kind, count) = (self.u32()?, self.length()?);
                for _ in 0..count {
                    self.value_of(kind, depth - 1)?;
                }
                Ok(None)
            }
            _ => self.number(kind),
        }
    }

    /// Reads a value of fixed length. Returns it if it is a non-negative integer.
    fn number(&mut self, kind: u32) -> io::Result<Option<u64>> {
        Ok(match kind {
            // u8, and bool
            0 | 7 => Some(u64::from(self.bytes::<1>()?[0])),
            1 => u64::try_from(i8::from_le_bytes(self.bytes()?)).ok(),
            2 => Some(u64::from(u16::from_le_bytes(self.bytes()?))),
            3 => u64::try_from(i16::from_le_bytes(self.bytes()?)).ok(),
            4 => Some(u64::from(self.u32()?)),
            5 => u64::try_from(i32::from_le_bytes(self.bytes()?)).ok(),
            // f32 and f64
            6 => self.bytes::<4>().map(|_| None)?,
            12 => self.bytes::<8>().map(|_| None)?,
            10 => Some(u64::from_le_bytes(self.bytes()?)),
            11 => u64::try_from(i64::from_le_bytes(self.bytes()?)).ok(),
            _ => return Err(invalid(format!("metadata: unknown value type {kind}"))),
        })
    }

    /// Reads the description of a tensor.
    fn tensor(&mut self) -> io::Result<(String, Vec<u64>, DType)> {
        let name = self.text()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(invalid(format!(
                "tensor {name}: expected at most {MAX_DIMENSIONS} dimensions, found {dimensions}"
            )));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.length()?);
        }
        // GGUF starts with the length of a row
        shape.reverse();
        let dtype = dtype(self.u32()?);
        let _offset: [u8; 8] = self.bytes()?;
        Ok((name, shape, dtype))
    }
}

/// Returns the type with this number in `enum ggml_type`.
fn dtype(number: u32) -> DType {
    match number {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        10 => DType::Q2K,
        11 => DType::Q3K,
        12 => DType::Q4K,
        13 => DType::Q5K,
        14 => DType::Q6K,
        30 => DType::Bf16,
        other => DType::Other(format!("ggml type {other}")),
    }
}
