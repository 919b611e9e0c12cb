//! Readings from the NVIDIA Management Library (NVML). No other file calls it.

use super::inventory::Gpu;
use super::readings::{MemoryReading, ProcessUse, Readings};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

/// The maximum length of a process name in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Returns the NVML library. It is opened once, because its start takes up to a second on large
/// hosts.
fn nvml() -> Result<&'static Nvml, String> {
    static NVML: OnceLock<Result<Nvml, String>> = OnceLock::new();
    let opened =
        NVML.get_or_init(|| Nvml::init().map_err(|error| format!("no NVIDIA driver: {error}")));
    opened.as_ref().map_err(Clone::clone)
}

/// Returns all GPUs that the driver shows, in the order of the PCI bus.
///
/// # Errors
/// There is no driver, or NVML reports an error.
pub(crate) fn inventory() -> Result<Vec<Gpu>, String> {
    let nvml = nvml()?;
    let read = || -> Result<Vec<Gpu>, NvmlError> {
        let driver = nvml.sys_driver_version()?;
        let cuda = nvml.sys_cuda_driver_version()?;
        (0..nvml.device_count()?)
            .map(|index| {
                let device = nvml.device_by_index(index)?;
                let capability = device.cuda_compute_capability()?;
                Ok(Gpu {
                    name: device.name()?,
                    uuid: device.uuid()?,
                    bus_id: device.pci_info()?.bus_id,
                    vram_bytes: device.memory_info()?.total,
                    driver: driver.clone(),
                    cuda: format!("{}.{}", cuda / 1000, cuda % 1000 / 10),
                    compute_capability: format!("{}.{}", capability.major, capability.minor),
                    mig: is_on(device.mig_mode().map(|mode| mode.current))?,
                })
            })
            .collect()
    };
    let mut gpus = read().map_err(|error| format!("NVML cannot read the GPUs: {error}"))?;
    gpus.sort_by(|a, b| a.bus_id.cmp(&b.bus_id));
    Ok(gpus)
}

/// Returns whether MIG mode is on. Most GPUs and older drivers have no such mode, which they report
/// as an error; any other error leaves the mode unknown.
fn is_on(mode: Result<u32, NvmlError>) -> Result<bool, NvmlError> {
    match mode {
        Ok(mode) => Ok(mode != 0),
        Err(
            NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_),
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// NVML as a source of readings.
pub struct NvmlReadings {
    devices: HashMap<String, Device<'static>>,
}

impl NvmlReadings {
    /// Opens the readings of all GPUs that the driver shows. Empty without a driver.
    pub fn open() -> NvmlReadings {
        let devices = nvml().map_or_else(
            |_| HashMap::new(),
            |nvml| {
                (0..nvml.device_count().unwrap_or(0))
                    .filter_map(|index| nvml.device_by_index(index).ok())
                    .filter_map(|device| Some((device.uuid().ok()?, device)))
                    .collect()
            },
        );
        NvmlReadings { devices }
    }
}

impl Readings for NvmlReadings {
    fn memory(&self, uuid: &str) -> Option<MemoryReading> {
        let info = self.devices.get(uuid)?.memory_info().ok()?;
        Some(MemoryReading { used: info.used, total: info.total.saturating_sub(info.reserved) })
    }

    fn processes(&self, uuid: &str) -> Option<Vec<ProcessUse>> {
        let device = self.devices.get(uuid)?;
        let compute = device.running_compute_processes().ok()?;
        // a process with compute and graphics contexts is in both lists, with the same value
        let graphics = device.running_graphics_processes().unwrap_or_default();
        let mut by_pid: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for process in compute.into_iter().chain(graphics) {
            let used = match process.used_gpu_memory {
                UsedGpuMemory::Used(bytes) => Some(bytes),
                UsedGpuMemory::Unavailable => None,
            };
            let entry = by_pid.entry(process.pid).or_default();
            *entry = (*entry).max(used);
        }
        Some(by_pid.into_iter().map(|(pid, used)| ProcessUse { pid, used }).collect())
    }

    fn name(&self, pid: u32) -> Option<String> {
        let name = nvml().ok().and_then(|nvml| nvml.sys_process_name(pid, MAX_NAME_BYTES).ok());
        let name = name.filter(|name| !name.is_empty());
        name.or_else(|| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some(name.trim_end().to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsupported_mode_means_no_mig_and_other_errors_are_returned() {
        assert!(matches!(is_on(Ok(1)), Ok(true)));
        assert!(matches!(is_on(Ok(0)), Ok(false)));
        let symbol = NvmlError::FailedToLoadSymbol("nvmlDeviceGetMigMode".into());
        for error in [NvmlError::NotSupported, NvmlError::FunctionNotFound, symbol] {
            assert!(matches!(is_on(Err(error)), Ok(false)));
        }
        assert!(matches!(is_on(Err(NvmlError::GpuLost)), Err(NvmlError::GpuLost)));
    }
}
