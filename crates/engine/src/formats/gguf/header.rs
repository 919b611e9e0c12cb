//! The header of a GGUF file. candle reads it, and compares each length with the rest of the file.
//! This module checks what candle does not: the length of the header, the number of its values, the
//! alignment of the data, and that names are distinct.

use crate::failures;
use crate::formats::source::SourceFile;
use candle_core::quantized::gguf_file::{Content, Value};
use modelgate_protocol::{Failure, FailureKind};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The maximum length of a header in bytes. A vocabulary of 262,000 tokens with 580,000 merges
/// takes less than 20 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// The maximum number of reads of a header. A string takes two reads, and any other value takes one
/// read. A value takes 32 bytes of memory, although it may take only one byte in the file. The
/// vocabulary above takes 2.3 million reads.
const MAX_READS: u64 = 1 << 23;

/// The metadata key of the alignment of tensor data in bytes, the only key about the file layout.
const ALIGNMENT: &str = "general.alignment";

/// Reads and checks the header of a file.
///
/// # Errors
/// The header is invalid or too large, or a tensor has a type that is not supported.
pub(super) fn read(file: &SourceFile) -> Result<Content, Failure> {
    let path = &file.path;
    let mut header = HeaderReader {
        file: BufReader::new(&file.file),
        end: file.bytes.min(MAX_HEADER_BYTES),
        reads_left: MAX_READS,
    };
    // candle panics if the alignment in the file is zero, because it divides by it
    let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut header)))
        .map_err(|_| failures::corrupt(path, "the header cannot be read"))?;
    let content = content.map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        if let Some((_, number)) = text.split_once("unknown dtype for tensor ") {
            return failures::load(
                FailureKind::Unsupported,
                format!("{}: tensors have {}", path.display(), unknown_type(number)),
                "use a file with tensors of the types f32, f16, bf16, q4_0 to q8_0 or q2_k to q6_k",
            );
        }
        let bound = match file.bytes > MAX_HEADER_BYTES {
            true => format!("; expected a header of at most {MAX_HEADER_BYTES} bytes"),
            false => String::new(),
        };
        failures::corrupt(path, format!("invalid header: {text}{bound}"))
    })?;
    refuse_duplicates(file, &content)?;
    refuse_alignment(file, &content)?;
    Ok(content)
}

/// The reader that candle reads a header from. It limits the length and the number of reads.
struct HeaderReader<'a> {
    file: BufReader<&'a File>,
    /// The position at which the header must end, reported to candle as the end of the file.
    end: u64,
    /// The number of reads that are left of [`MAX_READS`].
    reads_left: u64,
}

impl Read for HeaderReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let too_many = || io::Error::other(format!("more than {MAX_READS} values"));
        self.reads_left = self.reads_left.checked_sub(1).ok_or_else(too_many)?;
        self.file.read(buffer)
    }
}

impl Seek for HeaderReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::End(by) => SeekFrom::Start(self.end.saturating_add_signed(by)),
            to => to,
        };
        self.file.seek(to)
    }

    // the default implementation seeks, which discards the buffer
    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}

/// Refuses duplicate names of tensors or metadata, because candle keeps only the last of them.
fn refuse_duplicates(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    let mut header = [0u8; 24];
    file.file.read_exact_at(&mut header, 0).map_err(|error| failures::io(&file.path, &error))?;
    // magic, version, number of tensors, number of metadata; version 1 writes the numbers in 32
    // bits
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let (tensors, values) = match word(4) {
        1 => (u64::from(word(8)), u64::from(word(12))),
        _ => (long(8), long(16)),
    };
    let counts = [
        ("tensors", tensors, content.tensor_infos.len()),
        ("metadata", values, content.metadata.len()),
    ];
    match counts.into_iter().find(|(_, count, distinct)| *count != *distinct as u64) {
        None => Ok(()),
        Some((what, count, distinct)) => {
            let what =
                format!("{what}: a name is duplicated: {count} entries, {distinct} distinct names");
            Err(failures::corrupt(&file.path, what))
        }
    }
}

/// Refuses an alignment that is not a `u32`, which candle ignores, or not a power of two, which
/// candle accepts.
fn refuse_alignment(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    match content.metadata.get(ALIGNMENT) {
        None => Ok(()),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => Ok(()),
        Some(value) => {
            let what = format!("metadata: {ALIGNMENT} is {value:?}, expected a u32 power of two");
            Err(failures::corrupt(&file.path, what))
        }
    }
}

/// Describes a type that candle does not support, by its number in `ggml.h`.
fn unknown_type(number: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("16", "iq2_xxs"),
        ("17", "iq2_xs"),
        ("18", "iq3_xxs"),
        ("19", "iq1_s"),
        ("20", "iq4_nl"),
        ("21", "iq3_s"),
        ("22", "iq2_s"),
        ("23", "iq4_xs"),
        ("29", "iq1_m"),
        ("34", "tq1_0"),
        ("35", "tq2_0"),
        ("39", "mxfp4"),
        ("40", "nvfp4"),
        ("9", "q8_1"),
    ];
    match NAMES.iter().find(|(known, _)| *known == number.trim()) {
        Some((_, name)) => format!("the type {name}, which is not supported"),
        None => format!("the unknown ggml type {number}"),
    }
}
