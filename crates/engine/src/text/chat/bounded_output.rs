//! The output buffer of a template, with a maximum length.

use std::io::{self, Write};

/// The maximum length of a prompt, and of each `tojson` in it.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// An output buffer that accepts at most [`MAX_OUTPUT_BYTES`] bytes.
#[derive(Default)]
pub(super) struct BoundedOutput(pub(super) Vec<u8>);

impl Write for BoundedOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            let message =
                format!("the prompt, or a part of it, is longer than {MAX_OUTPUT_BYTES} bytes");
            return Err(io::Error::other(message));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
