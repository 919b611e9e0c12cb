//! Loads one tensor from its file into memory: reads it in pieces, inspects, converts and measures
//! each piece.
//!
//! A piece is a run of complete rows of about [`PIECE_BYTES`]. Each thread has buffers that it
//! reuses for all its pieces, so that a tensor is never in memory twice.

use super::decode::decode;
use super::inspect::{Defect, PieceStats, all_zero, inspect, inspect_blocks};
use super::job::Form;
use super::load_meter::LoadMeter;
use super::loaded_tensor::LoadedTensor;
use super::pieces::{PieceStart, Pieces};
use super::staging_pool::{BUFFER_BYTES, StagingPool};
use super::target::Target;
use crate::blocks::{Block, allocate_zeroed, blocks_mut, bytes_mut, with_block};
use crate::cpu::quantize::quantize;
use crate::cuda::Region;
use crate::failures;
use crate::formats::{Source, SourceTensor};
use crate::weights::random::{self, BlockRecipe};
use crate::weights::{HostMatrix, ResidentTensor};
use candle_core::{Device, Tensor, WithDType};
use half::{bf16, f16};
use modelgate_protocol::{DType, Failure, FailureKind, Stage};
use rayon::prelude::*;
use std::cell::RefCell;

/// The number of bytes of a file that a thread handles at once. It is large enough that a read
/// costs little more than copying, and small enough that the buffers of all threads are negligible
/// compared with a model.
const PIECE_BYTES: u64 = 1 << 20;

/// The files, the meter and the buffers that all tensors of a load share.
pub(super) struct LoadContext<'a> {
    /// The open files.
    pub(super) source: &'a Source,
    /// The progress and the time of the load.
    pub(super) meter: &'a LoadMeter<'a>,
    /// The buffers for copies to a device; `None` if the model is loaded into host memory.
    pub(super) staging: Option<&'a StagingPool>,
}

/// Loads one tensor into `target`, in the requested `form`.
///
/// # Errors
/// The file cannot be read, the memory cannot be allocated, or the copy fails.
pub(super) fn load_tensor(
    context: &LoadContext,
    name: &str,
    tensor: &SourceTensor,
    form: &Form,
    target: Target,
) -> Result<LoadedTensor, Failure> {
    let raw = match form {
        Form::Float(dtype) => *dtype == tensor.dtype,
        form => *form == Form::Keep,
    };
    let is_random = *form == Form::Random;
    let loader = TensorLoader { context, name, tensor, raw, is_random };
    match form {
        Form::Float(dtype) => loader.values(dtype, target),
        Form::Quantize(dtype) => loader.matrices(dtype, target),
        Form::Random if !tensor.dtype.is_quantized() => loader.values(&tensor.dtype, target),
        Form::Keep | Form::Random => loader.matrices(&tensor.dtype, target),
    }
}

/// The load of one tensor.
struct TensorLoader<'a> {
    context: &'a LoadContext<'a>,
    name: &'a str,
    tensor: &'a SourceTensor,
    /// Whether the bytes of the file are kept unchanged in memory.
    raw: bool,
    /// Whether the values are random, without a file.
    is_random: bool,
}

