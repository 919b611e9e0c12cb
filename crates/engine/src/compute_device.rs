//! The device that a model runs on: the host's processor, or a CUDA device.

use crate::cuda::Gpu;
use crate::failures;
use modelgate_protocol::{Device, Failure, FailureKind};

/// The device that a model runs on, opened.
#[derive(Debug, Clone)]
pub(crate) enum ComputeDevice {
    /// The host's processor and memory.
    Cpu,
    /// A CUDA device.
    Cuda(Gpu),
}

impl ComputeDevice {
    /// Opens the first of these devices, of whose memory at most `limit` bytes may be taken. No
    /// other device of the list replaces it: a model that runs on another device than requested is
    /// not the model that was requested.
    ///
    /// # Errors
    /// The device cannot be opened, or the list is empty.
    pub(crate) fn open(devices: &[Device], limit: Option<u64>) -> Result<ComputeDevice, Failure> {
        match devices.first() {
            Some(Device::Cpu) => Ok(ComputeDevice::Cpu),
            Some(Device::Cuda(ordinal)) => Gpu::open(*ordinal, limit).map(ComputeDevice::Cuda),
            None => Err(failures::start(
                FailureKind::NoDevice,
                "the request has no device",
                "set device = \"cpu\" or \"cuda\"",
            )),
        }
    }

    /// Returns candle's handle of the device.
    pub(crate) fn candle(&self) -> candle_core::Device {
        match self {
            ComputeDevice::Cpu => candle_core::Device::Cpu,
            ComputeDevice::Cuda(gpu) => gpu.device().clone(),
        }
    }

    /// Returns the CUDA device; `None` for the host's processor.
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
    fn no_device_is_a_substitute_for_another() {
        assert!(ComputeDevice::open(&[Device::Cpu, Device::Cuda(0)], None).is_ok());
        for devices in [vec![Device::Cuda(9), Device::Cpu], vec![]] {
            let failure = ComputeDevice::open(&devices, None).expect_err("refused");
            let expected = match cfg!(feature = "cuda") && !devices.is_empty() {
                // a host without a driver fails differently
                true => [FailureKind::NoDevice, FailureKind::DeviceMismatch],
                false => [FailureKind::NoDevice; 2],
            };
            assert!(expected.contains(&failure.kind), "{failure}");
        }
    }
}
