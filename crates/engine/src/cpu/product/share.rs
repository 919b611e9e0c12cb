//! Distributes work over the threads of the pool, and slices that they write together. Knows no
//! product.
//!
//! The pool is rayon's: a thread that has finished its part takes what is left, and threads that
//! have not begun are not waited for. candle's own pool waits for all of its threads each time,
//! which on a busy host takes a time slice for each product.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Multiplications below which the work is not distributed: it takes microseconds to wake the other
/// threads.
const MIN_SHARED_WORK: usize = 1 << 18;

/// Parts of distributed work for each thread, so that none waits long for the last.
pub(super) const PARTS_PER_THREAD: usize = 4;

/// Calls `part` with ranges that make up `0..count`, from several threads at once if `work`, a number
/// of multiplications, is large enough.
pub(super) fn share(work: usize, count: usize, part: impl Fn(Range<usize>) + Sync) {
    if work < MIN_SHARED_WORK {
        return part(0..count);
    }
    let at_once = count.div_ceil(rayon::current_num_threads() * PARTS_PER_THREAD);
    (0..count.div_ceil(at_once)).into_par_iter().with_max_len(1).for_each(|number| {
        part(number * at_once..((number + 1) * at_once).min(count));
    });
}

/// A slice of which several threads write different parts.
pub(super) struct Parts<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: gives access to disjoint parts only, as callers of `part` promise.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    /// Borrows the slice for as long as its parts are.
    pub(super) fn new(slice: &'a mut [T]) -> Parts<'a, T> {
        Parts { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Returns the number of values of the whole slice.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns one part.
    ///
    /// # Safety
    /// No two parts that overlap may be in use at once.
    #[expect(clippy::mut_from_ref, reason = "the caller promises that parts are disjoint")]
    pub(super) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: within the slice that was borrowed for as long as this lives, and no other
        // reference to these values is in use.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
