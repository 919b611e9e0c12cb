//! Runs the mutations of one file, and counts how many of each kind load.

use modelgate_protocol::Failure;
use modelgate_testkit::limits::{MAX_BYTES, peak, within_limits};
use modelgate_testkit::mutation::{Field, Mutation, mutated};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

/// The number of mutations of each file.
const CASES: u64 = 1000;

/// Whether a case is running.
static WITHIN: AtomicBool = AtomicBool::new(false);

/// Waits until no other test runs, because the allocator counts the bytes of the process.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            // Panics that the engine catches are not printed.
            if !WITHIN.load(Ordering::Relaxed) {
                told(panic);
            }
        }));
    });
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` within the limits. Panics with the name and the number of bytes if it exceeds one.
pub(crate) fn bounded<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    peak();
    let outcome = within_limits(name, || {
        WITHIN.store(true, Ordering::Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(work));
        WITHIN.store(false, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    });
    let bytes = peak();
    assert!(bytes <= MAX_BYTES, "{name} took {bytes} bytes");
    if bytes > MAX_BYTES / 4 {
        println!("{name}: {bytes} bytes");
    }
    outcome
}

/// Mutates `sound`, and calls `load` with each mutation. `load` must compare the loaded values with the
/// bytes. `front` and `fields` are as in [`mutated`]. Asserts that mutations of each kind are refused, and
/// that some mutations of each kind in `loaded` load.
pub(crate) fn thousand(
    name: &str,
    sound: &[u8],
    front: usize,
    fields: &[Field],
    loaded: &[Mutation],
    load: impl Fn(&str, &[u8]) -> Result<(), Failure> + Sync,
) {
    let _alone = alone();
    bounded(&format!("{name}, unchanged"), || load(name, sound)).expect("the valid file loads");
    let mut outcomes: BTreeMap<(Mutation, bool), u64> = BTreeMap::new();
    for number in 0..CASES {
        let (mutation, bytes) = mutated(sound, front, fields, number);
        let case = format!("{name}, mutation {number} ({mutation:?})");
        let outcome = bounded(&case, || load(&case, &bytes));
        if let Err(failure) = &outcome {
            assert!(failure.message.len() < 8192, "{case}: {}", failure.message);
            assert!(!failure.message.contains("defect of modelgate"), "{case}: {failure}");
            assert_ne!(
                failure.kind,
                modelgate_protocol::FailureKind::Internal,
                "{case}: {failure}"
            );
        }
        *outcomes.entry((mutation, outcome.is_ok())).or_default() += 1;
    }
    println!("{name}: {outcomes:?}");
    for mutation in [Mutation::Cut, Mutation::Flip, Mutation::Length] {
        assert!(outcomes.contains_key(&(mutation, false)), "{name}: every {mutation:?} loads");
    }
    for mutation in loaded {
        assert!(outcomes.contains_key(&(*mutation, true)), "{name}: no {mutation:?} loads");
    }
}
