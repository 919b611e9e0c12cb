//! The output of a template, of bounded length.

use std::io::{self, Write};

/// The longest prompt that a template may write.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Accepts at most [`MAX_OUTPUT_BYTES`] bytes.
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
