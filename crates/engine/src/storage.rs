//! Weights as they are resident: on the host, or on a device.
//!
//! On the host quantized weights are kept as the plain blocks of their file format, and products go
//! straight to the kernels of those blocks. candle's own `QTensor` keeps a second, wider copy of q4_k,
//! q6_k and q8_0 weights from their first product on (6 bits more for each weight of 4.5): faster, but
//! a model would take more than twice the memory that its type says.

use crate::device_matrix::DeviceMatrix;
use crate::product::product;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};
use candle_core::quantized::{GgmlDType, GgmlType};
use candle_core::{
    CpuStorage, CustomOp1, Device, DeviceLocation, Layout, Result, Shape, Tensor, bail,
};
use modelgate_protocol::DType;
use std::alloc::Layout as Memory;
use std::ops::Range;
use std::sync::Arc;

// Blocks and values are taken from files byte by byte, and the files are little-endian.
const _: () = assert!(cfg!(target_endian = "little"));

/// A type whose values can be taken from a file as they are.
///
/// # Safety
/// Every pattern of bits, all zeros included, must be a value, and there must be no padding.
pub(crate) unsafe trait Block: GgmlType + 'static {}

// SAFETY: a float has a value for every pattern of bits.
unsafe impl Block for f32 {}
// SAFETY: as above.
unsafe impl Block for half::f16 {}
// SAFETY: as above.
unsafe impl Block for half::bf16 {}

macro_rules! blocks {
    ($($block:ty),*) => {$(
        // SAFETY: a `repr(C)` struct of integers and f16, of the size that candle asserts to be
        // the sum of its fields' sizes.
        unsafe impl Block for $block {}
    )*};
}
blocks!(
    BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K,
    BlockQ6K
);

/// Calls `$call` with the block type of a quantized `DType` as its generic argument.
macro_rules! with_block {
    ($dtype:expr, $block:ident => $call:expr, else $otherwise:expr) => {{
        use candle_core::quantized::k_quants as blocks;
        use modelgate_protocol::DType as Type;
        macro_rules! arm {
            ($name:ident) => {{
                type $block = blocks::$name;
                $call
            }};
        }
        match $dtype {
            Type::Q4_0 => arm!(BlockQ4_0),
            Type::Q4_1 => arm!(BlockQ4_1),
            Type::Q5_0 => arm!(BlockQ5_0),
            Type::Q5_1 => arm!(BlockQ5_1),
            Type::Q8_0 => arm!(BlockQ8_0),
            Type::Q2K => arm!(BlockQ2K),
            Type::Q3K => arm!(BlockQ3K),
            Type::Q4K => arm!(BlockQ4K),
            Type::Q5K => arm!(BlockQ5K),
            Type::Q6K => arm!(BlockQ6K),
            Type::F32 | Type::F16 | Type::Bf16 | Type::Other(_) => $otherwise,
        }
    }};
}
pub(crate) use with_block;

/// `count` zeros, none where the memory cannot be had. The pages come zeroed from the system and
/// are first touched by whoever fills them, so that many threads share that work.
pub(crate) fn zeroed<T: Block>(count: usize) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let memory = Memory::array::<T>(count).ok()?;
    // SAFETY: the size is not zero, since neither `count` nor any `Block` is of size zero.
    let start = unsafe { std::alloc::alloc_zeroed(memory) }.cast::<T>();
    if start.is_null() {
        return None;
    }
    // SAFETY: allocated just now by the global allocator with the layout of `count` values of T,
    // all of which are initialised, since all zeros are a value of every `Block`.
    Some(unsafe { Vec::from_raw_parts(start, count, count) })
}

/// The bytes of blocks, to read a file into.
pub(crate) fn bytes_mut<T: Block>(blocks: &mut [T]) -> &mut [u8] {
    let size = std::mem::size_of_val(blocks);
    // SAFETY: the slice covers these bytes, they have no padding, and whatever is written to them
    // is a value of T, as `Block` promises; the borrow is handed on.
    unsafe { std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast::<u8>(), size) }
}

/// Bytes as blocks, to write them; none where they do not lie or end as blocks do.
pub(crate) fn blocks_mut<T: Block>(bytes: &mut [u8]) -> Option<&mut [T]> {
    // SAFETY: every pattern of bits is a value of T, as `Block` promises.
    match unsafe { bytes.align_to_mut::<T>() } {
        ([], blocks, []) => Some(blocks),
        _ => None,
    }
}

/// The values of blocks of that type, one after the other; empty for a type without blocks.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn dequantized(dtype: &DType, bytes: &[u8]) -> Vec<f32> {
    fn values<T: Block>(bytes: &[u8]) -> Vec<f32> {
        let mut blocks = zeroed::<T>(bytes.len() / size_of::<T>()).unwrap_or_default();
        let whole = size_of_val(blocks.as_slice());
        bytes_mut(&mut blocks).copy_from_slice(&bytes[..whole]);
        let mut out = vec![0f32; blocks.len() * T::BLCK_SIZE];
        T::to_float(&blocks, &mut out);
        out
    }
    with_block!(dtype, B => values::<B>(bytes), else Vec::new())
}

