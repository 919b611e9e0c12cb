//! The bandwidth of the host memory, measured before a run. It bounds the rate at which the CPU can
//! generate: each token reads all active weights once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// The bytes that are copied in one pass, if the caches are smaller.
const MIN_BUFFER: u64 = 32 << 20;
/// The maximum number of bytes that are copied in one pass.
const MAX_BUFFER: u64 = 1 << 30;
/// The number of passes.
const PASSES: u64 = 3;

/// Measures the bandwidth of the host memory in bytes per second, with `threads` threads that copy.
/// `ram_bytes` is the memory of the host; 0 if it is unknown. `None` if no thread can be started.
///
/// A measurement is used instead of a constant, because hosts differ by a factor of 50: from a
/// virtual machine with 10 GB/s to a server with 24 memory channels, and the number of channels is
/// not readable without the rights of root. The value is conservative: a copy transfers each byte up
/// to three times (read, read for ownership, write), and two of them are counted. Source and target
/// are together twice as large as the last-level caches, because a copy inside the caches would be
/// several times as fast; they take at most a sixteenth of the memory. The time is about 50 ms,
/// most of it for new pages.
pub(crate) fn memory_rate(threads: u64, ram_bytes: u64) -> Option<u64> {
    let threads = threads.max(1);
    let most = if ram_bytes == 0 { MAX_BUFFER } else { MAX_BUFFER.min(ram_bytes / 32) };
    let buffer = MIN_BUFFER.max(last_level_caches()).min(most);
    let share = usize::try_from(buffer / threads).ok()?.max(4096);
    let (ready, start) = (AtomicUsize::new(0), AtomicBool::new(false));
    let copy = || {
        // written here, so that the pages exist and are in the memory next to the processor
        let (source, mut target) = (vec![1u8; share], vec![2u8; share]);
        ready.fetch_add(1, Ordering::Release);
        while !start.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let started = Instant::now();
        for _ in 0..PASSES {
            target.copy_from_slice(&source);
            std::hint::black_box(&mut target);
        }
        started.elapsed()
    };
    let times: Vec<Duration> = thread::scope(|scope| {
        let spawn = |_| Builder::new().spawn_scoped(scope, copy).ok();
        let started: Vec<_> = (0..threads).filter_map(spawn).collect();
        while ready.load(Ordering::Acquire) < started.len() {
            thread::yield_now();
        }
        start.store(true, Ordering::Release);
        started.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let slowest = times.iter().max()?.as_secs_f64();
    let bytes = (2 * PASSES) as f64 * share as f64 * times.len() as f64;
    (slowest > 0.0).then_some((bytes / slowest) as u64)
}

/// Returns the size of all last-level caches of the host in bytes; 0 if it is unknown.
fn last_level_caches() -> u64 {
    let text = |processor: &std::path::Path, name: &str| {
        std::fs::read_to_string(processor.join("cache/index3").join(name)).ok()
    };
    let Ok(processors) = std::fs::read_dir("/sys/devices/system/cpu") else {
        return 0;
    };
    let mut caches: Vec<(String, u64)> = processors
        .flatten()
        .filter_map(|entry| {
            let shared_by = text(&entry.path(), "shared_cpu_list")?;
            let size = text(&entry.path(), "size")?;
            // the kernel writes the size in KiB, for example `32768K`
            let kib: u64 = size.trim().strip_suffix('K')?.parse().ok()?;
            Some((shared_by, kib << 10))
        })
        .collect();
    caches.sort();
    caches.dedup();
    caches.iter().map(|(_, bytes)| bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_of_this_host_is_plausible() {
        let rate = memory_rate(2, 8 << 30).expect("a rate");
        assert!((100_000_000..10_000_000_000_000).contains(&rate), "{rate} bytes per second");
    }

    #[test]
    fn a_small_host_gets_small_buffers() {
        assert!(memory_rate(4, 1 << 20).is_some());
    }
}
