//! Calls of the tokenizers library.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls the tokenizers library. It does not check some numbers in a tokenizer's file, and panics if
/// they are wrong: some when it reads them, others at the first text.
pub(super) fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("not a valid tokenizer".into()))
}
