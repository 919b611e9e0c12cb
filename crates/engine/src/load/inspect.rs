//! Inspects the values of a piece: whether all are finite, and whether all are zero.

use crate::blocks::Block;
use crate::cpu::quantize::SquaredError;
use modelgate_protocol::DType;

/// The results of inspecting one piece of a tensor.
#[derive(Default)]
pub(super) struct PieceStats {
    /// The squared error of quantization; zero if the piece was not quantized.
    pub(super) error: SquaredError,
    /// The number of NaN and infinite values.
    pub(super) non_finite: u64,
    /// The number of values.
    pub(super) values: u64,
    /// The index of the matrix in the tensor that the piece belongs to.
    pub(super) matrix: usize,
    /// Whether every value of the piece is zero.
    pub(super) all_zero: bool,
    /// The first unusable value; `None` if there is no such value.
    pub(super) defect: Option<Defect>,
}

/// A value that makes a tensor unusable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Defect {
    /// A NaN or infinite value in the source, with its index in the tensor; for blocks, the index
    /// of the first value of the block.
    NonFinite(u64),
    /// A block whose scale is outside the range of f16, with the index in the tensor of a value in
    /// it.
    ScaleOverflow(u64),
}

/// Inspects float values. `first` is the index in the tensor of the first of them.
pub(super) fn inspect(values: &[f32], first: u64) -> PieceStats {
    let non_finite = values.iter().filter(|value| !value.is_finite()).count() as u64;
    let at = values.iter().position(|value| !value.is_finite()).filter(|_| non_finite > 0);
    PieceStats {
        non_finite,
        values: values.len() as u64,
        all_zero: values.iter().all(|value| *value == 0.0),
        defect: at.map(|at| Defect::NonFinite(first + at as u64)),
        ..PieceStats::default()
    }
}

/// Inspects quantized blocks by their scales: all values of a block are finite if its scales are,
/// and all values are zero if its scales are zero. `first` is the index in the tensor of the first
/// value.
pub(super) fn inspect_blocks(dtype: &DType, bytes: &[u8], first: u64) -> PieceStats {
    let (elements, size) = dtype.block().unwrap_or((1, 1));
    // the positions of the f16 scales of a block (`ggml-common.h`)
    let scales: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        DType::F32 | DType::F64 | DType::F16 | DType::Bf16 | DType::Other(_) => &[],
    };
    const EXPONENT: u16 = 0x7c00;
    let mut stats = PieceStats { all_zero: true, ..PieceStats::default() };
    for (number, block) in (0..).zip(bytes.chunks_exact(size as usize)) {
        let scale = |at: &usize| u16::from_le_bytes([block[*at], block[at + 1]]);
        stats.all_zero &= scales.iter().all(|at| scale(at) & 0x7fff == 0);
        if scales.iter().any(|at| scale(at) & EXPONENT == EXPONENT) {
            let at = first + number * elements;
            stats.defect.get_or_insert(Defect::NonFinite(at));
            stats.non_finite += elements;
        }
        stats.values += elements;
    }
    stats
}

/// Returns whether all values of the blocks are zero. Stops at the first value that is not.
pub(super) fn all_zero<T: Block>(blocks: &[T]) -> bool {
    let mut values = vec![0f32; T::BLCK_SIZE];
    blocks.chunks(1).all(|block| {
        T::to_float(block, &mut values);
        values.iter().all(|value| *value == 0.0)
    })
}
