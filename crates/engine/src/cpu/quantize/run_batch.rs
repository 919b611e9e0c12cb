//! Batches of runs for the searches of scales. Each step of a search processes many runs of values
//! together, with one run per lane.
//!
//! The result of a sum depends on the order of its terms, and ggml's order must be kept. The sum of
//! one run therefore cannot be split across the lanes of a vector register. The sums of many runs,
//! each in ggml's order, can be computed in parallel. Rust neither reorders nor fuses float
//! operations, so the result is the same, bit for bit, on every processor.
//!
//! A batch has more lanes than a vector register, so that LLVM keeps the loops over lanes as loops
//! and vectorizes them. LLVM vectorizes loops over arrays in memory that have no branches.

/// The number of runs in a batch.
pub(super) const LANES: usize = 32;

/// One number for each run of a batch.
pub(super) type Lanes = [f32; LANES];

/// A batch of runs of `LENGTH` values, transposed: a row has the values of all runs at one
/// position.
pub(super) type Rows<const LENGTH: usize> = [Lanes; LENGTH];

/// Transposes the runs of `LENGTH` values in `values`, at most `LANES` runs. Unused lanes are 0.
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

/// Rounds a value between -2^22 and 2^22 to the nearest integer, and ties to even.
#[inline(always)]
pub(super) fn nearest(value: f32) -> f32 {
    // Floats from 2^23 to 2^24 have no fraction. This is 1.5 times 2^23, the middle of that range.
    const NO_FRACTION: f32 = 12_582_912.0;
    (value + NO_FRACTION) - NO_FRACTION
}

/// Clamps `value` to the range from `min` to `max`. NaN becomes `max`.
#[inline(always)]
pub(super) fn clamp(min: f32, max: f32, value: f32) -> f32 {
    let value = if value < max { value } else { max };
    if value > min { value } else { min }
}
