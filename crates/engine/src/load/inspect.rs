//! Inspects the values of a piece: whether they are finite, and whether any is not zero.

use crate::blocks::Block;
use crate::cpu::quantize::SquaredError;
use modelgate_protocol::DType;

/// What was found in one piece.
#[derive(Default)]
pub(super) struct PieceStats {
    /// The error of quantizing.
    pub(super) error: SquaredError,
    /// NaN and infinite values.
    pub(super) nonfinite: u64,
    /// All values.
    pub(super) values: u64,
    /// The number of the piece's matrix in the tensor.
    pub(super) matrix: usize,
    pub(super) all_zero: bool,
    pub(super) defect: Option<Defect>,
}

/// A value that makes a tensor unusable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Defect {
    /// The source has NaN or infinity, first at this index.
    NonFinite(u64),
    /// The scale of the block of the value at this index is beyond the range of f16.
    ScaleOverflow(u64),
}

/// Inspects values, of which the first has the index `first` in the tensor.
pub(super) fn inspect(values: &[f32], first: u64) -> PieceStats {
    let nonfinite = values.iter().filter(|value| !value.is_finite()).count() as u64;
    let at = values.iter().position(|value| !value.is_finite()).filter(|_| nonfinite > 0);
    PieceStats {
        nonfinite,
        values: values.len() as u64,
        all_zero: values.iter().all(|value| *value == 0.0),
        defect: at.map(|at| Defect::NonFinite(first + at as u64)),
        ..PieceStats::default()
    }
}

/// Inspects blocks by their scales: a value is finite if those of its block are, and a block whose
/// scales are zero has no other values.
pub(super) fn inspect_blocks(dtype: &DType, bytes: &[u8], first: u64) -> PieceStats {
    let (elements, size) = dtype.block().unwrap_or((1, 1));
    // the positions of the f16 scales of a block (`ggml-common.h`)
    let scales: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        _ => &[],
    };
    const EXPONENT: u16 = 0x7c00;
    let mut stats = PieceStats { all_zero: true, ..PieceStats::default() };
    for (number, block) in (0..).zip(bytes.chunks_exact(size as usize)) {
        let scale = |at: &usize| u16::from_le_bytes([block[*at], block[at + 1]]);
        stats.all_zero &= scales.iter().all(|at| scale(at) & 0x7fff == 0);
        if scales.iter().any(|at| scale(at) & EXPONENT == EXPONENT) {
            let at = first + number * elements;
            stats.defect.get_or_insert(Defect::NonFinite(at));
            stats.nonfinite += elements;
        }
        stats.values += elements;
    }
    stats
}

/// Returns whether every value of these blocks is zero; stops at the first that is not.
pub(super) fn all_zero<T: Block>(blocks: &[T]) -> bool {
    let mut values = vec![0f32; T::BLCK_SIZE];
    blocks.chunks(1).all(|block| {
        T::to_float(block, &mut values);
        values.iter().all(|value| *value == 0.0)
    })
}
