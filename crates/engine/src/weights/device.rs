//! Quantized matrices on a device. A matrix is a separate tensor, or one of the experts of a layer
//! that are merged into one tensor.

use super::HostMatrix;
use crate::blocks::{allocate_zeroed, bytes_mut, from_ggml, to_ggml, with_block};
use crate::cuda::{Gpu, Region};
use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor, bail};
use modelgate_protocol::DType;
use std::sync::Arc;

/// A quantized matrix on a device: a separate tensor, or one of the matrices of equal shape in a
/// merged tensor.
#[derive(Clone)]
pub(crate) struct DeviceMatrix {
    gpu: Gpu,
    /// The tensor (rows, columns) of this matrix, or the merged tensor (experts, rows, columns)
    /// that contains it.
    tensor: Arc<QTensor>,
    /// The device memory of this matrix.
    region: Region,
}

impl DeviceMatrix {
    /// Creates the matrix in a region of the memory of `tensor`.
    pub(crate) fn new(gpu: &Gpu, tensor: Arc<QTensor>, region: Region) -> DeviceMatrix {
        DeviceMatrix { tensor, region, gpu: gpu.clone() }
    }

    /// Returns the numbers of rows and columns.
    pub(super) fn shape(&self) -> Result<(usize, usize)> {
        match *self.tensor.shape().dims() {
            [rows, columns] | [_, rows, columns] => Ok((rows, columns)),
            _ => bail!(
                "matrix: expected two or three dimensions, found shape {:?}",
                self.tensor.shape()
            ),
        }
    }

    /// Returns the products (n, rows) of each row of `x` (n, columns) with each row of this matrix.
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        if self.tensor.rank() == 2 {
            return x.apply_op1_no_bwd(self.tensor.as_ref());
        }
        self.gpu.product(self.region, &self.dtype(), self.shape()?, x)
    }

    /// Returns the rows with the given numbers, which must be on the device and less than the
    /// number of rows: the kernel does not check them.
    pub(super) fn gather_rows(&self, numbers: &Tensor) -> Result<Tensor> {
        self.tensor.embedding(numbers)
    }

    /// Returns the type that the storage reports.
    pub(super) fn dtype(&self) -> DType {
        from_ggml(self.tensor.dtype())
    }

    /// Returns the size of the matrix in bytes, as the storage reports it. In a merged tensor, the
    /// size is an equal share of the storage.
    pub(super) fn bytes(&self) -> u64 {
        let count = match self.tensor.shape().dims() {
            [count, _, _] => *count,
            _ => 1,
        };
        (self.tensor.storage_size_in_bytes() / count) as u64
    }

    /// Returns the candle device of the matrix.
    pub(super) fn device(&self) -> Device {
        self.tensor.device()
    }

    /// Copies the matrix to host memory.
    ///
    /// # Errors
    /// The host memory cannot be allocated, or the copy fails.
    pub(super) fn to_host(&self) -> Result<HostMatrix> {
        let (rows, columns) = self.shape()?;
        let bytes = self.region.bytes as usize;
        let dtype = self.dtype();
        with_block!(dtype, B => {
            let Some(mut blocks) = allocate_zeroed::<B>(bytes / size_of::<B>()) else {
                bail!("host memory: {bytes} bytes cannot be allocated")
            };
            self.gpu.download(self.region, bytes_mut(&mut blocks))?;
            Ok(HostMatrix::new(blocks, rows, columns))
        }, else bail!("type {dtype} is not a block type"))
    }

    /// Returns the merged tensor of which `parts` are all matrices, in order. `None` if the parts
    /// are not all matrices of one merged tensor, in this order.
    pub(super) fn merged_tensor(parts: &[&DeviceMatrix]) -> Option<Arc<QTensor>> {
        let first = parts.first()?;
        let [count, _, _] = *first.tensor.shape().dims() else { return None };
        let bytes = first.region.bytes;
        let in_order = parts.iter().zip(0..).all(|(matrix, number)| {
            Arc::ptr_eq(&matrix.tensor, &first.tensor)
                && matrix.region.address == first.region.address + number * bytes
        });
        (in_order && count == parts.len()).then(|| Arc::clone(&first.tensor))
    }
}

/// Allocates zeroed device memory for blocks of type `dtype` and a tensor of `shape`: (rows,
/// columns), or (experts, rows, columns) for merged experts. Returns the tensor and its memory.
///
/// # Errors
/// The type is not a block type, or the memory cannot be allocated.
pub(crate) fn allocate_blocks(
    gpu: &Gpu,
    dtype: &DType,
    shape: &[usize],
) -> Result<(Arc<QTensor>, Region)> {
    let Some(ggml) = to_ggml(dtype) else { bail!("type {dtype} is not a block type") };
    gpu.blocks(ggml, shape)
}
