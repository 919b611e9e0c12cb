//! Finds the scale of runs of 16 values for q6_k, like `make_qx_quants` of ggml (`ggml-quants.c`,
//! llama.cpp).
//!
//! Each candidate maps the value farthest from zero to a number of steps and rounds all values to
//! steps. For the resulting quants, the scale with the least squared error is computed, weighted by
//! the squares of the values. The search returns the best scale, in f32.

use super::run_batch::{LANES, Lanes, Rows, clamp, nearest};

/// The number of values in a run.
const LENGTH: usize = 16;

/// Half of the number of quants, which range from `-HALF` to `HALF - 1`.
pub(super) const HALF: f32 = 32.0;

/// Returns the scales that best approximate finite values by `scale * quant`. The value farthest
/// from zero has a quant near `-HALF`, so the scale of a run has the opposite sign of that value. A
/// scale is not finite if the weighted sums exceed the range of f32.
#[inline(always)]
pub(super) fn best_scales(values: &Rows<LENGTH>) -> Lanes {
    let mut farthest = [0f32; LANES];
    for x in values {
        for lane in 0..LANES {
            let farther = x[lane].abs() > farthest[lane].abs();
            farthest[lane] = if farther { x[lane] } else { farthest[lane] };
        }
    }
    let sums = round(values, &farthest, -HALF);
    let mut best = [0.0; LANES];
    let mut gain = [0.0; LANES];
    for lane in 0..LANES {
        let scale = sums.qx[lane] / sums.qq[lane];
        best[lane] = if sums.qq[lane] == 0.0 { 0.0 } else { scale };
        gain[lane] = best[lane] * sums.qx[lane];
    }
    for tenths in (-9i8..=9).filter(|tenths| *tenths != 0) {
        let sums = round(values, &farthest, -(HALF + 0.1 * f32::from(tenths)));
        for lane in 0..LANES {
            let (qx, qq) = (sums.qx[lane], sums.qq[lane]);
            let better = qx * qx > gain[lane] * qq;
            let scale = qx / qq;
            best[lane] = if better { scale } else { best[lane] };
            gain[lane] = if better { scale * qx } else { gain[lane] };
        }
    }
    best
}

/// Weighted sums over each run.
struct Sums {
    /// The sum of the products of quants and values.
    qx: Lanes,
    /// The sum of the squares of the quants.
    qq: Lanes,
}

/// Rounds the values to quants in a scale in which `farthest` is `steps` quants, and returns the
/// sums of these quants.
#[inline(always)]
fn round(values: &Rows<LENGTH>, farthest: &Lanes, steps: f32) -> Sums {
    let mut sums = Sums { qx: [0.0; LANES], qq: [0.0; LANES] };
    let inverse = farthest.map(|value| steps / value);
    for x in values {
        for lane in 0..LANES {
            let q = clamp(-HALF, HALF - 1.0, nearest(inverse[lane] * x[lane]));
            let weight = x[lane] * x[lane];
            sums.qx[lane] += weight * x[lane] * q;
            sums.qq[lane] += weight * q * q;
        }
    }
    sums
}
