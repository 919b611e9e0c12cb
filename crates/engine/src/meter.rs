//! How busy a load is and how far: clocks that run while at least one thread works, and progress
//! that is told a few times a second.

use crate::model::Events;
use modelgate_protocol::{Activity, Event, Finite, Progress, ProgressUnit};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The least time between two reports of progress.
const INTERVAL: Duration = Duration::from_millis(50);

/// Wall-clock time in which at least one thread was busy with something, and the bytes it handled.
#[derive(Default)]
pub(crate) struct Busy {
    bytes: AtomicU64,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    active: usize,
    since: Option<Instant>,
    total: Duration,
}

impl Busy {
    /// Runs `work` on `bytes` bytes with the clock running.
    pub(crate) fn during<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        self.enter();
        let result = work();
        self.leave();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        result
    }

    /// Counts work on `bytes` bytes that somebody else has timed.
    pub(crate) fn add(&self, bytes: u64, busy: Duration) {
        lock(&self.clock).total += busy;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn enter(&self) {
        let mut clock = lock(&self.clock);
        clock.active += 1;
        if clock.active == 1 {
            clock.since = Some(Instant::now());
        }
    }

    fn leave(&self) {
        let mut clock = lock(&self.clock);
        clock.active -= 1;
        if clock.active == 0
            && let Some(since) = clock.since.take()
        {
            clock.total += since.elapsed();
        }
    }

    /// What was done; none where nothing was.
    pub(crate) fn activity(&self, name: &str) -> Option<Activity> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        (bytes > 0).then(|| Activity {
            name: name.to_owned(),
            bytes,
            busy_s: Finite::seconds(lock(&self.clock).total),
            ceiling_bytes_per_s: None,
        })
    }
}

/// What a load is busy with, and how far it is.
pub(crate) struct Meter<'a> {
    /// Reading of weight files.
    pub(crate) read: Busy,
    /// Quantizing what was read.
    pub(crate) quantize: Busy,
    /// Copying to a device.
    pub(crate) copy: Busy,
    progress: Reporter<'a>,
}

impl<'a> Meter<'a> {
    /// A meter of a load of `total` bytes.
    pub(crate) fn new(total: u64, events: Events<'a>) -> Meter<'a> {
        Meter {
            read: Busy::default(),
            quantize: Busy::default(),
            copy: Busy::default(),
            progress: Reporter::new(ProgressUnit::Bytes, total, events),
        }
    }

    /// `bytes` more are where they belong.
    pub(crate) fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    /// Tells the totals.
    pub(crate) fn finish(&self, events: Events) {
        self.progress.finish();
        let clocks = [(&self.read, "read"), (&self.quantize, "quantize"), (&self.copy, "copy")];
        for (busy, name) in clocks {
            if let Some(activity) = busy.activity(name) {
                events(Event::Activity(activity));
            }
        }
    }
}

/// Progress that is told at most once in [`INTERVAL`].
pub(crate) struct Reporter<'a> {
    unit: ProgressUnit,
    total: u64,
    done: AtomicU64,
    last: Mutex<Instant>,
    events: Events<'a>,
}

impl<'a> Reporter<'a> {
    /// Nothing of `total` is done yet.
    pub(crate) fn new(unit: ProgressUnit, total: u64, events: Events<'a>) -> Reporter<'a> {
        Reporter { unit, total, done: AtomicU64::new(0), last: Mutex::new(Instant::now()), events }
    }

    /// `more` is done.
    pub(crate) fn advance(&self, more: u64) {
        self.done.fetch_add(more, Ordering::Relaxed);
        // Held while telling, so that what is told never goes back.
        if let Ok(mut last) = self.last.try_lock()
            && last.elapsed() >= INTERVAL
        {
            *last = Instant::now();
            self.tell();
        }
    }

    /// Tells how far it came, however short ago it did so last.
    pub(crate) fn finish(&self) {
        let _last = lock(&self.last);
        self.tell();
    }

    fn tell(&self) {
        let done = self.done.load(Ordering::Relaxed);
        (self.events)(Event::Progress(Progress { unit: self.unit, done, total: self.total }));
    }
}

/// A thread that panicked while it held a clock has left nothing half done that matters here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_work_counts_once() {
        let busy = Busy::default();
        let nap = Duration::from_millis(60);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| busy.during(10, || std::thread::sleep(nap)));
            }
        });
        let activity = busy.activity("read").expect("something was done");
        assert_eq!(activity.bytes, 40);
        assert!(activity.busy_s.get() >= 0.06, "{:?}", activity.busy_s);
        assert!(activity.busy_s.get() < 0.20, "{:?}", activity.busy_s);
    }
}
