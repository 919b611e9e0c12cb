//! Reads small files completely: JSON and texts. The length of a file and the number of its values are
//! bounded before the file is parsed.

use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest text that describes a model or is evaluated by one, in bytes: a config, an index, a
/// perplexity text.
pub const MAX_TEXT_BYTES: u64 = 32 << 20;

/// The longest file of JSON. The largest tokenizers of the supported families have 17 MB.
const MAX_JSON_BYTES: u64 = 32 << 20;

/// Most values in a file of JSON: each takes some 32 bytes wherever it is copied to, and an empty list
/// four times that, so that two bytes of a file could become hundreds. The largest tokenizer of the
/// supported families, of 128,000 tokens and 280,000 merges in pairs, has 1.1 million.
const MAX_JSON_VALUES: usize = 1 << 21;

/// Reads a file of at most `most` bytes.
///
/// # Errors
/// The file cannot be read, is not a regular file, or is longer ([`io::ErrorKind::InvalidData`]).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // one that waits for a writer would hold the worker for ever
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    // the size that a file says it has is not what can be read of it everywhere
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let message = format!("the file has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Reads a UTF-8 text of at most `most` bytes.
///
/// # Errors
/// As for [`read`]; also a text that is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads and parses a JSON file.
///
/// # Errors
/// As for [`read`]; also what is not JSON of that form ([`io::ErrorKind::InvalidData`]).
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    parse_json(&read(path, MAX_JSON_BYTES)?)
}

/// Parses JSON from a part of a file.
///
/// # Errors
/// It has too many values, or is not JSON of that form ([`io::ErrorKind::InvalidData`]).
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    // Every value but the first stands behind one of these. Those within texts are counted too, which
    // are few beside the others.
    let values = bytes.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    if values > MAX_JSON_VALUES {
        let message = format!("{values} values, expected at most {MAX_JSON_VALUES}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // what is no JSON is not an error of the disk, whichever of them serde_json calls it
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    })
}

/// Opens a regular file, or a symlink to one: a pipe or a device may have no end.
///
/// # Errors
/// The file cannot be opened, or is something else ([`io::ErrorKind::InvalidData`]).
pub fn open_regular(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        let message = "expected a regular file, found something else";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    File::open(path)
}
