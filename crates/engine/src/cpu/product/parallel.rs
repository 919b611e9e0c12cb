//! Distributes work over the threads of a pool, and gives threads write access to disjoint parts of
//! a slice.
//!
//! The pool is rayon's. A thread that has finished its part takes a remaining part, and the work
//! ends without the threads that never started. candle's own pool waits for all of its threads,
//! which on a busy host costs a scheduler time slice per product.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// The minimum number of multiplications for which work is distributed. Waking the other threads
/// takes microseconds.
const MIN_PARALLEL_WORK: usize = 1 << 18;

/// The number of parts of distributed work per thread. Small parts shorten the wait for the last
/// one.
pub(super) const PARTS_PER_THREAD: usize = 4;

/// Splits `0..count` into ranges and calls `part` with each. If `work`, a number of
/// multiplications, is at least [`MIN_PARALLEL_WORK`], several threads call it concurrently.
pub(super) fn in_parallel(work: usize, count: usize, part: impl Fn(Range<usize>) + Sync) {
    if work < MIN_PARALLEL_WORK {
        return part(0..count);
    }
    let part_size = count.div_ceil(rayon::current_num_threads() * PARTS_PER_THREAD);
    (0..count.div_ceil(part_size)).into_par_iter().with_max_len(1).for_each(|number| {
        part(number * part_size..((number + 1) * part_size).min(count));
    });
}

/// A borrowed slice whose disjoint parts are written by several threads.
pub(super) struct DisjointSlice<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives access only to disjoint parts, as `part` requires of its callers.
unsafe impl<T: Send> Sync for DisjointSlice<'_, T> {}

impl<'a, T> DisjointSlice<'a, T> {
    /// Borrows `slice` for the lifetime of the parts.
    pub(super) fn new(slice: &'a mut [T]) -> DisjointSlice<'a, T> {
        DisjointSlice { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Returns the number of elements of the complete slice.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the part of the slice in `range`.
    ///
    /// # Safety
    /// Two parts that overlap must not be in use at the same time.
    #[expect(clippy::mut_from_ref, reason = "the caller ensures that parts are disjoint")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range is inside the slice, which is borrowed for 'a, and the caller ensures
        // that no other reference to these elements is in use.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
