//! One tensor from its file to its resident form: read in pieces, checked, converted, measured.
//!
//! A piece is a run of whole rows of about [`PIECE_BYTES`]. Pieces go through buffers that belong
//! to a thread and are used again, so that no tensor is ever in memory a second time.

use crate::fail;
use crate::gpu::Region;
use crate::meter::Meter;
use crate::quantize::{SquaredError, quantize};
use crate::source::{Source, SourceTensor};
use crate::staging::{BUFFER_BYTES, StagingPool};
use crate::storage::{Block, HostMatrix, Resident, blocks_mut, bytes_mut, with_block, zeroed};
use crate::synthetic::{self, BlockRecipe};
use candle_core::{Device, Tensor, WithDType};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use modelgate_model::Role;
use modelgate_protocol::{DType, Failure, FailureKind, Stage};
use rayon::prelude::*;
use std::cell::RefCell;

/// Bytes of a file that a thread handles at once. Large enough that a read costs little more than
/// its copying, small enough that all threads' buffers together are nothing beside a model.
const PIECE_BYTES: u64 = 1 << 20;

/// What is to become of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// A float type, from any.
    Float(DType),
    /// Blocks, quantized from any float type.
    Quantize(DType),
    /// The blocks of the file as they are.
    Keep,
    /// Random values or blocks of the type that the tensor has, made in place.
    Make,
}

/// Where the values of a tensor go.
pub(crate) enum Target {
    /// New memory of the host.
    Host,
    /// Memory of a device that is taken already: one stretch and one matrix for each that the
    /// tensor holds.
    Device(Vec<(Region, Resident)>),
}

impl Target {
    /// The matrices that are to be filled, where they are there already.
    pub(crate) fn residents(&self) -> impl Iterator<Item = &Resident> {
        let parts = match self {
            Target::Host => &[][..],
            Target::Device(parts) => parts,
        };
        parts.iter().map(|(_, resident)| resident)
    }
}

/// A tensor that is resident, and what was seen while it came.
pub(crate) struct Filled {
    /// Its matrices: one, or as many as there are experts.
    pub(crate) residents: Vec<Resident>,
    /// Error of quantizing; none where nothing was quantized.
    pub(crate) nmse: Option<f64>,
    /// The same of the worst piece: one wrong row is lost in the mean over a large tensor.
    pub(crate) worst_nmse: Option<f64>,
    /// The first matrix whose every value is zero.
    pub(crate) zero: Option<usize>,
    /// NaN and infinite values of the source.
    pub(crate) nonfinite: u64,
    /// Why its values cannot be used.
    pub(crate) spoiled: Option<Spoiled>,
}

impl Filled {
    /// Matrices whose values nobody had to look at.
    pub(crate) fn made(residents: Vec<Resident>) -> Filled {
        filled(residents, None, &[])
    }
}

/// A value that makes a tensor useless.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Spoiled {
    /// The source has NaN or infinity, first at this index.
    Source(u64),
    /// The value at this index is beyond what the block's scale can hold.
    Scale(u64),
}

/// What a tensor is loaded from and through.
pub(crate) struct Loading<'a> {
    /// The files.
    pub(crate) source: &'a Source,
    /// What is kept of the time.
    pub(crate) meter: &'a Meter<'a>,
    /// Buffers on the way to a device; none where the model lives on the host.
    pub(crate) staging: Option<&'a StagingPool>,
}

