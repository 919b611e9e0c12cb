//! What the searches for scales are written in: each step is done for many runs of values at once,
//! one run a lane.
//!
//! ggml's sums depend on their order, so the sum of a run cannot be split among the parts of a
//! vector register; the sums of many runs, each in ggml's order, can. Rust neither reorders nor
//! fuses float operations, so the result is the same, bit for bit, on every processor.
//!
//! There are more lanes than a register has, for LLVM to keep the loops over lanes as loops and
//! make vectors of them. It does that for loops without branches over arrays in memory.

/// Runs that are searched side by side.
pub(super) const LANES: usize = 32;

/// One number for each run.
pub(super) type Lanes = [f32; LANES];

/// Runs of `LENGTH` values, side by side: a row has the values of the same place in all of them.
pub(super) type Rows<const LENGTH: usize> = [Lanes; LENGTH];

/// The runs of `LENGTH` that `values` are made of, at most `LANES`. The lanes that are left are 0.
#[inline(always)]
pub(super) fn side_by_side<const LENGTH: usize>(values: &[f32]) -> Rows<LENGTH> {
    let mut rows = [[0.0; LANES]; LENGTH];
    for (lane, run) in values.as_chunks::<LENGTH>().0.iter().enumerate() {
        for (row, value) in rows.iter_mut().zip(run) {
            row[lane] = *value;
        }
    }
    rows
}

/// Rounds to the nearest integer, halves to even, what is within 2^22 of zero.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    // Floats from 2^23 to 2^24 have no fraction, and this is the middle between the two.
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// `value` within bounds; `most` where it is NaN.
#[inline(always)]
pub(super) fn within(least: f32, most: f32, value: f32) -> f32 {
    let value = if value < most { value } else { most };
    if value > least { value } else { least }
}
