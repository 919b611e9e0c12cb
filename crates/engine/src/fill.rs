//! One tensor from its file to its resident form: read in pieces, checked, converted, measured.
//!
//! A piece is a run of whole rows of about [`PIECE_BYTES`]. Pieces go through buffers that belong
//! to a thread and are used again, so that no tensor is ever in memory a second time.

use crate::fail;
use crate::meter::Meter;
use crate::quantize::{SquaredError, quantize};
use crate::source::{Source, SourceTensor};
use crate::storage::{Block, HostMatrix, Resident, bytes_mut, with_block, zeroed};
use candle_core::{Device, Tensor};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use modelgate_model::Role;
use modelgate_protocol::{DType, Failure, FailureKind};
use rayon::prelude::*;
use std::cell::RefCell;

/// Bytes of a file that a thread handles at once. Large enough that a read costs little more than
/// its copying, small enough that all threads' buffers together are nothing beside a model.
const PIECE_BYTES: u64 = 1 << 20;

/// What is to become of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// f32, from any float type.
    Float,
    /// Blocks, quantized from any float type.
    Quantize(DType),
    /// The blocks of the file as they are.
    Keep,
}

/// A tensor that is resident, and what was seen while it came.
pub(crate) struct Filled {
    /// The tensor.
    pub(crate) resident: Resident,
    /// Error of quantizing; none where nothing was quantized.
    pub(crate) nmse: Option<f64>,
    /// The same of the worst piece: one wrong row is lost in the mean over a large tensor.
    pub(crate) worst_nmse: Option<f64>,
    /// Matrices that the tensor holds: one, or as many as there are experts.
    pub(crate) matrices: usize,
    /// The first of them whose every value is zero.
    pub(crate) zero: Option<usize>,
    /// NaN and infinite values of the source.
    pub(crate) nonfinite: u64,
    /// Why its values cannot be used.
    pub(crate) spoiled: Option<Spoiled>,
}

/// A value that makes a tensor useless.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spoiled {
    /// The source has NaN or infinity, first at this index.
    Source(u64),
    /// The value at this index is beyond what the block's scale can hold.
    Scale(u64),
}

/// Loads one tensor.
pub(crate) fn fill(
    source: &Source,
    name: &str,
    tensor: &SourceTensor,
    form: &Form,
    meter: &Meter,
) -> Result<Filled, Failure> {
    let job = Job { source, name, tensor, keep: *form == Form::Keep, meter };
    let quantized = match form {
        Form::Float => None,
        Form::Quantize(dtype) => Some(dtype),
        Form::Keep => Some(&tensor.dtype),
    };
    match quantized {
        None => job.float(),
        Some(dtype) => with_block!(dtype, B => job.matrix::<B>(), else job.float()),
    }
}

/// What was seen of one piece.
#[derive(Default)]
struct Seen {
    error: SquaredError,
    nonfinite: u64,
    values: u64,
    /// Which matrix of the tensor it belongs to.
    matrix: usize,
    all_zero: bool,
    spoiled: Option<Spoiled>,
}

struct Job<'a> {
    source: &'a Source,
    name: &'a str,
    tensor: &'a SourceTensor,
    keep: bool,
    meter: &'a Meter<'a>,
}

