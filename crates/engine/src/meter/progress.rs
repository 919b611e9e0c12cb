//! Reports progress a few times a second.

use crate::events::Events;
use modelgate_protocol::{Event, Progress, ProgressUnit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time between two reports.
const INTERVAL: Duration = Duration::from_millis(50);

/// Counts what is done and reports it at most once in [`INTERVAL`].
pub(crate) struct ProgressReporter<'a> {
    unit: ProgressUnit,
    total: u64,
    done: AtomicU64,
    last: Mutex<Instant>,
    events: Events<'a>,
}

impl<'a> ProgressReporter<'a> {
    /// Creates a reporter of `total` units, with no progress yet.
    pub(crate) fn new(unit: ProgressUnit, total: u64, events: Events<'a>) -> ProgressReporter<'a> {
        let (done, last) = (AtomicU64::new(0), Mutex::new(Instant::now()));
        ProgressReporter { unit, total, done, last, events }
    }

    /// Adds `more` units that are done.
    pub(crate) fn advance(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
        // locked while the report is sent, so that reports never go back
        if let Ok(mut last) = self.last.try_lock()
            && last.elapsed() >= INTERVAL
        {
            *last = Instant::now();
            self.report();
        }
    }

    /// Reports the progress, however short the time since the last report.
    pub(crate) fn finish(&self) {
        let _last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.report();
    }

    fn report(&self) {
        let done = self.done.load(Ordering::Relaxed);
        (self.events)(Event::Progress(Progress { unit: self.unit, done, total: self.total }));
    }
}
