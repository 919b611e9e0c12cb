//! Readings from the NVIDIA Management Library (NVML). No other file calls it.

use super::readings::{MemoryReading, ProcessUse, Readings};
use super::survey::{DriverReport, GpuReport, Inventory, survey, unavailable};
use crate::host_memory::SystemMemory;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::OnceLock;

/// The maximum length of a process name in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Returns the NVML library. It is opened once, because its start takes up to a second on large
/// hosts.
fn nvml() -> Result<&'static Nvml, String> {
    static NVML: OnceLock<Result<Nvml, String>> = OnceLock::new();
    let opened = NVML.get_or_init(|| Nvml::init().map_err(|error| unavailable(&error)));
    opened.as_ref().map_err(Clone::clone)
}

/// Returns the GPUs of a host with `host_memory` bytes of memory (0 if unknown). A host without a
/// driver has none.
pub(crate) fn inventory(host_memory: u64) -> Inventory {
    let nvml = match nvml() {
        Ok(nvml) => nvml,
        Err(reason) => return Inventory::empty(reason),
    };
    let count = match nvml.device_count() {
        Ok(count) => count,
        Err(error) => {
            return Inventory::empty(format!("NVML cannot count the GPUs: {error}"));
        }
    };
    let cuda = nvml.sys_cuda_driver_version();
    let driver = DriverReport {
        version: nvml.sys_driver_version(),
        cuda: cuda.map(|cuda| format!("{}.{}", cuda / 1000, cuda % 1000 / 10)),
        host_memory: Some(host_memory).filter(|bytes| *bytes > 0),
    };
    let report = |index| nvml.device_by_index(index).map(|device| read(&device));
    survey(&driver, (0..count).map(report).collect())
}

/// Reads each value of a GPU.
fn read(device: &Device<'_>) -> GpuReport {
    let capability = device.cuda_compute_capability();
    GpuReport {
        name: device.name(),
        uuid: device.uuid(),
        bus_id: device.pci_info().map(|info| info.bus_id),
        memory: device.memory_info().map(|info| info.total),
        compute_capability: capability.map(|it| format!("{}.{}", it.major, it.minor)),
        mig_mode: device.mig_mode().map(|mode| mode.current),
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
    fn memory(&self, uuid: &str) -> Result<MemoryReading, String> {
        let device = self.devices.get(uuid).ok_or("NVML cannot open the GPU")?;
        match device.memory_info() {
            Ok(info) => {
                let total = info.total.saturating_sub(info.reserved);
                Ok(MemoryReading { used: info.used, total })
            }
            Err(NvmlError::NotSupported) => unified_memory(),
            Err(error) => Err(error.to_string()),
        }
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

/// Returns the memory of a GPU that uses the memory of the host, as the memory of the host.
///
/// # Errors
/// The operating system does not report its memory.
fn unified_memory() -> Result<MemoryReading, String> {
    let memory = SystemMemory::read(Path::new("/"))
        .ok_or("the GPU has no memory of its own, and /proc/meminfo cannot be read")?;
    Ok(MemoryReading { used: memory.used(), total: memory.total })
}