/// The bytes of blocks, to read them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn bytes<T: Block>(blocks: &[T]) -> &[u8] {
    // SAFETY: the slice covers these bytes, and they have no padding, as `Block` promises; the
    // borrow is handed on.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast::<u8>(), size_of_val(blocks)) }
}

/// Rows of blocks of one type.
trait Rows: Send + Sync {
    /// The products of all rows of `x` with each of the rows `range`, each of `columns` values.
    fn product(
        &self,
        range: Range<usize>,
        columns: usize,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<()>;

    /// Values of one row of `out.len()` values.
    fn row(&self, number: usize, out: &mut [f32]);

    /// The type of the blocks.
    fn dtype(&self) -> GgmlDType;
}

impl<T: Block> Rows for Vec<T> {
    fn product(
        &self,
        range: Range<usize>,
        columns: usize,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<()> {
        let blocks = columns / T::BLCK_SIZE;
        let rows = &self[range.start * blocks..range.end * blocks];
        product((x.len() / columns, columns, range.len()), x, rows, out)
    }

    fn row(&self, number: usize, out: &mut [f32]) {
        let blocks = out.len() / T::BLCK_SIZE;
        T::to_float(&self[number * blocks..(number + 1) * blocks], out);
    }

    fn dtype(&self) -> GgmlDType {
        T::DTYPE
    }
}

/// A matrix of blocks in host memory, or some of the rows of one.
#[derive(Clone)]
pub(crate) struct HostMatrix {
    blocks: Arc<dyn Rows>,
    rows: Range<usize>,
    columns: usize,
}

impl HostMatrix {
    /// The matrix of `rows` rows whose blocks these are.
    pub(crate) fn new<T: Block>(blocks: Vec<T>, rows: usize, columns: usize) -> HostMatrix {
        debug_assert_eq!(blocks.len() * T::BLCK_SIZE, rows * columns);
        HostMatrix { blocks: Arc::new(blocks), rows: 0..rows, columns }
    }

    fn values(&self, numbers: &[u32]) -> Result<Vec<f32>> {
        let mut out = vec![0f32; numbers.len() * self.columns];
        for (number, row) in numbers.iter().zip(out.chunks_mut(self.columns)) {
            let number = *number as usize;
            if number >= self.rows.len() {
                bail!("row {number} of a matrix of {} rows", self.rows.len())
            }
            self.blocks.row(self.rows.start + number, row);
        }
        Ok(out)
    }
}

/// `x` times the matrix transposed.
struct Product<'a>(&'a HostMatrix);

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "host-matrix-product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let HostMatrix { blocks, rows, columns } = self.0;
        let (count, width) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("the left side of a product must be contiguous")
        };
        if width != *columns {
            bail!("a product of rows of {width} with a matrix of {columns} columns")
        }
        let left = &storage.as_slice::<f32>()?[start..end];
        let mut out = vec![0f32; count * rows.len()];
        blocks.product(rows.clone(), *columns, left, &mut out)?;
        Ok((CpuStorage::F32(out), Shape::from((count, rows.len()))))
    }
}

/// A tensor as it is resident.
#[derive(Clone)]
pub(crate) enum Resident {
    /// Values of a float type.
    Float(Tensor),
    /// Quantized rows in host memory.
    Host(HostMatrix),
    /// Quantized rows on a device.
    Device(DeviceMatrix),
}

