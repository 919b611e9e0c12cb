//! A clock that runs while at least one thread works on something.

use modelgate_protocol::{Activity, ActivityName, Finite};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The wall-clock time in which at least one thread was busy with something, and the bytes that were
/// handled in it.
#[derive(Default)]
pub(crate) struct BusyClock {
    bytes: AtomicU64,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    active: usize,
    since: Option<Instant>,
    total: Duration,
}

impl BusyClock {
    /// Runs `work` on `bytes` bytes while the clock runs.
    pub(crate) fn during<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        self.enter();
        let result = work();
        self.leave();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        result
    }

    /// Adds work on `bytes` bytes that was timed elsewhere.
    pub(crate) fn add(&self, bytes: u64, busy: Duration) {
        self.clock().total += busy;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn enter(&self) {
        let mut clock = self.clock();
        clock.active += 1;
        if clock.active == 1 {
            clock.since = Some(Instant::now());
        }
    }

    fn leave(&self) {
        let mut clock = self.clock();
        clock.active -= 1;
        if clock.active == 0
            && let Some(since) = clock.since.take()
        {
            clock.total += since.elapsed();
        }
    }

    /// Returns the work as the activity `name`; `None` if there was no work.
    pub(crate) fn activity(&self, name: ActivityName) -> Option<Activity> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        (bytes > 0).then(|| Activity {
            name,
            bytes,
            busy_s: Finite::seconds(self.clock().total),
            ceiling_bytes_per_s: None,
        })
    }

    /// Locks the clock. A thread that panicked while it held the lock left a usable clock.
    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_work_counts_once() {
        let busy = BusyClock::default();
        let nap = Duration::from_millis(60);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| busy.during(10, || std::thread::sleep(nap)));
            }
        });
        let activity = busy.activity(ActivityName::Read).expect("something was done");
        assert_eq!(activity.bytes, 40);
        assert!(activity.busy_s.get() >= 0.06, "{:?}", activity.busy_s);
        assert!(activity.busy_s.get() < 0.20, "{:?}", activity.busy_s);
    }
}
