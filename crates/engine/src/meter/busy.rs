//! A clock that runs while at least one thread works on an activity.

use modelgate_protocol::{Activity, ActivityName, Finite};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The wall-clock time during which at least one thread was busy with an activity, and the bytes
/// that were processed in that time.
#[derive(Default)]
pub(crate) struct BusyClock {
    bytes: AtomicU64,
    clock: Mutex<Clock>,
}

#[derive(Default)]
struct Clock {
    /// The number of threads that work now.
    active_threads: usize,
    /// The start of the current busy period. `None` if no thread works.
    busy_since: Option<Instant>,
    /// The sum of the previous busy periods.
    total: Duration,
}

impl BusyClock {
    /// Runs `work`, which processes `bytes` bytes, while the clock runs.
    pub(crate) fn during<T>(&self, bytes: u64, work: impl FnOnce() -> T) -> T {
        self.enter();
        let result = work();
        self.leave();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        result
    }

    /// Adds `bytes` bytes and a busy time that the caller has measured.
    pub(crate) fn add(&self, bytes: u64, busy: Duration) {
        self.clock().total += busy;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn enter(&self) {
        let mut clock = self.clock();
        clock.active_threads += 1;
        if clock.active_threads == 1 {
            clock.busy_since = Some(Instant::now());
        }
    }

    fn leave(&self) {
        let mut clock = self.clock();
        clock.active_threads -= 1;
        if clock.active_threads == 0
            && let Some(since) = clock.busy_since.take()
        {
            clock.total += since.elapsed();
        }
    }

    /// Returns the bytes and the busy time as the activity `name`. `None` if no bytes were
    /// processed.
    pub(crate) fn activity(&self, name: ActivityName) -> Option<Activity> {
        let bytes = self.bytes.load(Ordering::Relaxed);
        (bytes > 0).then(|| Activity {
            name,
            bytes,
            busy_s: Finite::seconds(self.clock().total),
            ceiling_bytes_per_s: None,
        })
    }

    /// Locks the clock. The clock stays usable if a thread panicked while it held the lock.
    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_work_is_counted_once() {
        let busy = BusyClock::default();
        let duration = Duration::from_millis(60);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| busy.during(10, || std::thread::sleep(duration)));
            }
        });
        let activity = busy.activity(ActivityName::Read).expect("the activity has bytes");
        assert_eq!(activity.bytes, 40);
        assert!(activity.busy_s.get() >= 0.06, "{:?}", activity.busy_s);
        assert!(activity.busy_s.get() < 0.20, "{:?}", activity.busy_s);
    }
}