impl Resident {
    /// The product of each row of `x` with each row of this matrix: (n, columns) to (n, rows).
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Resident::Float(weight) => {
                x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(candle_core::DType::F32)
            }
            Resident::Host(matrix) => x.contiguous()?.apply_op1_no_bwd(&Product(matrix)),
            Resident::Device(matrix) => matrix.product(&x.contiguous()?),
        }
    }

    /// The rows of these numbers, in f32.
    pub(crate) fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        match self {
            Resident::Float(weight) => self.rows_of(&Tensor::new(numbers, weight.device())?),
            Resident::Host(matrix) => {
                let shape = (numbers.len(), matrix.columns);
                Tensor::from_vec(matrix.values(numbers)?, shape, &Device::Cpu)
            }
            Resident::Device(matrix) => {
                let (rows, _) = matrix.shape()?;
                // the kernel reads where it is told to
                if let Some(number) = numbers.iter().find(|number| **number as usize >= rows) {
                    bail!("row {number} of a matrix of {rows} rows")
                }
                matrix.rows_of(&Tensor::new(numbers, &matrix.device())?)
            }
        }
    }

    /// The rows of numbers that are on the weights' device, and known to be inside.
    pub(crate) fn rows_of(&self, numbers: &Tensor) -> Result<Tensor> {
        match self {
            Resident::Float(weight) => {
                weight.index_select(numbers, 0)?.to_dtype(candle_core::DType::F32)
            }
            Resident::Host(_) => self.rows(&numbers.to_vec1::<u32>()?),
            Resident::Device(matrix) => matrix.rows_of(numbers),
        }
    }

    /// Rows of the matrix.
    pub(crate) fn row_count(&self) -> Result<usize> {
        match self {
            Resident::Float(weight) => weight.dim(0),
            Resident::Host(matrix) => Ok(matrix.rows.len()),
            Resident::Device(matrix) => matrix.shape().map(|(rows, _)| rows),
        }
    }

    /// The same on the host, in f32 where it is not quantized.
    pub(crate) fn to_host(&self) -> Result<Resident> {
        Ok(match self {
            Resident::Float(tensor) => {
                Resident::Float(tensor.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?)
            }
            Resident::Host(matrix) => Resident::Host(matrix.clone()),
            Resident::Device(matrix) => Resident::Host(matrix.to_host()?),
        })
    }

    /// The `count` equal matrices that stand below each other in this one; they share its memory.
    pub(crate) fn split(&self, count: usize) -> Result<Vec<Resident>> {
        match self {
            whole if count == 1 => Ok(vec![whole.clone()]),
            Resident::Float(tensor) => (0..count)
                .map(|part| tensor.narrow(0, part, 1)?.squeeze(0).map(Resident::Float))
                .collect(),
            Resident::Host(matrix) => {
                let rows = matrix.rows.len() / count;
                let part = |number: usize| {
                    let first = matrix.rows.start + number * rows;
                    Resident::Host(HostMatrix { rows: first..first + rows, ..matrix.clone() })
                };
                Ok((0..count).map(part).collect())
            }
            Resident::Device(_) => bail!("matrices on a device are apart from the beginning"),
        }
    }

    /// The values of a tensor that is not quantized.
    pub(crate) fn float(&self) -> Result<Tensor> {
        match self {
            Resident::Float(tensor) => Ok(tensor.clone()),
            quantized => bail!("expected a float tensor, found one in {}", quantized.dtype()),
        }
    }

    /// The type that the storage itself says it has.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Resident::Float(tensor) => match tensor.dtype() {
                candle_core::DType::F32 => DType::F32,
                candle_core::DType::F16 => DType::F16,
                candle_core::DType::BF16 => DType::Bf16,
                other => DType::Other(other.as_str().to_owned()),
            },
            Resident::Host(matrix) => dtype(matrix.blocks.dtype()),
            Resident::Device(matrix) => matrix.dtype(),
        }
    }

    /// The bytes that the storage itself says it has.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Resident::Float(tensor) => {
                (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
            }
            Resident::Host(matrix) => {
                let dtype = matrix.blocks.dtype();
                let blocks = matrix.rows.len() * matrix.columns / dtype.block_size();
                (blocks * dtype.type_size()) as u64
            }
            Resident::Device(matrix) => matrix.bytes(),
        }
    }

    /// The device that it is on, as reports name it.
    pub(crate) fn device(&self) -> String {
        let location = match self {
            Resident::Float(tensor) => tensor.device().location(),
            Resident::Host(_) => DeviceLocation::Cpu,
            Resident::Device(matrix) => matrix.device().location(),
        };
        match location {
            DeviceLocation::Cpu => "cpu".to_owned(),
            DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
            DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        }
    }
}

/// candle's name of a block type.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn ggml_dtype(dtype: &DType) -> Option<GgmlDType> {
    with_block!(dtype, B => Some(B::DTYPE), else None)
}

/// candle's name of a type in the words of the protocol.
pub(crate) fn dtype(dtype: GgmlDType) -> DType {
    match dtype {
        GgmlDType::F32 => DType::F32,
        GgmlDType::F16 => DType::F16,
        GgmlDType::BF16 => DType::Bf16,
        GgmlDType::Q4_0 => DType::Q4_0,
        GgmlDType::Q4_1 => DType::Q4_1,
        GgmlDType::Q5_0 => DType::Q5_0,
        GgmlDType::Q5_1 => DType::Q5_1,
        GgmlDType::Q8_0 => DType::Q8_0,
        GgmlDType::Q2K => DType::Q2K,
        GgmlDType::Q3K => DType::Q3K,
        GgmlDType::Q4K => DType::Q4K,
        GgmlDType::Q5K => DType::Q5K,
        GgmlDType::Q6K => DType::Q6K,
        GgmlDType::Q8_1 => DType::Other("q8_1".into()),
        GgmlDType::Q8K => DType::Other("q8_k".into()),
    }
}
