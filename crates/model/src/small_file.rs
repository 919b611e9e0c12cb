//! Reads small files completely: JSON and texts. The length of a file and the number of its values
//! are checked before it is parsed.

use crate::other_format::refuse_other_format;
use crate::python_json;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The maximum size in bytes of a text file that describes a model or on which it is evaluated: a
/// config, an index, a perplexity text.
pub const MAX_TEXT_BYTES: u64 = 32 << 20;

/// The maximum length of a JSON file in bytes. The largest tokenizers of the supported families
/// have 17 MB.
const MAX_JSON_BYTES: u64 = 32 << 20;

/// The maximum number of values in a JSON file. Each value needs about 32 bytes in each copy, and
/// an empty list four times that, so that two bytes of a file could become hundreds. The largest
/// tokenizer of the supported families, with 128,000 tokens and 280,000 merges in pairs, has 1.1
/// million values.
const MAX_JSON_VALUES: usize = 1 << 21;

/// Reads a file of at most `max_bytes` bytes.
///
/// # Errors
/// The file cannot be read, is not a regular file, or is longer ([`io::ErrorKind::InvalidData`]).
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    // a file that waits for a writer would block the worker forever
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    // some file systems report a size that differs from the readable bytes
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        let message = format!("the file has more than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Reads a UTF-8 text of at most `max_bytes` bytes.
///
/// # Errors
/// As for [`read`], and if the text is not UTF-8.
pub fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    String::from_utf8(read(path, max_bytes)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads and parses a JSON file, see [`python_json::parse`].
///
/// # Errors
/// As for [`read`], and if the text is not JSON of this form ([`io::ErrorKind::InvalidData`]).
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = read(path, MAX_JSON_BYTES)?;
    refuse_other_format(&bytes)?;
    refuse_too_many_values(&bytes)?;
    python_json::parse(&bytes).map_err(invalid_json)
}

/// Reads the text of a JSON file of at most `max_bytes` bytes.
///
/// # Errors
/// As for [`read_text`], and if the file has another format that can be recognized.
pub fn read_json_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let text = read_text(path, max_bytes)?;
    refuse_other_format(text.as_bytes())?;
    Ok(text)
}

/// Parses JSON from a part of a file.
///
/// # Errors
/// The text has too many values, or is not JSON of this form ([`io::ErrorKind::InvalidData`]).
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    refuse_too_many_values(bytes)?;
    serde_json::from_slice(bytes).map_err(invalid_json)
}

fn invalid_json(error: serde_json::Error) -> io::Error {
    // invalid JSON is not a disk error, whichever kind serde_json reports
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn refuse_too_many_values(bytes: &[u8]) -> io::Result<()> {
    // Each value but the first follows one of these characters. Those inside texts are counted too,
    // which are few in comparison.
    let values = bytes.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    if values > MAX_JSON_VALUES {
        let message = format!("{values} values, expected at most {MAX_JSON_VALUES}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(())
}

/// Opens a regular file, or a symlink to one. Pipes and devices are refused, because they may have
/// no end.
///
/// # Errors
/// The file cannot be opened, or is not a regular file ([`io::ErrorKind::InvalidData`]).
pub fn open_regular(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        let message = "expected a regular file, found something else";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    File::open(path)
}
