//! The header of a GGUF file. candle reads it, and checks each length against the rest of the file;
//! what candle does not check is checked here: the length of the header, the number of its values, and
//! that names are distinct. Knows no key but that of the alignment.

use crate::failures;
use crate::formats::source::SourceFile;
use candle_core::quantized::gguf_file::{Content, Value};
use modelgate_protocol::{Failure, FailureKind};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The longest header. That of a vocabulary of 262,000 tokens with 580,000 merges has less than 20 MB.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// The most reads of a header. A text takes two and any other value one; a value takes 32 bytes in
/// memory, and possibly one in the file. Such a vocabulary takes 2.3 million.
const MAX_READS: u64 = 1 << 23;

/// The only key that describes the layout of the file itself.
const ALIGNMENT: &str = "general.alignment";

/// Reads the header of a file.
pub(super) fn read(file: &SourceFile) -> Result<Content, Failure> {
    let path = &file.path;
    let mut header = Header {
        file: BufReader::new(&file.file),
        end: file.bytes.min(MAX_HEADER_BYTES),
        reads_left: MAX_READS,
    };
    // candle divides by the alignment that the file gives, which may be zero.
    let content = catch_unwind(AssertUnwindSafe(|| Content::read(&mut header)))
        .map_err(|_| failures::corrupt(path, "its header cannot be read"))?;
    let content = content.map_err(|error| {
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default();
        if let Some((_, number)) = text.split_once("unknown dtype for tensor ") {
            return failures::load(
                FailureKind::Unsupported,
                format!("{}: it has tensors of type {}", path.display(), unknown_type(number)),
                "use a file with f32, f16, bf16, q4_0 to q8_0 or q2_k to q6_k tensors",
            );
        }
        let bound = match file.bytes > MAX_HEADER_BYTES {
            true => format!("; a header has at most {MAX_HEADER_BYTES} bytes"),
            false => String::new(),
        };
        failures::corrupt(path, format!("its header is not valid: {text}{bound}"))
    })?;
    refuse_duplicates(file, &content)?;
    refuse_alignment(file, &content)?;
    Ok(content)
}

/// The reader that candle reads a header from.
struct Header<'a> {
    file: BufReader<&'a File>,
    /// The last position that the header may reach, which candle takes for the end of the file.
    end: u64,
    reads_left: u64,
}

impl Read for Header<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let too_many = || io::Error::other(format!("more than {MAX_READS} values"));
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

    // unlike a seek it keeps the buffer
    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}

/// Refuses several tensors or values of one name, of which candle keeps the last.
fn refuse_duplicates(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    let mut header = [0u8; 24];
    file.file.read_exact_at(&mut header, 0).map_err(|error| failures::io(&file.path, &error))?;
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
                format!("{count} {what} with {distinct} distinct names; a name is duplicated");
            Err(failures::corrupt(&file.path, what))
        }
    }
}

/// Refuses an alignment of another type, which candle ignores, and one that is not a power of two,
/// which candle accepts.
fn refuse_alignment(file: &SourceFile, content: &Content) -> Result<(), Failure> {
    match content.metadata.get(ALIGNMENT) {
        None => Ok(()),
        Some(Value::U32(alignment)) if alignment.is_power_of_two() => Ok(()),
        Some(value) => {
            let what =
                format!("metadata: {ALIGNMENT} is {value:?}, expected a power of two in u32");
            Err(failures::corrupt(&file.path, what))
        }
    }
}

/// Returns the name of a type that candle does not have, by its number in `ggml.h`.
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
        None => format!("the unknown ggml type {number}"),
    }
}
