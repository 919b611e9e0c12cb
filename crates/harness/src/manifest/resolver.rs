//! The state of all validations: the manifest text, which errors quote.

use super::error::{ManifestError, ManifestText};
use super::read::Spanned;
use modelgate_model::units::parse_duration;
use std::ops::Range;
use std::time::Duration;

/// The maximum context in a manifest; no current model has a longer one.
pub(super) const MAX_CONTEXT: u32 = 1 << 22;
/// The maximum length of an id in bytes. An id is part of file names.
pub(super) const MAX_ID_BYTES: usize = 100;

pub(super) type Result<T> = std::result::Result<T, ManifestError>;

/// Validates the values of one manifest. Each kind of value has its own file.
pub(super) struct Resolver<'a> {
    pub(super) manifest: ManifestText<'a>,
}

impl Resolver<'_> {
    /// Returns an error at the bytes `span` of the manifest.
    pub(super) fn error<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Result<T> {
        Err(ManifestError::at(self.manifest, span, message, hint))
    }

    /// Parses an optional duration, for example `"45min"`.
    pub(super) fn duration(&self, text: Option<&Spanned<String>>) -> Result<Option<Duration>> {
        let Some(text) = text else {
            return Ok(None);
        };
        match parse_duration(text.get_ref()) {
            Ok(duration) => Ok(Some(duration)),
            Err(message) => self.error(text.span(), message, "add the unit"),
        }
    }
}
