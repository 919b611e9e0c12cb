//! Batches of runs, on which the searches for scales operate: each step is done for many runs of
//! values at once, one run a lane.
//!
//! ggml's sums depend on their order, so the sum of a run cannot be split among the parts of a
//! vector register; the sums of many runs, each in ggml's order, can. Rust neither reorders nor
//! fuses float operations, so the result is the same, bit for bit, on every processor.
//!
//! There are more lanes than a register has, for LLVM to keep the loops over lanes as loops and
//! make vectors of them. It does that for loops without branches over arrays in memory.

/// Runs of a batch.
pub(super) const LANES: usize = 32;

/// One number for each run.
pub(super) type Lanes = [f32; LANES];

/// Runs of `LENGTH` values, transposed: a row has the values of all runs at one position.
pub(super) type Rows<const LENGTH: usize> = [Lanes; LENGTH];

/// Transposes the runs of `LENGTH` in `values`, at most `LANES`. The lanes that are left are 0.
#[inline(always)]
pub(super) fn transposed<const LENGTH: usize>(values: &[f32]) -> Rows<LENGTH> {
    let mut rows = [[0.0; LANES]; LENGTH];
    for (lane, run) in values.as_chunks::<LENGTH>().0.iter().enumerate() {
        for (row, value) in rows.iter_mut().zip(run) {
            row[lane] = *value;
        }
    }
    rows
}

/// Rounds a value within 2^22 of zero to the nearest integer, halves to even.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    // Floats from 2^23 to 2^24 have no fraction, and this is the middle between the two.
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// Clamps `value`; returns `max` if it is NaN.
#[inline(always)]
pub(super) fn clamp(min: f32, max: f32, value: f32) -> f32 {
    let value = if value < max { value } else { max };
    if value > min { value } else { min }
}
