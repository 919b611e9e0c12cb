//! Loads one tensor from its file to its resident form: read in pieces, inspected, converted, measured.
//!
//! A piece is a run of whole rows of about [`PIECE_BYTES`]. Pieces go through buffers that belong to a
//! thread and are reused, so that no tensor is ever in memory twice.

use super::decode::decode;
use super::filled::Filled;
use super::inspect::{Defect, PieceStats, all_zero, inspect, inspect_blocks};
use super::job::Form;
use super::load_meter::LoadMeter;
use super::pieces::{PieceStart, Pieces};
use super::staging_pool::{BUFFER_BYTES, StagingPool};
use super::target::Target;
use crate::blocks::{Block, blocks_mut, bytes_mut, with_block, zeroed};
use crate::cpu::quantize::quantize;
use crate::cuda::Region;
use crate::failures;
use crate::formats::{Source, SourceTensor};
use crate::weights::random::{self, BlockRecipe};
use crate::weights::{HostMatrix, Resident};
use candle_core::{Device, Tensor, WithDType};
use half::{bf16, f16};
use modelgate_protocol::{DType, Failure, FailureKind, Stage};
use rayon::prelude::*;
use std::cell::RefCell;

/// Bytes of a file that a thread handles at once. Large enough that a read costs little more than
/// its copying, small enough that the buffers of all threads are negligible compared with a model.
const PIECE_BYTES: u64 = 1 << 20;

/// What a tensor is loaded from and through.
pub(super) struct Loading<'a> {
    /// The files.
    pub(super) source: &'a Source,
    /// The meter of the load.
    pub(super) meter: &'a LoadMeter<'a>,
    /// The buffers for copies to a device; `None` if the model is loaded to the host.
    pub(super) staging: Option<&'a StagingPool>,
}

/// Loads one tensor.
pub(super) fn fill(
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
    let fill = Fill { loading, name, tensor, raw, made: *form == Form::Make };
    match form {
        Form::Float(dtype) => fill.values(dtype, target),
        Form::Quantize(dtype) => fill.matrices(dtype, target),
        Form::Make if !tensor.dtype.is_quantized() => fill.values(&tensor.dtype, target),
        Form::Keep | Form::Make => fill.matrices(&tensor.dtype, target),
    }
}

/// The loading of one tensor.
struct Fill<'a> {
    loading: &'a Loading<'a>,
    name: &'a str,
    tensor: &'a SourceTensor,
    /// Whether the bytes of the file become resident unchanged.
    raw: bool,
    /// Whether there is no file.
    made: bool,
}

/// The buffers of a thread.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Fill<'_> {
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
            Resident::Float(tensor).split(self.pieces().matrices)
        };
        self.filled(target, resident)
    }

    fn matrices(&self, dtype: &DType, target: Target) -> Result<Filled, Failure> {
        with_block!(dtype, B => self.blocks::<B>(target), else self.floats::<f32>(target))
    }

    fn blocks<T: Block>(&self, target: Target) -> Result<Filled, Failure> {
        let resident = |blocks: Vec<T>| {
            let Pieces { matrices, rows_in_matrix, columns, .. } = self.pieces();
            let matrix = HostMatrix::new(blocks, matrices * rows_in_matrix, columns);
            Resident::Host(matrix).split(matrices)
        };
        self.filled(target, resident)
    }

    /// Fills the target; `resident` makes matrices of new memory of the host.
    fn filled<T: Block>(
        &self,
        target: Target,
        resident: impl FnOnce(Vec<T>) -> candle_core::Result<Vec<Resident>>,
    ) -> Result<Filled, Failure> {
        let (residents, pieces) = match target {
            Target::Host => {
                let (blocks, pieces) = self.on_host::<T>()?;
                (resident(blocks).map_err(failures::internal(Stage::Load))?, pieces)
            }
            Target::Device(parts) => {
                let regions: Vec<Region> = parts.iter().map(|(region, _)| *region).collect();
                let pieces = self.on_device::<T>(&regions)?;
                (parts.into_iter().map(|(_, resident)| resident).collect(), pieces)
            }
        };
        let quantized = T::BLCK_SIZE > 1 && !self.raw && !self.made;
        Ok(Filled::read(residents, quantized, &pieces))
    }

    fn pieces(&self) -> Pieces {
        let to_device = self.loading.staging.is_some();
        let piece_bytes = if self.raw && to_device { BUFFER_BYTES } else { PIECE_BYTES };
        Pieces::new(&self.tensor.shape, self.tensor.bytes, piece_bytes)
    }

    /// Loads all pieces of the tensor to new memory, in parallel; returns the statistics of each, in
    /// order.
    fn on_host<T: Block>(&self) -> Result<(Vec<T>, Vec<PieceStats>), Failure> {
        let pieces = self.pieces();
        let blocks_in_row = pieces.columns / T::BLCK_SIZE;
        let count = pieces.matrices * pieces.rows_in_matrix * blocks_in_row;
        let mut blocks = zeroed::<T>(count).ok_or_else(|| {
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

    /// Loads all pieces of the tensor to memory of a device, one region for each matrix.
    fn on_device<T: Block>(&self, regions: &[Region]) -> Result<Vec<PieceStats>, Failure> {
        let pieces = self.pieces();
        let row_bytes = (pieces.columns / T::BLCK_SIZE * size_of::<T>()) as u64;
        let count = pieces.rows_in_matrix.div_ceil(pieces.rows);
        let outside = || {
            failures::load(
                FailureKind::Internal,
                format!("tensor {} is larger than its place on the device", self.name),
                "report this defect of modelgate with the name of the model",
            )
        };
        let staging = self.loading.staging.ok_or_else(outside)?;
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

    /// Loads one piece.
    fn piece<T: Block>(&self, blocks: &mut [T], start: PieceStart) -> Result<PieceStats, Failure> {
        SCRATCH.with_borrow_mut(|scratch| {
            if self.made {
                self.make(blocks, start, scratch);
                return Ok(PieceStats::default());
            }
            if self.raw && T::BLCK_SIZE > 1 {
                let target = bytes_mut(blocks);
                self.read(start.byte, target)?;
                self.loading.meter.advance(target.len() as u64);
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
            if stats.nonfinite == 0 && !self.raw {
                self.convert(blocks, bytes, start.value, &scratch.values, &mut stats);
            }
            self.loading.meter.advance(bytes);
            Ok(stats)
        })
    }

    /// Makes random values or blocks.
    fn make<T: Block>(&self, blocks: &mut [T], start: PieceStart, scratch: &mut Scratch) {
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
        self.loading.meter.advance(bytes);
    }

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
        match self.loading.meter.quantize.during(bytes, || quantize(values, blocks)) {
            Ok(error) => stats.error = error,
            Err(at) => stats.defect = Some(Defect::ScaleOverflow(first + at as u64)),
        }
    }

    fn read(&self, from: u64, buffer: &mut [u8]) -> Result<(), Failure> {
        let bytes = buffer.len() as u64;
        let source = self.loading.source;
        self.loading.meter.read.during(bytes, || source.read(self.tensor, from, buffer))
    }
}
