//! The host: processor, memory, GPUs. What is absent is a value, never an error.

use nvml_wrapper::Nvml;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What a run took place on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// Stays the same from run to run: a hash of the machine's id.
    pub id: String,
    /// Its name.
    pub hostname: String,
    /// Operating system and kernel.
    pub os: String,
    /// Processor.
    pub cpu: String,
    /// Logical cores that this process may use.
    pub cores: u64,
    /// Memory, or the control group's limit where that is less.
    pub ram_bytes: u64,
    /// GPUs that NVIDIA's driver shows, in NVML's order.
    pub gpus: Vec<Gpu>,
    /// Why there are none, where there are none.
    pub no_gpu_reason: Option<String>,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its UUID, which CUDA and NVML agree on.
    pub uuid: String,
    /// Memory.
    pub vram_bytes: u64,
    /// Version of the driver.
    pub driver: String,
    /// The newest CUDA version that the driver supports.
    pub cuda: String,
    /// Such as `9.0`.
    pub compute_capability: String,
}

impl Host {
    /// Looks at this host.
    pub fn inspect() -> Host {
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let system = system.ok();
        let total = system.as_ref().map_or(0, System::total_memory);
        let limit = system
            .as_ref()
            .and_then(System::cgroup_limits)
            .map_or(total, |limits| limits.total_memory);
        let (gpus, no_gpu_reason) = match gpus() {
            Ok(gpus) if gpus.is_empty() => (gpus, Some("the driver shows no GPU".to_owned())),
            Ok(gpus) => (gpus, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        Host {
            id: machine_id(),
            hostname: System::host_name().unwrap_or_default(),
            os: [System::long_os_version(), System::kernel_version()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", kernel "),
            cpu: system
                .as_ref()
                .and_then(|system| system.cpus().first())
                .map(|cpu| cpu.brand().trim().to_owned())
                .unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            ram_bytes: if limit == 0 { total } else { total.min(limit) },
            gpus,
            no_gpu_reason,
        }
    }
}

fn machine_id() -> String {
    let id = std::fs::read_to_string("/etc/machine-id")
        .ok()
        .or_else(|| System::host_name().ok())
        .unwrap_or_default();
    // the id itself is not to be published: `man machine-id`
    crate::hash::sha256_hex(format!("modelgate {}", id.trim()).as_bytes())[..16].to_owned()
}

fn gpus() -> Result<Vec<Gpu>, String> {
    let nvml = Nvml::init().map_err(|error| format!("no NVIDIA driver: {error}"))?;
    let read = || -> Result<Vec<Gpu>, nvml_wrapper::error::NvmlError> {
        let driver = nvml.sys_driver_version()?;
        let cuda = nvml.sys_cuda_driver_version()?;
        (0..nvml.device_count()?)
            .map(|index| {
                let device = nvml.device_by_index(index)?;
                let capability = device.cuda_compute_capability()?;
                Ok(Gpu {
                    name: device.name()?,
                    uuid: device.uuid()?,
                    vram_bytes: device.memory_info()?.total,
                    driver: driver.clone(),
                    cuda: format!("{}.{}", cuda / 1000, cuda % 1000 / 10),
                    compute_capability: format!("{}.{}", capability.major, capability.minor),
                })
            })
            .collect()
    };
    read().map_err(|error| format!("the NVIDIA driver does not answer: {error}"))
}
