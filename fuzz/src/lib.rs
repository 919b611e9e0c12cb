//! Shared code of the fuzz targets: files in memory, and models that contain such files.
//!
//! `cargo xtask fuzz-seeds` writes the seeds, and
//! `cargo +nightly fuzz run TARGET -- -rss_limit_mb=1024 -timeout=5 -max_len=65536` runs a target.

use modelgate_protocol::{ContentPart, Message, ModelFiles, WeightFormat};
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A file in memory, which is freed on drop.
pub struct MemoryFile(File);

impl MemoryFile {
    /// Creates a file that holds `bytes`.
    pub fn new(bytes: &[u8]) -> MemoryFile {
        let file = memfd_create(c"fuzz", MemfdFlags::CLOEXEC).expect("a file in memory");
        let mut file = File::from(file);
        file.write_all(bytes).expect("written");
        MemoryFile(file)
    }

    /// Returns a path that opens the file.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// Returns the files of a model with only these weight files.
pub fn model(format: WeightFormat, weights: &[&MemoryFile]) -> ModelFiles {
    ModelFiles::new("/proc/self/fd", format, weights.iter().map(|file| file.path()).collect())
}

/// Returns the files of a model without weights.
pub fn no_weights() -> ModelFiles {
    model(WeightFormat::Safetensors, &[])
}

/// A text with everything that tokenizers treat specially: blanks, digits, characters of several bytes,
/// and the text of special tokens.
pub const TEXT: &str = " It's 2024,\n\n\tna\u{ef}ve \u{4f60}\u{597d} \u{1f600} <s>a</s> x1y22 ";

/// Returns a chat of three turns.
pub fn chat() -> Vec<Message> {
    let turn = |role: &str, text: &str| Message {
        role: role.into(),
        content: vec![ContentPart::Text(text.into())],
    };
    vec![turn("user", "What is 1 < 2?"), turn("assistant", "True. </s>"), turn("user", TEXT)]
}

/// Replaces the panic hook of libfuzzer-sys, which ends the process before a panic can be caught. The
/// engine catches panics of its libraries. Any other panic still ends the process.
pub fn catchable() {
    std::panic::set_hook(Box::new(|_| ()));
}