#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Job<'_> {
    fn float(&self) -> Result<Filled, Failure> {
        let (values, seen) = self.pieces::<f32>()?;
        let tensor = Tensor::from_vec(values, self.tensor.shape.as_slice(), &Device::Cpu)
            .map_err(fail::internal(modelgate_protocol::Stage::Load))?;
        Ok(filled(Resident::Float(tensor), None, &seen))
    }

    fn matrix<T: Block>(&self) -> Result<Filled, Failure> {
        let (blocks, seen) = self.pieces::<T>()?;
        let (rows, columns) = self.rows_and_columns();
        let matrix = HostMatrix::new(blocks, rows, columns);
        let error = seen.iter().fold(SquaredError::default(), |sum, seen| sum + seen.error);
        let errors = (!self.keep).then(|| (error.normalised(), worst(&seen, error)));
        Ok(filled(Resident::Host(matrix), errors, &seen))
    }

    fn rows_and_columns(&self) -> (usize, usize) {
        let columns = self.tensor.shape.last().copied().unwrap_or(1).max(1);
        (self.tensor.shape.iter().product::<usize>() / columns, columns)
    }

    /// All pieces of the tensor, in parallel, and what was seen of each, in order.
    fn pieces<T: Block>(&self) -> Result<(Vec<T>, Vec<Seen>), Failure> {
        let (rows, columns) = self.rows_and_columns();
        let row_bytes = (self.tensor.bytes / rows.max(1) as u64).max(1);
        let rows_at_once = (PIECE_BYTES / row_bytes).max(1) as usize;
        let blocks_in_row = columns / T::BLCK_SIZE;
        // experts that are one tensor are looked at one by one
        let matrices = match self.tensor.shape.as_slice() {
            [count, _, _] => *count,
            _ => 1,
        };
        let rows_in_matrix = rows / matrices.max(1);
        let count = rows * blocks_in_row;
        let mut blocks = zeroed::<T>(count).ok_or_else(|| {
            let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
            fail::host_memory(bytes, &format!("tensor {}", self.name))
        })?;
        let seen = blocks
            .par_chunks_mut((rows_in_matrix * blocks_in_row).max(1))
            .enumerate()
            .flat_map(|(matrix, blocks)| {
                let pieces = blocks.par_chunks_mut(rows_at_once * blocks_in_row).enumerate();
                pieces.map(move |(piece, blocks)| (matrix, piece, blocks))
            })
            .map(|(matrix, piece, blocks)| {
                let row = (matrix * rows_in_matrix + piece * rows_at_once) as u64;
                SCRATCH.with_borrow_mut(|scratch| {
                    let seen = self.piece(blocks, row * row_bytes, row * columns as u64, scratch);
                    seen.map(|seen| Seen { matrix, ..seen })
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((blocks, seen))
    }

    /// One piece, which begins at byte `from` and value `first` of the tensor.
    fn piece<T: Block>(
        &self,
        blocks: &mut [T],
        from: u64,
        first: u64,
        scratch: &mut Scratch,
    ) -> Result<Seen, Failure> {
        let count = blocks.len() * T::BLCK_SIZE;
        scratch.values.resize(count, 0.0);
        let bytes = if self.keep {
            let target = bytes_mut(blocks);
            self.read(from, target)?;
            let bytes = target.len();
            T::to_float(blocks, &mut scratch.values);
            bytes
        } else {
            let bytes = self.tensor.dtype.bytes(count as u64).unwrap_or(0) as usize;
            scratch.bytes.resize(bytes, 0);
            self.read(from, &mut scratch.bytes)?;
            decode(&self.tensor.dtype, &scratch.bytes, &mut scratch.values);
            bytes
        };
        let mut seen = inspect(&scratch.values, first);
        if seen.nonfinite == 0 && !self.keep {
            self.convert(blocks, bytes as u64, first, &scratch.values, &mut seen);
        }
        self.meter.advance(bytes as u64);
        Ok(seen)
    }

    fn convert<T: Block>(
        &self,
        blocks: &mut [T],
        bytes: u64,
        first: u64,
        values: &[f32],
        seen: &mut Seen,
    ) {
        if T::BLCK_SIZE == 1 {
            T::from_float(values, blocks);
            return;
        }
        match self.meter.quantize.during(bytes, || quantize(values, blocks)) {
            Ok(error) => seen.error = error,
            Err(at) => seen.spoiled = Some(Spoiled::Scale(first + at as u64)),
        }
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let bytes = buffer.len() as u64;
        self.meter.read.during(bytes, || self.source.read(self.tensor, from, buffer))
    }
}

/// The largest error of a piece. A piece of values far below the tensor's own (rows of tokens that
/// are never used) is held against what a piece has in the mean: nobody misses what is lost there.
fn worst(seen: &[Seen], whole: SquaredError) -> f64 {
    let values: u64 = seen.iter().map(|seen| seen.values).sum();
    let mean = whole.source / values.max(1) as f64;
    seen.iter()
        .map(|seen| SquaredError {
            source: seen.error.source.max(mean * seen.values as f64),
            ..seen.error
        })
        .map(SquaredError::normalised)
        .fold(0.0, f64::max)
}

fn filled(resident: Resident, errors: Option<(f64, f64)>, seen: &[Seen]) -> Filled {
    Filled {
        resident,
        nmse: errors.map(|(whole, _)| whole),
        worst_nmse: errors.map(|(_, worst)| worst),
        matrices: seen.last().map_or(0, |seen| seen.matrix + 1),
        zero: seen
            .chunk_by(|a, b| a.matrix == b.matrix)
            .find(|pieces| pieces.iter().all(|seen| seen.all_zero))
            .and_then(|pieces| pieces.first())
            .map(|seen| seen.matrix),
        nonfinite: seen.iter().map(|seen| seen.nonfinite).sum(),
        spoiled: seen.iter().find_map(|seen| seen.spoiled),
    }
}

fn inspect(values: &[f32], first: u64) -> Seen {
    let nonfinite = values.iter().filter(|value| !value.is_finite()).count() as u64;
    let at = values.iter().position(|value| !value.is_finite()).filter(|_| nonfinite > 0);
    Seen {
        nonfinite,
        values: values.len() as u64,
        all_zero: values.iter().all(|value| *value == 0.0),
        spoiled: at.map(|at| Spoiled::Source(first + at as u64)),
        ..Seen::default()
    }
}

/// Little-endian values of a float type in f32.
fn decode(dtype: &DType, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        DType::Bf16 => {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(*bytes).to_f32();
            }
        }
        DType::F16 => {
            // In groups, so that the processor's own conversion is used.
            let mut bits = [0u16; 64];
            for (values, bytes) in values.chunks_mut(64).zip(bytes.chunks(128)) {
                let bits = &mut bits[..values.len()];
                for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *bits = u16::from_le_bytes(*bytes);
                }
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(values);
            }
        }
        // The loader asks for float types alone.
        _ => values.fill(f32::NAN),
    }
}

