//! A tensor as it is resident, wherever it is.

use super::{DeviceMatrix, HostMatrix};
use candle_core::{Device, DeviceLocation, Result, Tensor, bail};
use modelgate_protocol::DType;

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
    /// Returns the product of each row of `x` with each row of this matrix: (n, columns) to
    /// (n, rows).
    pub(crate) fn product(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Resident::Float(weight) => {
                x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(candle_core::DType::F32)
            }
            Resident::Host(matrix) => matrix.product(&x.contiguous()?),
            Resident::Device(matrix) => matrix.product(&x.contiguous()?),
        }
    }

    /// Returns the rows of these numbers, in f32.
    pub(crate) fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        match self {
            Resident::Float(weight) => self.rows_of(&Tensor::new(numbers, weight.device())?),
            Resident::Host(matrix) => matrix.rows(numbers),
            Resident::Device(matrix) => {
                let (rows, _) = matrix.shape()?;
                // the kernel does not check its indices
                if let Some(number) = numbers.iter().find(|number| **number as usize >= rows) {
                    bail!("row {number} of a matrix of {rows} rows")
                }
                matrix.rows_of(&Tensor::new(numbers, &matrix.device())?)
            }
        }
    }

    /// Returns the rows whose numbers are on the weights' device, and known to be inside, in f32.
    pub(crate) fn rows_of(&self, numbers: &Tensor) -> Result<Tensor> {
        match self {
            Resident::Float(weight) => {
                weight.index_select(numbers, 0)?.to_dtype(candle_core::DType::F32)
            }
            Resident::Host(_) => self.rows(&numbers.to_vec1::<u32>()?),
            Resident::Device(matrix) => matrix.rows_of(numbers),
        }
    }

    /// Returns the number of rows of the matrix.
    pub(crate) fn row_count(&self) -> Result<usize> {
        match self {
            Resident::Float(weight) => weight.dim(0),
            Resident::Host(matrix) => Ok(matrix.row_count()),
            Resident::Device(matrix) => matrix.shape().map(|(rows, _)| rows),
        }
    }

    /// Returns the tensor on the host, in f32 unless it is quantized.
    pub(crate) fn to_host(&self) -> Result<Resident> {
        Ok(match self {
            Resident::Float(tensor) => {
                Resident::Float(tensor.to_device(&Device::Cpu)?.to_dtype(candle_core::DType::F32)?)
            }
            Resident::Host(matrix) => Resident::Host(matrix.clone()),
            Resident::Device(matrix) => Resident::Host(matrix.to_host()?),
        })
    }

    /// Splits the matrix into the `count` equal matrices that it consists of; they share its memory.
    pub(crate) fn split(&self, count: usize) -> Result<Vec<Resident>> {
        match self {
            whole if count == 1 => Ok(vec![whole.clone()]),
            Resident::Float(tensor) => (0..count)
                .map(|part| tensor.narrow(0, part, 1)?.squeeze(0).map(Resident::Float))
                .collect(),
            Resident::Host(matrix) => Ok(matrix.split(count).map(Resident::Host).collect()),
            Resident::Device(_) => bail!("matrices on a device are apart from the beginning"),
        }
    }

    /// Returns the values of a tensor that is not quantized.
    ///
    /// # Errors
    /// The tensor is quantized.
    pub(crate) fn float(&self) -> Result<Tensor> {
        match self {
            Resident::Float(tensor) => Ok(tensor.clone()),
            quantized => bail!("expected a float tensor, found one in {}", quantized.dtype()),
        }
    }

    /// Returns the type that the storage itself reports.
    pub(crate) fn dtype(&self) -> DType {
        match self {
            Resident::Float(tensor) => match tensor.dtype() {
                candle_core::DType::F32 => DType::F32,
                candle_core::DType::F16 => DType::F16,
                candle_core::DType::BF16 => DType::Bf16,
                other => DType::Other(other.as_str().to_owned()),
            },
            Resident::Host(matrix) => matrix.dtype(),
            Resident::Device(matrix) => matrix.dtype(),
        }
    }

    /// Returns the bytes that the storage itself reports.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Resident::Float(tensor) => {
                (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64
            }
            Resident::Host(matrix) => matrix.bytes(),
            Resident::Device(matrix) => matrix.bytes(),
        }
    }

    /// Returns the device that holds the tensor.
    pub(crate) fn device(&self) -> modelgate_protocol::Device {
        let location = match self {
            Resident::Float(tensor) => tensor.device().location(),
            Resident::Host(_) => DeviceLocation::Cpu,
            Resident::Device(matrix) => matrix.device().location(),
        };
        match location {
            DeviceLocation::Cuda { gpu_id } => modelgate_protocol::Device::Cuda(gpu_id as u32),
            // no build of this crate has Metal
            DeviceLocation::Cpu | DeviceLocation::Metal { .. } => modelgate_protocol::Device::Cpu,
        }
    }
}
