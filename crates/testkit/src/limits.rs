//! Limits of a test's memory and time: allocations beyond a gigabyte fail, and a case that hangs
//! ends the process with its name.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that a process may have allocated at once.
pub const MAX_BYTES: usize = 1 << 30;

/// The longest time of one case: of the clock, or of the processor if other processes keep it busy.
pub const MAX_TIME: Duration = Duration::from_secs(5);

/// The system's allocator, limited to [`MAX_BYTES`]: for a test binary's `#[global_allocator]`.
pub struct Limited;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The name of the current case.
static CASE: Mutex<String> = Mutex::new(String::new());

fn take(bytes: usize) -> bool {
    let taken = TAKEN.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if taken > MAX_BYTES {
        TAKEN.fetch_sub(bytes, Ordering::Relaxed);
        // the caller may end the process, and the name of the case would be lost
        if let Ok(case) = CASE.try_lock() {
            let mut told = std::io::stderr();
            let _ = told.write_all(case.as_bytes()).and_then(|()| told.write_all(b": refused\n"));
        }
        return false;
    }
    PEAK.fetch_max(taken, Ordering::Relaxed);
    true
}

// SAFETY: every call goes to the system's allocator as it came, or fails as an allocator may.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those that the system's allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // both exist at once if the system has to move the content
        if !take(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        TAKEN.fetch_sub(if moved.is_null() { size } else { layout.size() }, Ordering::Relaxed);
        moved
    }
}

/// Returns the most bytes that were allocated at once since the last call; 0 if [`Limited`] is not
/// the allocator.
pub fn peak() -> usize {
    PEAK.swap(TAKEN.load(Ordering::Relaxed), Ordering::Relaxed)
}

/// Runs a case on a thread with a stack of the default size.
///
/// # Panics
/// The case panics, or takes longer than [`MAX_TIME`]. A case that takes far longer ends the
/// process, and so does one that overflows the stack; both with the name.
pub fn within_limits<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    *CASE.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    let over = Arc::new((Mutex::new(false), Condvar::new()));
    let (watched, label) = (Arc::clone(&over), name.to_owned());
    let watch = std::thread::spawn(move || {
        let (over, changed) = &*watched;
        let waited =
            changed.wait_timeout_while(over.lock().unwrap(), 12 * MAX_TIME, |over| !*over).unwrap();
        if waited.1.timed_out() {
            eprintln!("{label} hangs");
            std::process::abort();
        }
    });
    let (begin, busy) = (Instant::now(), processor_time());
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, work).expect("a thread").join()
    });
    let took = begin.elapsed().min(processor_time() - busy);
    *over.0.lock().unwrap() = true;
    over.1.notify_all();
    watch.join().unwrap();
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        panic!("{name} panicked: {}", text.unwrap_or_default())
    });
    assert!(took <= MAX_TIME, "{name} took {took:?}");
    outcome
}

/// Returns the processor time of all threads of the process so far.
fn processor_time() -> Duration {
    let stat =
        std::fs::read_to_string("/proc/self/stat").expect("what the kernel says of the process");
    // the name of the program, in brackets, may have blanks; times are in hundredths of a second
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}