/// Loads one tensor.
pub(crate) fn fill(
    loading: &Loading,
    name: &str,
    tensor: &SourceTensor,
    form: &Form,
    target: Target,
) -> Result<Filled, Failure> {
    let raw = match form {
        Form::Float(dtype) => *dtype == tensor.dtype,
        form => *form == Form::Keep,
    };
    let job = Job { loading, name, tensor, raw, made: *form == Form::Make };
    match form {
        Form::Float(dtype) => job.values(dtype, target),
        Form::Quantize(dtype) => job.matrices(dtype, target),
        Form::Make if !tensor.dtype.is_quantized() => job.values(&tensor.dtype, target),
        Form::Keep | Form::Make => job.matrices(&tensor.dtype, target),
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
    loading: &'a Loading<'a>,
    name: &'a str,
    tensor: &'a SourceTensor,
    /// Whether the bytes of the file are those that are to be resident.
    raw: bool,
    /// Whether there is no file.
    made: bool,
}

/// Where the values of a piece begin in the tensor, in bytes of the file and counted.
#[derive(Clone, Copy)]
struct Start {
    byte: u64,
    value: u64,
}

/// How a tensor is cut into pieces.
struct Cut {
    /// Matrices that it holds.
    matrices: usize,
    rows_in_matrix: usize,
    columns: usize,
    row_bytes: u64,
    rows_at_once: usize,
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
    fn values(&self, dtype: &DType, target: Target) -> Result<Filled, Failure> {
        match dtype {
            DType::F16 => self.floats::<f16>(target),
            DType::Bf16 => self.floats::<bf16>(target),
            _ => self.floats::<f32>(target),
        }
    }

    fn floats<T: Block + WithDType>(&self, target: Target) -> Result<Filled, Failure> {
        let resident = |values: Vec<T>| {
            let tensor = Tensor::from_vec(values, self.tensor.shape.as_slice(), &Device::Cpu)?;
            Resident::Float(tensor).split(self.cut::<T>().matrices)
        };
        self.filled(target, resident)
    }

    fn matrices(&self, dtype: &DType, target: Target) -> Result<Filled, Failure> {
        with_block!(dtype, B => self.blocks::<B>(target), else self.floats::<f32>(target))
    }

    fn blocks<T: Block>(&self, target: Target) -> Result<Filled, Failure> {
        let resident = |blocks: Vec<T>| {
            let Cut { matrices, rows_in_matrix, columns, .. } = self.cut::<T>();
            let matrix = HostMatrix::new(blocks, matrices * rows_in_matrix, columns);
            Resident::Host(matrix).split(matrices)
        };
        self.filled(target, resident)
    }

    /// Fills the target; what is new on the host becomes resident by `resident`.
    fn filled<T: Block>(
        &self,
        target: Target,
        resident: impl FnOnce(Vec<T>) -> candle_core::Result<Vec<Resident>>,
    ) -> Result<Filled, Failure> {
        let (residents, seen) = match target {
            Target::Host => {
                let (blocks, seen) = self.on_host::<T>()?;
                (resident(blocks).map_err(fail::internal(Stage::Load))?, seen)
            }
            Target::Device(parts) => {
                let regions: Vec<Region> = parts.iter().map(|(region, _)| *region).collect();
                let seen = self.on_device::<T>(&regions)?;
                (parts.into_iter().map(|(_, resident)| resident).collect(), seen)
            }
        };
        let error = seen.iter().fold(SquaredError::default(), |sum, seen| sum + seen.error);
        let converted = T::BLCK_SIZE > 1 && !self.raw && !self.made;
        let errors = converted.then(|| (error.normalised(), worst(&seen, error)));
        Ok(filled(residents, errors, &seen))
    }

    fn cut<T: Block>(&self) -> Cut {
        let columns = self.tensor.shape.last().copied().unwrap_or(1).max(1);
        let rows = self.tensor.shape.iter().product::<usize>() / columns;
        // experts that are one tensor are looked at one by one
        let matrices = match self.tensor.shape.as_slice() {
            [count, _, _] => (*count).max(1),
            _ => 1,
        };
        let row_bytes = (self.tensor.bytes / rows.max(1) as u64).max(1);
        let to_device = self.loading.staging.is_some();
        let piece = if self.raw && to_device { BUFFER_BYTES } else { PIECE_BYTES };
        Cut {
            matrices,
            rows_in_matrix: rows / matrices,
            columns,
            row_bytes,
            rows_at_once: (piece / row_bytes).max(1) as usize,
        }
    }

    /// All pieces of the tensor in new memory, in parallel, and what was seen of each, in order.
    fn on_host<T: Block>(&self) -> Result<(Vec<T>, Vec<Seen>), Failure> {
        let cut = self.cut::<T>();
        let blocks_in_row = cut.columns / T::BLCK_SIZE;
        let count = cut.matrices * cut.rows_in_matrix * blocks_in_row;
        let mut blocks = zeroed::<T>(count).ok_or_else(|| {
            let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
            fail::host_memory(bytes, &format!("tensor {}", self.name))
        })?;
        let seen = blocks
            .par_chunks_mut((cut.rows_in_matrix * blocks_in_row).max(1))
            .enumerate()
            .flat_map(|(matrix, blocks)| {
                let pieces = blocks.par_chunks_mut(cut.rows_at_once * blocks_in_row).enumerate();
                pieces.map(move |(piece, blocks)| (matrix, piece, blocks))
            })
            .map(|(matrix, piece, blocks)| {
                let seen = self.piece(blocks, cut.start(matrix, piece))?;
                Ok(Seen { matrix, ..seen })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((blocks, seen))
    }

    /// The same in memory of a device, one region for each matrix.
    fn on_device<T: Block>(&self, regions: &[Region]) -> Result<Vec<Seen>, Failure> {
        let cut = self.cut::<T>();
        let row_bytes = (cut.columns / T::BLCK_SIZE * size_of::<T>()) as u64;
        let pieces = cut.rows_in_matrix.div_ceil(cut.rows_at_once);
        let outside = || {
            fail::load(
                FailureKind::Internal,
                format!("tensor {} is larger than its place on the device", self.name),
                "this is a defect of modelgate; please report it with the model's name",
            )
        };
        let staging = self.loading.staging.ok_or_else(outside)?;
        (0..cut.matrices * pieces)
            .into_par_iter()
            .map(|index| {
                let (matrix, piece) = (index / pieces, index % pieces);
                let first = piece * cut.rows_at_once;
                let rows = cut.rows_at_once.min(cut.rows_in_matrix - first) as u64;
                let region = regions.get(matrix).ok_or_else(outside)?;
                let region = region.part(first as u64 * row_bytes, rows * row_bytes);
                staging.upload(region.ok_or_else(outside)?, |bytes| {
                    let blocks = blocks_mut::<T>(bytes).ok_or_else(outside)?;
                    let seen = self.piece(blocks, cut.start(matrix, piece))?;
                    Ok(Seen { matrix, ..seen })
                })
            })
            .collect()
    }

    /// One piece.
    fn piece<T: Block>(&self, blocks: &mut [T], start: Start) -> Result<Seen, Failure> {
        SCRATCH.with_borrow_mut(|scratch| {
            if self.made {
                self.make(blocks, start, scratch);
                return Ok(Seen::default());
            }
            if self.raw && T::BLCK_SIZE > 1 {
                let target = bytes_mut(blocks);
                self.read(start.byte, target)?;
                self.loading.meter.advance(target.len() as u64);
                let mut seen = inspect_blocks(&self.tensor.dtype, target, start.value);
                seen.all_zero = seen.all_zero || holds_nothing(blocks);
                return Ok(seen);
            }
            let count = blocks.len() * T::BLCK_SIZE;
            let bytes = self.tensor.dtype.bytes(count as u64).unwrap_or(0);
            scratch.values.resize(count, 0.0);
            if self.raw {
                self.read(start.byte, bytes_mut(blocks))?;
                T::to_float(blocks, &mut scratch.values);
            } else {
                scratch.bytes.resize(bytes as usize, 0);
                self.read(start.byte, &mut scratch.bytes)?;
                decode(&self.tensor.dtype, &scratch.bytes, &mut scratch.values);
            }
            let mut seen = inspect(&scratch.values, start.value);
            if seen.nonfinite == 0 && !self.raw {
                self.convert(blocks, bytes, start.value, &scratch.values, &mut seen);
            }
            self.loading.meter.advance(bytes);
            Ok(seen)
        })
    }

    /// Random values or blocks.
    fn make<T: Block>(&self, blocks: &mut [T], start: Start, scratch: &mut Scratch) {
        let seed = synthetic::seed(self.name);
        let shape: Vec<u64> = self.tensor.shape.iter().map(|size| *size as u64).collect();
        let role = modelgate_model::role(self.name, &shape);
        let columns = self.tensor.shape.last().copied().unwrap_or(1);
        let deviation = synthetic::deviation(role, columns);
        let dtype = &self.tensor.dtype;
        let bytes = size_of_val(blocks) as u64;
        if let Some(recipe) = BlockRecipe::new(dtype, deviation) {
            recipe.fill(bytes_mut(blocks), start.value / T::BLCK_SIZE as u64, seed);
        } else {
            scratch.values.resize(blocks.len(), 0.0);
            synthetic::fill_floats(&mut scratch.values, start.value, role, columns, seed);
            T::from_float(&scratch.values, blocks);
        }
        self.loading.meter.advance(bytes);
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
        match self.loading.meter.quantize.during(bytes, || quantize(values, blocks)) {
            Ok(error) => seen.error = error,
            Err(at) => seen.spoiled = Some(Spoiled::Scale(first + at as u64)),
        }
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let bytes = buffer.len() as u64;
        let source = self.loading.source;
        self.loading.meter.read.during(bytes, || source.read(self.tensor, from, buffer))
    }
}

impl Cut {
    /// Where a piece of a matrix begins.
    fn start(&self, matrix: usize, piece: usize) -> Start {
        let row = (matrix * self.rows_in_matrix + piece * self.rows_at_once) as u64;
        Start { byte: row * self.row_bytes, value: row * self.columns as u64 }
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

fn filled(residents: Vec<Resident>, errors: Option<(f64, f64)>, seen: &[Seen]) -> Filled {
    Filled {
        residents,
        nmse: errors.map(|(whole, _)| whole),
        worst_nmse: errors.map(|(_, worst)| worst),
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

/// Whether every value of these blocks is zero; ends at the first that is not.
fn holds_nothing<T: Block>(blocks: &[T]) -> bool {
    let mut values = vec![0f32; T::BLCK_SIZE];
    blocks.chunks(1).all(|block| {
        T::to_float(block, &mut values);
        values.iter().all(|value| *value == 0.0)
    })
}

/// The same of blocks as they are, read off their scales: a value is finite where those of its
/// block are, and a block without a scale holds nothing.
fn inspect_blocks(dtype: &DType, bytes: &[u8], first: u64) -> Seen {
    let (elements, size) = dtype.block().unwrap_or((1, 1));
    // where the f16 scales of a block are (`ggml-common.h`)
    let scales: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        _ => &[],
    };
    const EXPONENT: u16 = 0x7c00;
    let mut seen = Seen { all_zero: true, ..Seen::default() };
    for (number, block) in (0..).zip(bytes.chunks_exact(size as usize)) {
        let scale = |at: &usize| u16::from_le_bytes([block[*at], block[at + 1]]);
        seen.all_zero &= scales.iter().all(|at| scale(at) & 0x7fff == 0);
        if scales.iter().any(|at| scale(at) & EXPONENT == EXPONENT) {
            let at = first + number * elements;
            seen.spoiled.get_or_insert(Spoiled::Source(at));
            seen.nonfinite += elements;
        }
        seen.values += elements;
    }
    seen
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
            Role::Expert if filled.residents.len() > 1 => {
                format!("expert {matrix} of tensor {name}")
            }
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
