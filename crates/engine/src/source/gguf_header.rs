//! The header of a GGUF file: read by candle, which checks each length against what is left of the file,
//! and bounded here in what candle does not: how far it goes, how many values it has, that no name stands
//! twice. Knows no key but that of the alignment.

use super::SourceFile;
use crate::fail;
use candle_core::quantized::gguf_file::{Content, Value};
use modelgate_protocol::{Failure, FailureKind};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The longest header. That of a vocabulary of 262,000 tokens with 580,000 merges has less than 20 MB.
const LONGEST_HEADER: u64 = 64 << 20;

/// Most reads of a header. A text is two and any other value one, and a value takes 32 bytes in memory
/// where the file may have one. Such a vocabulary takes 2.3 million.
const MOST_READS: u64 = 1 << 23;

/// The only key that says how the file itself is laid out.
const ALIGNMENT: &str = "general.alignment";

/// Reads the header of a file.
pub(super) fn read(file: &SourceFile) -> Result<Content, Failure> {
    let path = &file.path;
    let mut header = Header {
        file: BufReader::new(&file.file),
        end: file.bytes.min(LONGEST_HEADER),
        reads_left: MOST_READS,
    };
    // candle divides by the alignment that the file gives, which may be zero.
    let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut header)))
        .map_err(|_| fail::corrupt(path, "its header cannot be read"))?;
    let content = content.map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        if let Some((_, number)) = text.split_once("unknown dtype for tensor ") {
            return fail::load(
                FailureKind::Unsupported,
                format!("{}: it has tensors of type {}", path.display(), unknown_type(number)),
                "use a file with f32, f16, bf16, q4_0 to q8_0 or q2_k to q6_k tensors",
            );
        }
        let bound = match file.bytes > LONGEST_HEADER {
            true => format!("; a header has at most {LONGEST_HEADER} bytes"),
            false => String::new(),
        };
        fail::corrupt(path, format!("its header is not sound: {text}{bound}"))
    })?;
    refuse_duplicates(file, &content)?;
    refuse_alignment(file, &content)?;
    Ok(content)
}

/// What candle reads a header from.
struct Header<'a> {
    file: BufReader<&'a File>,
    /// Where it ends at the latest: what candle takes for the end of the file.
    end: u64,
    reads_left: u64,
}

impl Read for Header<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let too_many = || io::Error::other(format!("more than {MOST_READS} values"));
        self.reads_left = self.reads_left.checked_sub(1).ok_or_else(too_many)?;
        self.file.read(buffer)
    }
}

impl Seek for Header<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::End(by) => SeekFrom::Start(self.end.saturating_add_signed(by)),
            to => to,
        };
        self.file.seek(to)
    }

    // unlike a seek it keeps what is buffered
    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}

/// Candle keeps the last of several tensors or values of one name, and says nothing of the others.
fn refuse_duplicates(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    let mut header = [0u8; 24];
    file.file.read_exact_at(&mut header, 0).map_err(|error| fail::io(&file.path, &error))?;
    // magic, version, then the numbers of tensors and of values, which version 1 wrote in 32 bits
    let word = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let (tensors, values) = match word(4) {
        1 => (u64::from(word(8)), u64::from(word(12))),
        _ => (long(8), long(16)),
    };
    let distinct = [
        ("tensors", tensors, content.tensor_infos.len()),
        ("metadata", values, content.metadata.len()),
    ];
    match distinct.into_iter().find(|(_, count, distinct)| *count != *distinct as u64) {
        None => Ok(()),
        Some((what, count, distinct)) => {
            let what =
                format!("{count} {what} with {distinct} distinct names; a name stands twice");
            Err(fail::corrupt(&file.path, what))
        }
    }
}

/// Candle takes an alignment of another type for none, and any number for one.
fn refuse_alignment(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    match content.metadata.get(ALIGNMENT) {
        None => Ok(()),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => Ok(()),
        Some(value) => {
            let what =
                format!("metadata: {ALIGNMENT} is {value:?}, expected a power of two in u32");
            Err(fail::corrupt(&file.path, what))
        }
    }
}

/// The name of a type that candle does not have, by its number in `ggml.h`.
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
        Some((_, name)) => format!("{name}, which is not supported"),
        None => format!("{number} of ggml's list, which is not known"),
    }
}
