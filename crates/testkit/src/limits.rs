//! Limits on what a test takes: memory that cannot be had beyond a gigabyte, and time after which the
//! process ends with the name of what hangs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a process may have at once.
pub const MOST_BYTES: usize = 1 << 30;

/// What one case may take: of the clock, or where others keep the processor busy, of the processor.
pub const LONGEST: Duration = Duration::from_secs(5);

/// The system's allocator, which gives [`MOST_BYTES`] and no more: to be a test binary's
/// `#[global_allocator]`.
pub struct Limited;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// What is being done.
static CASE: Mutex<String> = Mutex::new(String::new());

fn take(bytes: usize) -> bool {
    let taken = TAKEN.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if taken > MOST_BYTES {
        TAKEN.fetch_sub(bytes, Ordering::Relaxed);
        // whoever asked may end the process, and nobody else could say what it was at
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
        // SAFETY: the caller's promises are those that are asked for.
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
        // old and new are there at once where the system has to move what is in them
        if !take(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        TAKEN.fetch_sub(if moved.is_null() { size } else { layout.size() }, Ordering::Relaxed);
        moved
    }
}

/// The most that was taken at once since the last call, in bytes; 0 where [`Limited`] is not the
/// allocator.
pub fn peak() -> usize {
    PEAK.swap(TAKEN.load(Ordering::Relaxed), Ordering::Relaxed)
}

/// Does what a case is to do, on a thread with the stack that threads of a process have unless they ask
/// for another.
///
/// # Panics
/// It panics, or takes longer than [`LONGEST`]. What takes far longer ends the process, and so does what
/// overflows the stack; both say the name.
pub fn within_limits<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    *CASE.lock().unwrap_or_else(PoisonError::into_inner) = name.to_owned();
    let over = Arc::new((Mutex::new(false), Condvar::new()));
    let (watched, label) = (Arc::clone(&over), name.to_owned());
    let watch = std::thread::spawn(move || {
        let (over, changed) = &*watched;
        let waited =
            changed.wait_timeout_while(over.lock().unwrap(), 12 * LONGEST, |over| !*over).unwrap();
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
    assert!(took <= LONGEST, "{name} took {took:?}");
    outcome
}

/// What all threads of the process have had of the processor so far.
fn processor_time() -> Duration {
    let stat =
        std::fs::read_to_string("/proc/self/stat").expect("what the kernel says of the process");
    // the name of the program, in brackets, may have blanks; times are in hundredths of a second
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}
