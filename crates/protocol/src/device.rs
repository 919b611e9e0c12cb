//! Devices, as requests, events and reports name them: `cpu`, `cuda:0`, `cuda:1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device: its kind and ordinal. In JSON it is the name, such as `cuda:0`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(cpu|cuda:[0-9]+)$"))]
pub enum Device {
    /// The processor of the host.
    Cpu,
    /// A CUDA device, by the ordinal that CUDA gives it.
    Cuda(u32),
}

impl Device {
    /// Returns whether it is a CUDA device.
    pub fn is_cuda(self) -> bool {
        matches!(self, Device::Cuda(_))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// A text that is not the name of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownDevice(String);

impl fmt::Display for UnknownDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a device: expected cpu, cuda or cuda:N", self.0)
    }
}

impl std::error::Error for UnknownDevice {}

impl FromStr for Device {
    type Err = UnknownDevice;

    /// Parses `cpu`, `cuda` (the first CUDA device) or `cuda:N`.
    fn from_str(name: &str) -> Result<Device, UnknownDevice> {
        match name {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| UnknownDevice(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownDevice;

    fn try_from(name: String) -> Result<Device, UnknownDevice> {
        name.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

/// The host or a device. In JSON it is `host` or the name of the device.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(host|cpu|cuda:[0-9]+)$"))]
pub enum Location {
    /// The host: its memory and disks.
    Host,
    /// A device.
    Device(Device),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Host => f.write_str("host"),
            Location::Device(device) => device.fmt(f),
        }
    }
}

impl FromStr for Location {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Location, UnknownDevice> {
        match name {
            "host" => Ok(Location::Host),
            _ => name.parse().map(Location::Device),
        }
    }
}

impl TryFrom<String> for Location {
    type Error = UnknownDevice;

    fn try_from(name: String) -> Result<Location, UnknownDevice> {
        name.parse()
    }
}

impl From<Location> for String {
    fn from(location: Location) -> String {
        location.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_from_their_names() {
        for (name, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:17", Device::Cuda(17)),
        ] {
            assert_eq!(name.parse(), Ok(device));
        }
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "host", "metal:0"] {
            let error = name.parse::<Device>().expect_err(name);
            assert!(error.to_string().contains("expected cpu, cuda or cuda:N"), "{error}");
        }
        assert_eq!("host".parse(), Ok(Location::Host));
        assert_eq!("cuda:1".parse(), Ok(Location::Device(Device::Cuda(1))));
    }

    #[test]
    fn names_in_json_equal_displayed_names() {
        for (device, json) in [(Device::Cpu, "\"cpu\""), (Device::Cuda(3), "\"cuda:3\"")] {
            assert_eq!(serde_json::to_string(&device).ok().as_deref(), Some(json));
            assert_eq!(serde_json::from_str::<Device>(json).ok(), Some(device));
        }
        assert!(serde_json::from_str::<Device>("\"metal:0\"").is_err());
    }
}
