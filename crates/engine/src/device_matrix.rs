//! Quantized matrices on a device, each by itself or as one of a layer's experts, which are one
//! tensor there.

use crate::gpu::{Gpu, Region};
use crate::storage::{self, HostMatrix, Resident, bytes_mut, with_block, zeroed};
use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor, bail};
use modelgate_protocol::DType;
use std::sync::Arc;

/// A matrix of blocks on a device, or one of the equal matrices that are one tensor there.
#[derive(Clone)]
pub(crate) struct DeviceMatrix {
    gpu: Gpu,
    tensor: Arc<QTensor>,
    /// Where this matrix is.
    region: Region,
}

impl DeviceMatrix {
    /// The matrix that takes this region of the tensor.
    pub(crate) fn new(gpu: &Gpu, tensor: Arc<QTensor>, region: Region) -> DeviceMatrix {
        DeviceMatrix { tensor, region, gpu: gpu.clone() }
    }

    /// Rows and columns.
    pub(crate) fn shape(&self) -> Result<(usize, usize)> {
        match *self.tensor.shape().dims() {
            [rows, columns] | [_, rows, columns] => Ok((rows, columns)),
            _ => bail!("a matrix of shape {:?}", self.tensor.shape()),
        }
    }

    /// The product of each row of `x` with each row of this matrix: (n, columns) to (n, rows).
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        if self.tensor.rank() == 2 {
            return x.apply_op1_no_bwd(self.tensor.as_ref());
        }
        self.gpu.product(self.region, &self.dtype(), self.shape()?, x)
    }

    /// The rows of numbers that are on the device, and known to be inside.
    pub(crate) fn rows_of(&self, numbers: &Tensor) -> Result<Tensor> {
        self.tensor.embedding(numbers)
    }

    /// The type that the storage itself says it has.
    pub(crate) fn dtype(&self) -> DType {
        storage::dtype(self.tensor.dtype())
    }

    /// The bytes that the storage itself says it has, its part where it is one of several.
    pub(crate) fn bytes(&self) -> u64 {
        let count = match self.tensor.shape().dims() {
            [count, _, _] => *count,
            _ => 1,
        };
        (self.tensor.storage_size_in_bytes() / count) as u64
    }

    /// candle's handle of the device.
    pub(crate) fn device(&self) -> Device {
        self.tensor.device()
    }

    /// The same in host memory.
    pub(crate) fn to_host(&self) -> Result<HostMatrix> {
        let (rows, columns) = self.shape()?;
        let bytes = self.region.bytes as usize;
        let dtype = self.dtype();
        with_block!(dtype, B => {
            let Some(mut blocks) = zeroed::<B>(bytes / size_of::<B>()) else {
                bail!("{bytes} bytes of host memory cannot be had")
            };
            self.gpu.download(self.region, bytes_mut(&mut blocks))?;
            Ok(HostMatrix::new(blocks, rows, columns))
        }, else bail!("{dtype} has no blocks"))
    }
}

/// Whether candle has a kernel for mixtures of experts in that type whose rows have so many columns.
/// It keeps four rows in shared memory, of which there are 48 KiB, and where they do not fit it does
/// not run and says nothing (`moe_gguf.cu` of candle-kernels 0.11.1).
pub(crate) fn fused_experts(dtype: &DType, columns: usize) -> bool {
    use DType::{Q2K, Q3K, Q4K, Q5K, Q6K, Q8_0};
    let has_kernel = matches!(dtype, Q2K | Q3K | Q4K | Q5K | Q6K | Q8_0);
    let row = dtype.bytes(columns as u64);
    has_kernel && row.is_some_and(|row| 4 * row + 1024 <= 48 << 10)
}

/// The tensor whose equal parts these matrices are, in order; none where they are not.
pub(crate) fn merged(parts: &[&Resident]) -> Option<Arc<QTensor>> {
    let matrices: Vec<&DeviceMatrix> = parts
        .iter()
        .map(|part| match part {
            Resident::Device(matrix) => Some(matrix),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let first = matrices.first()?;
    let [count, _, _] = *first.tensor.shape().dims() else { return None };
    let bytes = first.region.bytes;
    let in_order = matrices.iter().zip(0..).all(|(matrix, number)| {
        Arc::ptr_eq(&matrix.tensor, &first.tensor)
            && matrix.region.address == first.region.address + number * bytes
    });
    (in_order && count == matrices.len()).then(|| Arc::clone(&first.tensor))
}
