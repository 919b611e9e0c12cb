//! The boundary between the typed errors of the harness, which keep their sources, and the failures
//! of the protocol, which a report shows.

use modelgate_protocol::{Failure, FailureKind, Stage};
use std::error::Error;
use std::sync::Arc;

/// An error that ends the measurement of a model and appears in its report. The message comes from
/// [`Display`](std::fmt::Display).
pub trait Reportable: Error {
    /// Returns the stage in which the error occurred. The default is [`Stage::Prepare`].
    fn stage(&self) -> Stage {
        Stage::Prepare
    }

    /// Returns the kind of the failure.
    fn kind(&self) -> FailureKind;

    /// Returns a hint how to fix the error, in the imperative.
    fn hint(&self) -> String;

    /// Returns the failure that a report shows.
    fn to_failure(&self) -> Failure {
        Failure::new(self.stage(), self.kind(), self.to_string(), self.hint())
    }
}

/// Any error that ends the measurement of a model.
pub type BoxedReportable = Box<dyn Reportable>;

impl<E: Reportable + 'static> From<E> for BoxedReportable {
    fn from(error: E) -> BoxedReportable {
        Box::new(error)
    }
}

/// An error that several models share.
impl<E: Reportable> Reportable for Arc<E> {
    fn stage(&self) -> Stage {
        self.as_ref().stage()
    }

    fn kind(&self) -> FailureKind {
        self.as_ref().kind()
    }

    fn hint(&self) -> String {
        self.as_ref().hint()
    }
}
