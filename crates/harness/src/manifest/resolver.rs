//! The state that all validations of values share: the manifest text for errors.

use super::error::{ManifestError, ManifestText};
use super::read::Spanned;
use modelgate_model::units::parse_duration;
use std::ops::Range;
use std::time::Duration;

/// The maximum context in a manifest; no current model has a longer one.
pub(super) const MAX_CONTEXT: u32 = 1 << 22;
/// The maximum length of an id, which is part of file names.
pub(super) const MAX_ID_BYTES: usize = 100;

pub(super) type Result<T> = std::result::Result<T, ManifestError>;

/// Validates the values of one manifest. Each kind of value has its own file.
pub(super) struct Resolver<'a> {
    pub(super) place: ManifestText<'a>,
}

impl Resolver<'_> {
    pub(super) fn error<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Result<T> {
        Err(ManifestError::at(self.place, span, message, hint))
    }

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
