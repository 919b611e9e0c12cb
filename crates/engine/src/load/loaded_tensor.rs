//! A loaded tensor, with the results of the inspection of its values.

use super::inspect::{Defect, PieceStats};
use crate::cpu::quantize::SquaredError;
use crate::weights::ResidentTensor;

/// A loaded tensor, with the results of the inspection of its values.
pub(super) struct LoadedTensor {
    /// The matrices of the tensor: one, or one for each expert.
    pub(super) matrices: Vec<ResidentTensor>,
    /// The normalized mean squared error of quantization; `None` if the tensor was not quantized.
    pub(super) nmse: Option<f64>,
    /// The largest error of a piece, because a single wrong row hardly changes the mean over a
    /// large tensor; `None` if the tensor was not quantized.
    pub(super) worst_nmse: Option<f64>,
    /// The index of the first matrix that contains only zeros; `None` if there is no such matrix.
    pub(super) first_zero_matrix: Option<usize>,
    /// The number of NaN and infinite values in the source.
    pub(super) non_finite: u64,
    /// The first value that makes the tensor unusable; `None` if the tensor is usable.
    pub(super) defect: Option<Defect>,
}

impl LoadedTensor {
    /// Creates a tensor of random values, which need no inspection.
    pub(super) fn random(matrices: Vec<ResidentTensor>) -> LoadedTensor {
        LoadedTensor::from_pieces(matrices, false, &[])
    }

    /// Creates a tensor from its matrices and the statistics of its pieces. `quantized` says
    /// whether the pieces were quantized during loading.
    pub(super) fn from_pieces(
        matrices: Vec<ResidentTensor>,
        quantized: bool,
        pieces: &[PieceStats],
    ) -> LoadedTensor {
        let error = pieces.iter().fold(SquaredError::default(), |sum, piece| sum + piece.error);
        LoadedTensor {
            matrices,
            nmse: quantized.then(|| error.normalized()),
            worst_nmse: quantized.then(|| worst_error(pieces, error)),
            first_zero_matrix: pieces
                .chunk_by(|a, b| a.matrix == b.matrix)
                .find(|pieces| pieces.iter().all(|piece| piece.all_zero))
                .and_then(|pieces| pieces.first())
                .map(|piece| piece.matrix),
            non_finite: pieces.iter().map(|piece| piece.non_finite).sum(),
            defect: pieces.iter().find_map(|piece| piece.defect),
        }
    }
}

/// Returns the largest normalized error of a piece; `total` is the error of the complete tensor.
/// The error of a piece is divided by the mean square of the complete tensor if that is larger than
/// that of the piece (for example rows of tokens that are never used), because a loss of tiny
/// values does not matter.
fn worst_error(pieces: &[PieceStats], total: SquaredError) -> f64 {
    let values: u64 = pieces.iter().map(|piece| piece.values).sum();
    let mean = total.source / values.max(1) as f64;
    pieces
        .iter()
        .map(|piece| SquaredError {
            source: piece.error.source.max(mean * piece.values as f64),
            ..piece.error
        })
        .map(SquaredError::normalized)
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_piece_changes_the_worst_error_and_a_piece_of_tiny_values_does_not() {
        let piece = |difference, source| PieceStats {
            error: SquaredError { difference, source },
            values: 100,
            ..PieceStats::default()
        };
        let sum =
            |pieces: &[PieceStats]| pieces.iter().fold(SquaredError::default(), |a, b| a + b.error);
        let lost = [piece(0.1, 100.0), piece(100.0, 100.0), piece(0.1, 100.0)];
        assert!(worst_error(&lost, sum(&lost)) > 0.9);
        let tiny = [piece(0.1, 100.0), piece(1e-20, 1e-20), piece(0.1, 100.0)];
        assert!(worst_error(&tiny, sum(&tiny)) < 0.002);
    }
}
