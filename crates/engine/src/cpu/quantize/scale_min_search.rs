//! Finds the scale and the minimum of runs of 32 values for q4_k and q5_k, like `make_qkx2_quants`
//! of ggml (`ggml-quants.c`, llama.cpp).
//!
//! Each candidate divides the range of a run into a number of steps and rounds the values to these
//! steps. A line is fitted to the resulting quants by weighted least squares. The search returns
//! the line with the least error, in f32.

use super::run_batch::{LANES, Lanes, Rows, clamp, nearest};

/// The number of values in a run.
const LENGTH: usize = 32;

/// The candidates of a search.
pub(super) struct Candidates {
    /// The highest quant. The lowest is 0.
    pub(super) levels: f32,
    /// The number of steps of the first candidate, relative to `levels`.
    pub(super) first: f32,
    /// The number of candidates. Each has 0.1 steps more than the previous one.
    pub(super) count: u8,
}

/// A line for each run, which approximates its values by `scale * quant + minimum`.
pub(super) struct ScaleMin {
    /// The difference between the values of adjacent quants, at least 0.
    pub(super) scale: Lanes,
    /// The value of quant 0, at most 0.
    pub(super) minimum: Lanes,
}

/// Returns the lines with the least weighted squared error for finite values.
#[inline(always)]
pub(super) fn best_scale_min(values: &Rows<LENGTH>, candidates: &Candidates) -> ScaleMin {
    let weighted = WeightedValues::new(values);
    let (lowest, highest) = ranges(values);
    let mut quants = [[0.0; LANES]; LENGTH];
    let mut inverse = [0.0; LANES];
    let mut best = ScaleMin { scale: [0.0; LANES], minimum: lowest };
    // If all values are equal and not above 0, the range is empty. The inverse is then infinite,
    // the scale 0 and the error 0, so that no candidate is better.
    for lane in 0..LANES {
        inverse[lane] = candidates.levels / (highest[lane] - lowest[lane]);
        best.scale[lane] = 1.0 / inverse[lane];
    }
    weighted.round(&inverse, &lowest, candidates.levels, &mut quants);
    let mut min_error = weighted.error(&quants, &best);
    for candidate in 0..candidates.count {
        let steps = candidates.first + 0.1 * f32::from(candidate) + candidates.levels;
        for lane in 0..LANES {
            inverse[lane] = steps / (highest[lane] - best.minimum[lane]);
        }
        let sums = weighted.round(&inverse, &best.minimum, candidates.levels, &mut quants);
        let line = weighted.fit(&sums);
        let error = weighted.error(&quants, &line);
        for lane in 0..LANES {
            let better = error[lane] < min_error[lane];
            min_error[lane] = if better { error[lane] } else { min_error[lane] };
            best.scale[lane] = if better { line.scale[lane] } else { best.scale[lane] };
            best.minimum[lane] = if better { line.minimum[lane] } else { best.minimum[lane] };
        }
    }
    best
}

/// Returns the lowest value of each run, or 0 if all values are above 0, and the highest value of
/// each run.
#[inline(always)]
fn ranges(values: &Rows<LENGTH>) -> (Lanes, Lanes) {
    let mut lowest = [0.0; LANES];
    let mut highest = values[0];
    for x in values {
        for lane in 0..LANES {
            lowest[lane] = if x[lane] < lowest[lane] { x[lane] } else { lowest[lane] };
            highest[lane] = if x[lane] > highest[lane] { x[lane] } else { highest[lane] };
        }
    }
    (lowest, highest)
}

/// The values of a batch, with a weight for the error of each value. A weight increases with the
/// magnitude of its value.
struct WeightedValues<'a> {
    values: &'a Rows<LENGTH>,
    weights: Rows<LENGTH>,
    /// The sum of the weights of each run.
    w: Lanes,
    /// The sum of the products of weights and values of each run.
    wx: Lanes,
}

/// Weighted sums over each run.
struct Sums {
    /// The sum of the quants.
    q: Lanes,
    /// The sum of the squares of the quants.
    qq: Lanes,
    /// The sum of the products of quants and values.
    qx: Lanes,
}

impl WeightedValues<'_> {
    #[inline(always)]
    fn new(values: &Rows<LENGTH>) -> WeightedValues<'_> {
        let mut mean = [0.0; LANES];
        for x in values {
            for lane in 0..LANES {
                mean[lane] += x[lane] * x[lane];
            }
        }
        for mean in &mut mean {
            *mean = (*mean / LENGTH as f32).sqrt();
        }
        let mut weights = [[0.0; LANES]; LENGTH];
        let (mut w, mut wx) = ([0.0; LANES], [0.0; LANES]);
        for (weights, x) in weights.iter_mut().zip(values) {
            for lane in 0..LANES {
                weights[lane] = mean[lane] + x[lane].abs();
                w[lane] += weights[lane];
                wx[lane] += weights[lane] * x[lane];
            }
        }
        WeightedValues { values, weights, w, wx }
    }

    /// Rounds the values to quants, where `inverse` is the number of steps per unit and `minimum`
    /// is the value of quant 0. Writes the quants to `quants`, and returns their sums.
    #[inline(always)]
    fn round(
        &self,
        inverse: &Lanes,
        minimum: &Lanes,
        levels: f32,
        quants: &mut Rows<LENGTH>,
    ) -> Sums {
        let mut sums = Sums { q: [0.0; LANES], qq: [0.0; LANES], qx: [0.0; LANES] };
        for ((quants, x), weights) in quants.iter_mut().zip(self.values).zip(&self.weights) {
            for lane in 0..LANES {
                let steps = inverse[lane] * (x[lane] - minimum[lane]);
                let q = clamp(0.0, levels, nearest(steps));
                let wq = weights[lane] * q;
                quants[lane] = q;
                sums.q[lane] += wq;
                sums.qq[lane] += wq * q;
                sums.qx[lane] += wq * x[lane];
            }
        }
        sums
    }

    /// Returns the lines with the least error for given quants, from their sums. A line is NaN if
    /// it is not determined. A line whose minimum would be above 0 goes through 0 instead.
    #[inline(always)]
    fn fit(&self, sums: &Sums) -> ScaleMin {
        let mut line = ScaleMin { scale: [0.0; LANES], minimum: [0.0; LANES] };
        for lane in 0..LANES {
            let (w, wx) = (self.w[lane], self.wx[lane]);
            let (q, qq, qx) = (sums.q[lane], sums.qq[lane], sums.qx[lane]);
            let determinant = w * qq - q * q;
            let determinant = if determinant > 0.0 { determinant } else { f32::NAN };
            let scale = (w * qx - wx * q) / determinant;
            let minimum = (qq * wx - q * qx) / determinant;
            let above = minimum > 0.0;
            line.scale[lane] = if above { qx / qq } else { scale };
            line.minimum[lane] = if above { 0.0 } else { minimum };
        }
        line
    }

    /// Returns the weighted squared error of each run, if its quants are converted to values by its
    /// line.
    #[inline(always)]
    fn error(&self, quants: &Rows<LENGTH>, line: &ScaleMin) -> Lanes {
        let mut sum = [0.0; LANES];
        for ((q, x), weights) in quants.iter().zip(self.values).zip(&self.weights) {
            for lane in 0..LANES {
                let difference = line.scale[lane] * q[lane] + line.minimum[lane] - x[lane];
                sum[lane] += weights[lane] * (difference * difference);
            }
        }
        sum
    }
}