/// The failure of a tensor that cannot be used.
pub(crate) fn spoiled(name: &str, file: &str, role: Role, filled: &Filled) -> Option<Failure> {
    let matters = role.is_quantizable() || matches!(role, Role::Norm | Role::Router);
    if let Some(matrix) = filled.zero.filter(|_| matters) {
        let what = match role {
            Role::Expert if filled.matrices > 1 => format!("expert {matrix} of tensor {name}"),
            _ => format!("tensor {name}"),
        };
        return Some(fail::load(
            FailureKind::Corrupt,
            format!("{what} in {file} holds nothing but zeros"),
            "an interrupted download leaves files of the right size and no content: fetch it again",
        ));
    }
    let (message, hint) = match filled.spoiled? {
        Spoiled::Source(at) => (
            format!(
                "tensor {name} in {file} has {} values that are NaN or infinite, the first at \
                 index {at}",
                filled.nonfinite
            ),
            "the checkpoint is damaged: fetch it again, or ask its publisher",
        ),
        Spoiled::Scale(at) => (
            format!(
                "tensor {name} in {file} cannot be quantized: the scale of the block with index \
                 {at} is beyond the range of f16"
            ),
            "the weights are far larger than those of a trained model: check the checkpoint, or \
             load it with quantization = \"none\"",
        ),
    };
    Some(fail::load(FailureKind::NonFinite, message, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_piece_shows_and_one_of_tiny_values_does_not() {
        let piece = |difference, source| Seen {
            error: SquaredError { difference, source },
            values: 100,
            ..Seen::default()
        };
        let sum = |seen: &[Seen]| seen.iter().fold(SquaredError::default(), |a, b| a + b.error);
        let lost = [piece(0.1, 100.0), piece(100.0, 100.0), piece(0.1, 100.0)];
        assert!(worst(&lost, sum(&lost)) > 0.9);
        let tiny = [piece(0.1, 100.0), piece(1e-20, 1e-20), piece(0.1, 100.0)];
        assert!(worst(&tiny, sum(&tiny)) < 0.002);
    }

    #[test]
    fn every_float_type_is_decoded() {
        let expected: Vec<f32> = (0..100).map(|n| (n as f32 - 50.0) / 8.0).collect();
        let mut found = vec![0.0; 100];
        let f32s: Vec<u8> = expected.iter().flat_map(|v| v.to_le_bytes()).collect();
        decode(&DType::F32, &f32s, &mut found);
        assert_eq!(found, expected);
        found.fill(0.0);
        let f16s = expected.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes());
        decode(&DType::F16, &f16s.collect::<Vec<_>>(), &mut found);
        assert_eq!(found, expected);
        found.fill(0.0);
        let bf16s = expected.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes());
        decode(&DType::Bf16, &bf16s.collect::<Vec<_>>(), &mut found);
        assert_eq!(found, expected);
    }
}
