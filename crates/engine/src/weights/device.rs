//! Quantized matrices on a device, each in a tensor of its own or as one of a layer's experts, which
//! are one tensor there.

use super::HostMatrix;
use crate::blocks::{bytes_mut, from_ggml, to_ggml, with_block, zeroed};
use crate::cuda::{Gpu, Region};
use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor, bail};
use modelgate_protocol::DType;
use std::sync::Arc;

/// A matrix of blocks on a device, or one of the equal matrices that are one tensor there.
#[derive(Clone)]
pub(crate) struct DeviceMatrix {
    gpu: Gpu,
    tensor: Arc<QTensor>,
    /// The memory of this matrix.
    region: Region,
}

impl DeviceMatrix {
    /// Creates the matrix in this region of the tensor.
    pub(crate) fn new(gpu: &Gpu, tensor: Arc<QTensor>, region: Region) -> DeviceMatrix {
        DeviceMatrix { tensor, region, gpu: gpu.clone() }
    }

    /// Returns the numbers of rows and columns.
    pub(super) fn shape(&self) -> Result<(usize, usize)> {
        match *self.tensor.shape().dims() {
            [rows, columns] | [_, rows, columns] => Ok((rows, columns)),
            _ => bail!("a matrix of shape {:?}", self.tensor.shape()),
        }
    }

    /// Returns the product of each row of `x` with each row of this matrix: (n, columns) to
    /// (n, rows).
    pub(super) fn product(&self, x: &Tensor) -> Result<Tensor> {
        if self.tensor.rank() == 2 {
            return x.apply_op1_no_bwd(self.tensor.as_ref());
        }
        self.gpu.product(self.region, &self.dtype(), self.shape()?, x)
    }

    /// Returns the rows whose numbers are on the device, and known to be inside.
    pub(super) fn rows_of(&self, numbers: &Tensor) -> Result<Tensor> {
        self.tensor.embedding(numbers)
    }

    /// Returns the type that the storage itself reports.
    pub(super) fn dtype(&self) -> DType {
        from_ggml(self.tensor.dtype())
    }

    /// Returns the bytes that the storage itself reports, or this matrix's part of them where the
    /// tensor has several.
    pub(super) fn bytes(&self) -> u64 {
        let count = match self.tensor.shape().dims() {
            [count, _, _] => *count,
            _ => 1,
        };
        (self.tensor.storage_size_in_bytes() / count) as u64
    }

    /// Returns candle's handle of the device.
    pub(super) fn device(&self) -> Device {
        self.tensor.device()
    }

    /// Copies the matrix to host memory.
    pub(super) fn to_host(&self) -> Result<HostMatrix> {
        let (rows, columns) = self.shape()?;
        let bytes = self.region.bytes as usize;
        let dtype = self.dtype();
        with_block!(dtype, B => {
            let Some(mut blocks) = zeroed::<B>(bytes / size_of::<B>()) else {
                bail!("{bytes} bytes of host memory cannot be allocated")
            };
            self.gpu.download(self.region, bytes_mut(&mut blocks))?;
            Ok(HostMatrix::new(blocks, rows, columns))
        }, else bail!("{dtype} has no blocks"))
    }

    /// Returns the tensor of which these matrices are the equal parts, in order; `None` if they are
    /// not.
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

/// Allocates device memory for blocks of that type and shape (rows last but one; an expert's
/// matrices below each other), all zeros.
pub(crate) fn allocate_blocks(
    gpu: &Gpu,
    dtype: &DType,
    shape: &[usize],
) -> Result<(Arc<QTensor>, Region)> {
    let Some(ggml) = to_ggml(dtype) else { bail!("{dtype} is not a block type") };
    gpu.blocks(ggml, shape)
}
