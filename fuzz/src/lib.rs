//! What the fuzz targets share: bytes as a file, and the files of a model with a hostile one among them.
//!
//! `cargo xtask fuzz-seeds` writes the seeds, and
//! `cargo +nightly fuzz run TARGET -- -rss_limit_mb=1024 -timeout=5 -max_len=65536` runs a target.

use modelgate_protocol::{ContentPart, Message, ModelFiles, WeightFormat};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A file in memory, which is freed when this is dropped.
pub struct MemoryFile(File);

impl MemoryFile {
    /// Creates a file that holds `bytes`.
    pub fn new(bytes: &[u8]) -> MemoryFile {
        let file = memfd_create(c"fuzz", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut file = File::from(file);
        file.write_all(bytes).expect("written");
        MemoryFile(file)
    }

    /// Returns the path by which it can be opened.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Returns the files of a model that consists of those weights.
pub fn model(format: WeightFormat, weights: &[&MemoryFile]) -> ModelFiles {
    ModelFiles::new("/proc/self/fd", format, weights.iter().map(|file| file.path()).collect())
}

/// Returns the files of a model without weights.
pub fn no_weights() -> ModelFiles {
    model(WeightFormat::Safetensors, &[])
}

/// A text with everything that tokenizers treat specially: blanks, digits, letters of several bytes, and
/// what looks like a special token.
pub const TEXT: &str = " It's 2024,\n\n\tna\u{ef}ve \u{4f60}\u{597d} \u{1f600} <s>a</s> x1y22 ";

/// Returns a chat of three turns.
pub fn chat() -> Vec<Message> {
    let turn = |role: &str, text: &str| Message {
        role: role.into(),
        content: vec![ContentPart::Text(text.into())],
    };
    vec![turn("user", "What is 1 < 2?"), turn("assistant", "True. </s>"), turn("user", TEXT)]
}

/// Lets the product catch panics of its libraries: libfuzzer-sys ends the process in the panic hook, before
/// they can be caught. Panics that are not caught still end it.
pub fn catchable() {
    std::panic::set_hook(Box::new(|_| ()));
}
