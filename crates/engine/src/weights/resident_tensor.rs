//! A tensor in memory, on the host or on a device.

use super::{DeviceMatrix, HostMatrix};
use candle_core::{Device, DeviceLocation, Result, Tensor, bail};
use modelgate_protocol::DType;

/// A tensor in memory, on the host or on a device.
#[derive(Clone)]
pub(crate) enum ResidentTensor {
    /// Values of a float type, on the host or on a device.
    Float(Tensor),
    /// A quantized matrix in host memory.
    Host(HostMatrix),
    /// A quantized matrix on a device.
    Device(DeviceMatrix),
}

impl ResidentTensor {
    /// Returns the products (n, rows) of each row of `x` (n, columns) with each row of this matrix,
    /// in f32.
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            ResidentTensor::Float(weight) => {
                x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(candle_core::DType::F32)
            }
            ResidentTensor::Host(matrix) => matrix.product(&x.contiguous()?),
            ResidentTensor::Device(matrix) => matrix.product(&x.contiguous()?),
        }
    }

    /// Returns the rows with the given numbers, (n, columns) in f32.
    ///
    /// # Errors
    /// A number is not less than the number of rows.
    pub(crate) fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        match self {
            ResidentTensor::Float(weight) => {
                self.gather_rows(&Tensor::new(numbers, weight.device())?)
            }
            ResidentTensor::Host(matrix) => matrix.rows(numbers),
            ResidentTensor::Device(matrix) => {
                let (rows, _) = matrix.shape()?;
                // the kernel does not check its indices
                if let Some(number) = numbers.iter().find(|number| **number as usize >= rows) {
                    bail!("row {number}: the matrix has {rows} rows")
                }
                matrix.gather_rows(&Tensor::new(numbers, &matrix.device())?)
            }
        }
    }

    /// Returns the rows with the given numbers, in f32. The numbers must be on the device of the
    /// tensor and less than the number of rows.
    pub(crate) fn gather_rows(&self, numbers: &Tensor) -> Result<Tensor> {
        match self {
            ResidentTensor::Float(weight) => {
                weight.index_select(numbers, 0)?.to_dtype(candle_core::DType::F32)
            }
            ResidentTensor::Host(_) => self.rows(&numbers.to_vec1::<u32>()?),
            ResidentTensor::Device(matrix) => matrix.gather_rows(numbers),
        }
    }

    /// Returns the number of rows of the matrix.
    pub(crate) fn row_count(&self) -> Result<usize> {
        match self {
            ResidentTensor::Float(weight) => weight.dim(0),
            ResidentTensor::Host(matrix) => Ok(matrix.row_count()),
            ResidentTensor::Device(matrix) => matrix.shape().map(|(rows, _)| rows),
        }
    }

    /// Returns a copy of the tensor in host memory, in f32 unless the tensor is quantized.
    pub(crate) fn to_host(&self) -> Result<ResidentTensor> {
        Ok(match self {
            ResidentTensor::Float(tensor) => ResidentTensor::Float(
                tensor.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?,
            ),
            ResidentTensor::Host(matrix) => ResidentTensor::Host(matrix.clone()),
            ResidentTensor::Device(matrix) => ResidentTensor::Host(matrix.to_host()?),
        })
    }

    /// Splits a tensor (count, rows, columns) in host memory into its `count` matrices, which share
    /// its memory.
    ///
    /// # Errors
    /// The tensor is quantized and on a device.
    pub(crate) fn split(&self, count: usize) -> Result<Vec<ResidentTensor>> {
        match self {
            matrix if count == 1 => Ok(vec![matrix.clone()]),
            ResidentTensor::Float(tensor) => (0..count)
                .map(|part| tensor.narrow(0, part, 1)?.squeeze(0).map(ResidentTensor::Float))
                .collect(),
            ResidentTensor::Host(matrix) => {
                Ok(matrix.split(count).map(ResidentTensor::Host).collect())
            }
            ResidentTensor::Device(_) => {
                bail!("split: expected a tensor in host memory, found a device matrix")
            }
        }
    }

    /// Returns the values of a tensor that is not quantized.
    ///
    /// # Errors
    /// The tensor is quantized.
    pub(crate) fn float(&self) -> Result<Tensor> {
        match self {
            ResidentTensor::Float(tensor) => Ok(tensor.clone()),
            quantized => bail!("expected a float tensor, found type {}", quantized.dtype()),
        }
    }

    /// Returns the type that the storage reports.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            ResidentTensor::Float(tensor) => match tensor.dtype() {
                candle_core::DType::F32 => DType::F32,
                candle_core::DType::F16 => DType::F16,
                candle_core::DType::BF16 => DType::Bf16,
                other => DType::Other(other.as_str().to_owned()),
            },
            ResidentTensor::Host(matrix) => matrix.dtype(),
            ResidentTensor::Device(matrix) => matrix.dtype(),
        }
    }

    /// Returns the size in bytes that the storage reports.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            ResidentTensor::Float(tensor) => {
                (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
            }
            ResidentTensor::Host(matrix) => matrix.bytes(),
            ResidentTensor::Device(matrix) => matrix.bytes(),
        }
    }

    /// Returns the device that holds the tensor.
    pub(crate) fn device(&self) -> modelgate_protocol::Device {
        let location = match self {
            ResidentTensor::Float(tensor) => tensor.device().location(),
            ResidentTensor::Host(_) => DeviceLocation::Cpu,
            ResidentTensor::Device(matrix) => matrix.device().location(),
        };
        match location {
            DeviceLocation::Cuda { gpu_id } => modelgate_protocol::Device::Cuda(gpu_id as u32),
            // this crate is never built with Metal
            DeviceLocation::Cpu | DeviceLocation::Metal { .. } => modelgate_protocol::Device::Cpu,
        }
    }
}
