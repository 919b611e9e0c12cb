//! The device on which a model runs: the CPU of the host, or a CUDA device.

use crate::cuda::Gpu;
use crate::failures;
use modelgate_protocol::{Device, Failure, FailureKind};

/// An open device on which a model runs.
#[derive(Debug, Clone)]
pub(crate) enum ComputeDevice {
    /// The CPU of the host, with host memory.
    Cpu,
    /// A CUDA device, with device memory.
    Cuda(Gpu),
}

impl ComputeDevice {
    /// Opens the first device of the list. At most `limit` bytes of its memory are allocated for
    /// tensors. If it cannot be opened, the other devices of the list are not tried: the results
    /// would describe a device that was not requested.
    ///
    /// # Errors
    /// The device cannot be opened, or the list is empty.
    pub(crate) fn open(devices: &[Device], limit: Option<u64>) -> Result<ComputeDevice, Failure> {
        match devices.first() {
            Some(Device::Cpu) => Ok(ComputeDevice::Cpu),
            Some(Device::Cuda(ordinal)) => Gpu::open(*ordinal, limit).map(ComputeDevice::Cuda),
            None => Err(failures::start(
                FailureKind::DeviceNotFound,
                "request: the list of devices is empty",
                "set `device = \"cpu\"`; or set `device = \"cuda\"`",
            )),
        }
    }

    /// Returns the device as a candle device.
    pub(crate) fn candle(&self) -> candle_core::Device {
        match self {
            ComputeDevice::Cpu => candle_core::Device::Cpu,
            ComputeDevice::Cuda(gpu) => gpu.device().clone(),
        }
    }

    /// Returns the CUDA device. `None` if the device is the CPU.
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        match self {
            ComputeDevice::Cpu => None,
            ComputeDevice::Cuda(gpu) => Some(gpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_listed_device_is_opened() {
        assert!(ComputeDevice::open(&[Device::Cpu, Device::Cuda(0)], None).is_ok());
        for devices in [vec![Device::Cuda(9), Device::Cpu], vec![]] {
            let failure = ComputeDevice::open(&devices, None).expect_err("no device is opened");
            let expected = match cfg!(feature = "cuda") && !devices.is_empty() {
                // the kind depends on whether the host has a driver
                true => [FailureKind::DeviceNotFound, FailureKind::DeviceMismatch],
                false => [FailureKind::DeviceNotFound; 2],
            };
            assert!(expected.contains(&failure.kind), "{failure}");
        }
    }
}
