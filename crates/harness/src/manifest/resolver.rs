//! What the checks of values share: the manifest that errors point into.

use super::error::{ManifestError, Place};
use super::read::Spanned;
use modelgate_model::units::parse_duration;
use std::ops::Range;
use std::time::Duration;

/// The longest context that a manifest may ask for; no model of today goes beyond it.
pub(super) const MAX_CONTEXT: u32 = 1 << 22;
/// The longest id: it is part of file names.
pub(super) const MAX_ID_BYTES: usize = 100;

pub(super) type Result<T> = std::result::Result<T, ManifestError>;

/// Checks values of one manifest. Each kind of value has a file of its own.
pub(super) struct Resolver<'a> {
    pub(super) place: Place<'a>,
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
