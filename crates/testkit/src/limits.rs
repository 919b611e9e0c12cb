//! Limits of the memory and time of tests: allocations beyond 1 GiB fail, and a case that does not
//! end aborts the process after its name is printed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of bytes that the process may have allocated at one time.
pub const MAX_BYTES: usize = 1 << 30;

/// The maximum time of one case: the smaller of wall-clock time and processor time, so that other
/// processes on the host do not count.
pub const MAX_TIME: Duration = Duration::from_secs(5);

/// The system allocator, limited to [`MAX_BYTES`], for the `#[global_allocator]` of a test binary.
pub struct LimitedAllocator;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The name of the current case, for messages.
static CASE: Mutex<String> = Mutex::new(String::new());

/// Counts an allocation. Returns `false` if it would exceed [`MAX_BYTES`].
fn reserve(bytes: usize) -> bool {
    let allocated = ALLOCATED.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if allocated > MAX_BYTES {
        ALLOCATED.fetch_sub(bytes, Ordering::Relaxed);
        // the caller may abort the process, so print the name of the case first
        if let Ok(case) = CASE.try_lock() {
            let mut stderr = std::io::stderr();
            let _ = stderr
                .write_all(case.as_bytes())
                .and_then(|()| stderr.write_all(b": allocation exceeds the limit\n"));
        }
        return false;
    }
    PEAK.fetch_max(allocated, Ordering::Relaxed);
    true
}

// SAFETY: every call is passed on unchanged to the system allocator, or fails, which is allowed.
unsafe impl GlobalAlloc for LimitedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !reserve(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller guarantees what the system allocator requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !reserve(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller guarantees what the system allocator requires.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller guarantees what the system allocator requires.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // both allocations exist at the same time if the system moves the content
        if !reserve(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller guarantees what the system allocator requires.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        ALLOCATED.fetch_sub(if moved.is_null() { size } else { layout.size() }, Ordering::Relaxed);
        moved
    }
}

/// Returns the maximum number of bytes that were allocated at one time since the last call. 0 if
/// [`LimitedAllocator`] is not the global allocator.
pub fn peak() -> usize {
    PEAK.swap(ALLOCATED.load(Ordering::Relaxed), Ordering::Relaxed)
}

/// Runs the case `name` on a thread with a stack of the default size, and returns its result.
///
/// # Panics
/// The case panics or takes longer than [`MAX_TIME`]. A case that takes more than 12 times as long,
/// or that overflows the stack, aborts the process; the name of the case is printed.
pub fn within_limits<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    *CASE.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    let finished = Arc::new((Mutex::new(false), Condvar::new()));
    let (watched, label) = (Arc::clone(&finished), name.to_owned());
    let watchdog = std::thread::spawn(move || {
        let (finished, changed) = &*watched;
        let waited = changed
            .wait_timeout_while(finished.lock().unwrap(), 12 * MAX_TIME, |finished| !*finished)
            .unwrap();
        if waited.1.timed_out() {
            eprintln!("{label}: not finished after {:?}", 12 * MAX_TIME);
            std::process::abort();
        }
    });
    let (begin, busy) = (Instant::now(), processor_time());
    let outcome = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, work).expect("a thread").join()
    });
    let took = begin.elapsed().min(processor_time() - busy);
    *finished.0.lock().unwrap() = true;
    finished.1.notify_all();
    watchdog.join().unwrap();
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        panic!("{name} panicked: {}", text.unwrap_or_default())
    });
    assert!(took <= MAX_TIME, "{name} took {took:?}, expected at most {MAX_TIME:?}");
    outcome
}

/// Returns the user and system time of all threads of the process so far.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("/proc/self/stat");
    // the program name in parentheses may contain spaces; the times are in hundredths of a second
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}
