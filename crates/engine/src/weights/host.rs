//! Quantized matrices in host memory.

use crate::blocks::{Block, from_ggml};
use crate::cpu::product::product;
use candle_core::quantized::GgmlDType;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};
use modelgate_protocol::DType;
use std::ops::Range;
use std::sync::Arc;

/// The rows of a matrix as blocks of one type.
trait BlockRows: Send + Sync {
    /// Computes the products of each row of `x` with each row in `range` into `out` (rows of `x`,
    /// rows in `range`). All rows have `columns` values.
    fn product(
        &self,
        range: Range<usize>,
        columns: usize,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<()>;

    /// Writes the values of the row `number`, which has `out.len()` values, to `out` in f32.
    fn row(&self, number: usize, out: &mut [f32]);

    /// Returns the type of the blocks.
    fn dtype(&self) -> GgmlDType;
}

impl<T: Block> BlockRows for Vec<T> {
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

/// A quantized matrix in host memory, or a range of the rows of one.
#[derive(Clone)]
pub(crate) struct HostMatrix {
    blocks: Arc<dyn BlockRows>,
    /// The rows of `blocks` that belong to this matrix.
    rows: Range<usize>,
    columns: usize,
}

impl HostMatrix {
    /// Creates a matrix of `rows` rows and `columns` columns from its blocks, row by row.
    pub(crate) fn new<T: Block>(blocks: Vec<T>, rows: usize, columns: usize) -> HostMatrix {
        debug_assert_eq!(blocks.len() * T::BLCK_SIZE, rows * columns);
        HostMatrix { blocks: Arc::new(blocks), rows: 0..rows, columns }
    }

    /// Returns the products (n, rows) of each row of `x` (n, columns) with each row of this matrix.
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Product(self))
    }

    /// Returns the rows with the given numbers, (n, columns) in f32.
    ///
    /// # Errors
    /// A number is not less than the number of rows.
    pub(super) fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        let mut out = vec![0f32; numbers.len() * self.columns];
        for (number, row) in numbers.iter().zip(out.chunks_mut(self.columns)) {
            let number = *number as usize;
            if number >= self.rows.len() {
                bail!("row {number}: the matrix has {} rows", self.rows.len())
            }
            self.blocks.row(self.rows.start + number, row);
        }
        Tensor::from_vec(out, (numbers.len(), self.columns), &Device::Cpu)
    }

    /// Returns the number of rows of this matrix.
    pub(super) fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Splits the rows into `count` matrices of equal size, which share the memory of this matrix.
    pub(super) fn split(&self, count: usize) -> impl Iterator<Item = HostMatrix> {
        let rows = self.rows.len() / count;
        (0..count).map(move |number| {
            let first = self.rows.start + number * rows;
            HostMatrix { rows: first..first + rows, ..self.clone() }
        })
    }

    /// Returns the type of the blocks.
    pub(super) fn dtype(&self) -> DType {
        from_ggml(self.blocks.dtype())
    }

    /// Returns the size of the blocks of this matrix in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let dtype = self.blocks.dtype();
        let blocks = self.rows.len() * self.columns / dtype.block_size();
        (blocks * dtype.type_size()) as u64
    }
}

/// The candle operation that multiplies `x` by the transposed matrix.
struct Product<'a>(&'a HostMatrix);

impl CustomOp1 for Product<'_> {
    fn name(&self) -> &'static str {
        "host-matrix-product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let HostMatrix { blocks, rows, columns } = self.0;
        let (count, width) = layout.shape().dims2()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("product: expected a contiguous left operand")
        };
        if width != *columns {
            bail!("product: expected rows of {columns} values, found {width}")
        }
        let left = &storage.as_slice::<f32>()?[start..end];
        let mut out = vec![0f32; count * rows.len()];
        blocks.product(rows.clone(), *columns, left, &mut out)?;
        Ok((CpuStorage::F32(out), Shape::from((count, rows.len()))))
    }
}
