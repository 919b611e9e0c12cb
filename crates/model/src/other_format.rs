//! Files of another format in the place of a file of a model, which their first bytes identify.

use std::io;

/// The number of bytes at the beginning of a file that identify it.
pub const HEAD_BYTES: usize = 512;

/// The first line of a pointer file (specification of Git LFS, version 1).
const LFS_LINE: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The first bytes of a GGUF file.
pub const GGUF_MAGIC: &[u8] = b"GGUF";

/// A format that is not that of a file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OtherFormat {
    /// A text that Git LFS puts in the place of a large file.
    #[error("expected the content of the file, found a pointer file of Git LFS")]
    LfsPointer,
    /// A web page, for example the login page of a network.
    #[error("expected the content of the file, found an HTML page")]
    Html,
    /// A GGUF file for processors that store the highest byte of a number first.
    #[error("expected a little-endian GGUF file, found a big-endian GGUF file")]
    BigEndianGguf,
}

impl OtherFormat {
    /// Returns the format of a file that begins with `head`. `None` if it is not one of these.
    pub fn of(head: &[u8]) -> Option<OtherFormat> {
        if head.starts_with(LFS_LINE) {
            return Some(OtherFormat::LfsPointer);
        }
        // the version of a GGUF file is small, so that one half of its bytes is zero
        if head.starts_with(GGUF_MAGIC)
            && head
                .get(4..8)
                .is_some_and(|version| version[..2] == [0, 0] && version[2..] != [0, 0])
        {
            return Some(OtherFormat::BigEndianGguf);
        }
        let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head).trim_ascii_start();
        let begins_with = |word: &[u8]| {
            text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        (begins_with(b"<!doctype html") || begins_with(b"<html")).then_some(OtherFormat::Html)
    }

    /// Returns the format that caused an error of this crate. `None` for other errors.
    pub fn of_error(error: &io::Error) -> Option<OtherFormat> {
        error.get_ref()?.downcast_ref().copied()
    }

    /// Returns how to obtain the expected file.
    pub fn hint(self) -> &'static str {
        match self {
            OtherFormat::LfsPointer => {
                "run `git lfs pull` in the folder of the repository; or download the model with \
                 `hf download`"
            }
            OtherFormat::Html => {
                "download the file from the address of its content, which contains `/resolve/` \
                 instead of `/blob/` on the hub; or log in to the network"
            }
            OtherFormat::BigEndianGguf => {
                "use a little-endian file of the model; or convert the file with \
                 `gguf_convert_endian.py` of llama.cpp"
            }
        }
    }
}

impl From<OtherFormat> for io::Error {
    fn from(format: OtherFormat) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format)
    }
}

/// Refuses the content of a file that has another format.
///
/// # Errors
/// The content begins like a file of another format ([`io::ErrorKind::InvalidData`]).
pub(crate) fn refuse_other_format(content: &[u8]) -> io::Result<()> {
    match OtherFormat::of(&content[..content.len().min(HEAD_BYTES)]) {
        None => Ok(()),
        Some(format) => Err(format.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_formats_are_recognized_by_their_first_bytes() {
        let cases: [(&[u8], Option<OtherFormat>); 9] = [
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
                Some(OtherFormat::LfsPointer),
            ),
            (b"<!DOCTYPE html>\n<html>", Some(OtherFormat::Html)),
            (b"\xef\xbb\xbf \n<HTML lang=\"en\">", Some(OtherFormat::Html)),
            (b"GGUF\0\0\0\x03", Some(OtherFormat::BigEndianGguf)),
            (b"GGUF\x03\0\0\0", None),
            (b"GGUF\0\0\0\0", None),
            (b"GGUF", None),
            (b"{\"model_type\": \"llama\"}", None),
            (b"", None),
        ];
        for (head, expected) in cases {
            assert_eq!(OtherFormat::of(head), expected, "{}", head.escape_ascii());
        }
        let error = io::Error::from(OtherFormat::Html);
        assert_eq!(OtherFormat::of_error(&error), Some(OtherFormat::Html));
        assert_eq!(OtherFormat::of_error(&io::Error::other("html")), None);
    }
}