/// The buffers of one thread: bytes as read, and decoded values.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl TensorLoader<'_> {
    /// Loads a float tensor as `dtype`.
    fn values(&self, dtype: &DType, target: Target) -> Result<LoadedTensor, Failure> {
        match dtype {
            DType::F16 => self.floats::<f16>(target),
            DType::Bf16 => self.floats::<bf16>(target),
            _ => self.floats::<f32>(target),
        }
    }

    /// Loads a float tensor as values of `T`.
    fn floats<T: Block + WithDType>(&self, target: Target) -> Result<LoadedTensor, Failure> {
        let to_matrices = |values: Vec<T>| {
            let tensor = Tensor::from_vec(values, self.tensor.shape.as_slice(), &Device::Cpu)?;
            ResidentTensor::Float(tensor).split(self.pieces().matrices)
        };
        self.load(target, to_matrices)
    }

    /// Loads matrices as blocks of `dtype`, or as f32 values if `dtype` is not a block type.
    fn matrices(&self, dtype: &DType, target: Target) -> Result<LoadedTensor, Failure> {
        with_block!(dtype, B => self.blocks::<B>(target), else self.floats::<f32>(target))
    }

    /// Loads matrices as blocks of `T`.
    fn blocks<T: Block>(&self, target: Target) -> Result<LoadedTensor, Failure> {
        let to_matrices = |blocks: Vec<T>| {
            let Pieces { matrices, rows_in_matrix, columns, .. } = self.pieces();
            let matrix = HostMatrix::new(blocks, matrices * rows_in_matrix, columns);
            ResidentTensor::Host(matrix).split(matrices)
        };
        self.load(target, to_matrices)
    }

    /// Loads the tensor into the target. `to_matrices` converts blocks in new host memory to
    /// matrices.
    fn load<T: Block>(
        &self,
        target: Target,
        to_matrices: impl FnOnce(Vec<T>) -> candle_core::Result<Vec<ResidentTensor>>,
    ) -> Result<LoadedTensor, Failure> {
        let (matrices, pieces) = match target {
            Target::Host => {
                let (blocks, pieces) = self.on_host::<T>()?;
                (to_matrices(blocks).map_err(failures::internal(Stage::Load))?, pieces)
            }
            Target::Device(parts) => {
                let regions: Vec<Region> = parts.iter().map(|(region, _)| *region).collect();
                let pieces = self.on_device::<T>(&regions)?;
                (parts.into_iter().map(|(_, matrix)| matrix).collect(), pieces)
            }
        };
        let quantized = T::BLCK_SIZE > 1 && !self.raw && !self.is_random;
        Ok(LoadedTensor::from_pieces(matrices, quantized, &pieces))
    }

    /// Divides the tensor into pieces, whose size depends on whether they are copied to a device.
    fn pieces(&self) -> Pieces {
        let to_device = self.context.staging.is_some();
        let piece_bytes = if self.raw && to_device { BUFFER_BYTES } else { PIECE_BYTES };
        Pieces::new(&self.tensor.shape, self.tensor.bytes, piece_bytes)
    }

    /// Loads all pieces of the tensor into new host memory, in parallel. Returns the memory and the
    /// statistics of all pieces, in order.
    fn on_host<T: Block>(&self) -> Result<(Vec<T>, Vec<PieceStats>), Failure> {
        let pieces = self.pieces();
        let blocks_in_row = pieces.columns / T::BLCK_SIZE;
        let count = pieces.matrices * pieces.rows_in_matrix * blocks_in_row;
        let mut blocks = allocate_zeroed::<T>(count).ok_or_else(|| {
            let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
            failures::host_memory(bytes, &format!("tensor {}", self.name))
        })?;
        let stats = blocks
            .par_chunks_mut((pieces.rows_in_matrix * blocks_in_row).max(1))
            .enumerate()
            .flat_map(|(matrix, blocks)| {
                let parts = blocks.par_chunks_mut(pieces.rows * blocks_in_row).enumerate();
                parts.map(move |(piece, blocks)| (matrix, piece, blocks))
            })
            .map(|(matrix, piece, blocks)| {
                let stats = self.piece(blocks, pieces.start(matrix, piece))?;
                Ok(PieceStats { matrix, ..stats })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok((blocks, stats))
    }

    /// Loads all pieces of the tensor into device memory, with one region for each matrix. Returns
    /// the statistics of all pieces, in order.
    fn on_device<T: Block>(&self, regions: &[Region]) -> Result<Vec<PieceStats>, Failure> {
        let pieces = self.pieces();
        let row_bytes = (pieces.columns / T::BLCK_SIZE * size_of::<T>()) as u64;
        let count = pieces.rows_in_matrix.div_ceil(pieces.rows);
        let outside = || {
            failures::load(
                FailureKind::Internal,
                format!("tensor {}: larger than its region of device memory", self.name),
                "report this defect of modelgate with the name of the model",
            )
        };
        let staging = self.context.staging.ok_or_else(outside)?;
        (0..pieces.matrices * count)
            .into_par_iter()
            .map(|index| {
                let (matrix, piece) = (index / count, index % count);
                let first = piece * pieces.rows;
                let rows = pieces.rows.min(pieces.rows_in_matrix - first) as u64;
                let region = regions.get(matrix).ok_or_else(outside)?;
                let region = region.part(first as u64 * row_bytes, rows * row_bytes);
                staging.upload(region.ok_or_else(outside)?, |bytes| {
                    let blocks = blocks_mut::<T>(bytes).ok_or_else(outside)?;
                    let stats = self.piece(blocks, pieces.start(matrix, piece))?;
                    Ok(PieceStats { matrix, ..stats })
                })
            })
            .collect()
    }

    /// Loads one piece into `blocks`, and returns its statistics.
    fn piece<T: Block>(&self, blocks: &mut [T], start: PieceStart) -> Result<PieceStats, Failure> {
        SCRATCH.with_borrow_mut(|scratch| {
            if self.is_random {
                self.fill_with_random_values(blocks, start, scratch);
                return Ok(PieceStats::default());
            }
            if self.raw && T::BLCK_SIZE > 1 {
                let target = bytes_mut(blocks);
                self.read(start.byte, target)?;
                self.context.meter.advance(target.len() as u64);
                let mut stats = inspect_blocks(&self.tensor.dtype, target, start.value);
                stats.all_zero = stats.all_zero || all_zero(blocks);
                return Ok(stats);
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
            let mut stats = inspect(&scratch.values, start.value);
            if stats.non_finite == 0 && !self.raw {
                self.convert(blocks, bytes, start.value, &scratch.values, &mut stats);
            }
            self.context.meter.advance(bytes);
            Ok(stats)
        })
    }

    /// Writes random values or blocks of the type of the tensor.
    fn fill_with_random_values<T: Block>(
        &self,
        blocks: &mut [T],
        start: PieceStart,
        scratch: &mut Scratch,
    ) {
        let seed = random::seed(self.name);
        let shape: Vec<u64> = self.tensor.shape.iter().map(|size| *size as u64).collect();
        let role = modelgate_model::role(self.name, &shape);
        let columns = self.tensor.shape.last().copied().unwrap_or(1);
        let deviation = random::deviation(role, columns);
        let dtype = &self.tensor.dtype;
        let bytes = size_of_val(blocks) as u64;
        if let Some(recipe) = BlockRecipe::new(dtype, deviation) {
            recipe.fill(bytes_mut(blocks), start.value / T::BLCK_SIZE as u64, seed);
        } else {
            scratch.values.resize(blocks.len(), 0.0);
            random::fill_floats(&mut scratch.values, start.value, role, columns, seed);
            T::from_float(&scratch.values, blocks);
        }
        self.context.meter.advance(bytes);
    }

    /// Converts `values` to blocks, of which the first value has the index `first` in the tensor.
    /// `bytes` is the size of the values in the file. Records the error of quantization in `stats`.
    fn convert<T: Block>(
        &self,
        blocks: &mut [T],
        bytes: u64,
        first: u64,
        values: &[f32],
        stats: &mut PieceStats,
    ) {
        if T::BLCK_SIZE == 1 {
            T::from_float(values, blocks);
            return;
        }
        match self.context.meter.quantize.during(bytes, || quantize(values, blocks)) {
            Ok(error) => stats.error = error,
            Err(at) => stats.defect = Some(Defect::ScaleOverflow(first + at as u64)),
        }
    }

    /// Reads the bytes of the tensor from `from` on into `buffer`, and measures the time.
    fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let bytes = buffer.len() as u64;
        let source = self.context.source;
        self.context.meter.read.during(bytes, || source.read(self.tensor, from, buffer))
    }
}
