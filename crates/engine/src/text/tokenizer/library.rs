//! Calls of the tokenizers library.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls the tokenizers library, and converts a panic to an error. The library does not check some
/// numbers in a tokenizer's file. If they are wrong, it panics when it reads the file or when it
/// encodes the first text.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("not a valid tokenizer".into()))
}
