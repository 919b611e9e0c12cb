//! Where a model lives: in host memory, or on a device.

use crate::gpu::Gpu;
use modelgate_protocol::{Device, Failure, FailureKind, Stage};

/// Where a model lives.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// Host memory and the processor.
    Host,
    /// A CUDA device.
    Gpu(Gpu),
}

impl Place {
    /// Opens the first of these devices, of whose memory at most `limit` bytes may be taken. Another
    /// one of the list is no substitute: a model that runs somewhere else than asked is not the
    /// model that was asked for.
    ///
    /// # Errors
    /// It cannot be opened, or the list is empty.
    pub(crate) fn open(devices: &[Device], limit: Option<u64>) -> Result<Place, Failure> {
        match devices.first() {
            Some(Device::Cpu) => Ok(Place::Host),
            Some(Device::Cuda(ordinal)) => Gpu::open(*ordinal, limit).map(Place::Gpu),
            None => Err(Failure::new(
                Stage::Start,
                FailureKind::NoDevice,
                "the request names no device",
                "set device = \"cpu\" or \"cuda\"",
            )),
        }
    }

    /// candle's handle of it.
    pub(crate) fn device(&self) -> candle_core::Device {
        match self {
            Place::Host => candle_core::Device::Cpu,
            Place::Gpu(gpu) => gpu.device().clone(),
        }
    }

    /// The device, where it is one.
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        match self {
            Place::Host => None,
            Place::Gpu(gpu) => Some(gpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_device_is_a_substitute_for_another() {
        assert!(Place::open(&[Device::Cpu, Device::Cuda(0)], None).is_ok());
        for devices in [vec![Device::Cuda(9), Device::Cpu], vec![]] {
            let failure = Place::open(&devices, None).expect_err("refused");
            let expected = match cfg!(feature = "cuda") && !devices.is_empty() {
                // without a driver that is what is wrong
                true => [FailureKind::NoDevice, FailureKind::DeviceMismatch],
                false => [FailureKind::NoDevice; 2],
            };
            assert!(expected.contains(&failure.kind), "{failure}");
        }
    }
}
