//! Reports progress several times per second.

use crate::events::Events;
use modelgate_protocol::{Event, Progress, ProgressUnit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The minimum time between two reports.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// A counter of completed units that is reported at most once per [`MIN_INTERVAL`].
pub(crate) struct ProgressReporter<'a> {
    unit: ProgressUnit,
    total: u64,
    done: AtomicU64,
    /// The time of the last report.
    last_report: Mutex<Instant>,
    events: Events<'a>,
}

impl<'a> ProgressReporter<'a> {
    /// Creates a reporter for `total` units, none of which is completed.
    pub(crate) fn new(unit: ProgressUnit, total: u64, events: Events<'a>) -> ProgressReporter<'a> {
        let (done, last_report) = (AtomicU64::new(0), Mutex::new(Instant::now()));
        ProgressReporter { unit, total, done, last_report, events }
    }

    /// Adds `more` completed units, and reports the progress if the last report is old enough.
    pub(crate) fn advance(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
        // locked while the report is sent, so that the reported progress never decreases
        if let Ok(mut last_report) = self.last_report.try_lock()
            && last_report.elapsed() >= MIN_INTERVAL
        {
            *last_report = Instant::now();
            self.report();
        }
    }

    /// Reports the progress, even if the last report was less than [`MIN_INTERVAL`] ago.
    pub(crate) fn finish(&self) {
        let _last_report = self.last_report.lock().unwrap_or_else(PoisonError::into_inner);
        self.report();
    }

    fn report(&self) {
        let done = self.done.load(Ordering::Relaxed);
        (self.events)(Event::Progress(Progress { unit: self.unit, done, total: self.total }));
    }
}
