//! A loaded tensor, and what was found in its values.

use super::inspect::{Defect, PieceStats};
use crate::cpu::quantize::SquaredError;
use crate::weights::Resident;

/// A loaded tensor, and what was found in its values.
pub(super) struct Filled {
    /// Its matrices: one, or as many as there are experts.
    pub(super) residents: Vec<Resident>,
    /// The error of quantizing; `None` if nothing was quantized.
    pub(super) nmse: Option<f64>,
    /// The error of the worst piece: one wrong row is lost in the mean over a large tensor.
    pub(super) worst_nmse: Option<f64>,
    /// The first matrix whose every value is zero.
    pub(super) zero: Option<usize>,
    /// NaN and infinite values of the source.
    pub(super) nonfinite: u64,
    /// Why the values cannot be used.
    pub(super) defect: Option<Defect>,
}

impl Filled {
    /// Returns matrices that were made, whose values need no inspection.
    pub(super) fn made(residents: Vec<Resident>) -> Filled {
        Filled::read(residents, false, &[])
    }

    /// Returns matrices whose pieces were read, and quantized if `quantized`.
    pub(super) fn read(residents: Vec<Resident>, quantized: bool, pieces: &[PieceStats]) -> Filled {
        let error = pieces.iter().fold(SquaredError::default(), |sum, piece| sum + piece.error);
        Filled {
            residents,
            nmse: quantized.then(|| error.normalised()),
            worst_nmse: quantized.then(|| worst(pieces, error)),
            zero: pieces
                .chunk_by(|a, b| a.matrix == b.matrix)
                .find(|pieces| pieces.iter().all(|piece| piece.all_zero))
                .and_then(|pieces| pieces.first())
                .map(|piece| piece.matrix),
            nonfinite: pieces.iter().map(|piece| piece.nonfinite).sum(),
            defect: pieces.iter().find_map(|piece| piece.defect),
        }
    }
}

/// Returns the largest error of a piece. The error of a piece of values far below the tensor's own
/// (rows of tokens that are never used) is relative to the mean of all pieces: a loss there does not
/// matter.
fn worst(pieces: &[PieceStats], whole: SquaredError) -> f64 {
    let values: u64 = pieces.iter().map(|piece| piece.values).sum();
    let mean = whole.source / values.max(1) as f64;
    pieces
        .iter()
        .map(|piece| SquaredError {
            source: piece.error.source.max(mean * piece.values as f64),
            ..piece.error
        })
        .map(SquaredError::normalised)
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_piece_shows_and_one_of_tiny_values_does_not() {
        let piece = |difference, source| PieceStats {
            error: SquaredError { difference, source },
            values: 100,
            ..PieceStats::default()
        };
        let sum =
            |seen: &[PieceStats]| seen.iter().fold(SquaredError::default(), |a, b| a + b.error);
        let lost = [piece(0.1, 100.0), piece(100.0, 100.0), piece(0.1, 100.0)];
        assert!(worst(&lost, sum(&lost)) > 0.9);
        let tiny = [piece(0.1, 100.0), piece(1e-20, 1e-20), piece(0.1, 100.0)];
        assert!(worst(&tiny, sum(&tiny)) < 0.002);
    }
}
