//! The host: processor, memory and GPUs. A missing part is a value, never an error.

use crate::hash::sha256_hex;
use crate::host_memory::HostCapacity;
use crate::memory_rate::memory_rate;
use crate::nvidia::{self, Gpu, HostGpus, UnreadableGpu};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The machine that executed a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Host {
    /// A hash of the machine id: 16 hexadecimal digits, the same in every run on this host.
    pub id: String,
    /// The host name. Empty if the operating system does not report it.
    pub hostname: String,
    /// The operating system and the kernel, with their versions.
    pub os: String,
    /// The model name of the processor. Empty if it is unknown.
    pub cpu: String,
    /// The number of logical cores that this process may use.
    pub cores: u64,
    /// The host memory in bytes, or the lowest limit of the control groups of this process.
    pub ram_bytes: u64,
    /// The bandwidth of the host memory in bytes per second, measured before the run. `None` if no
    /// device is chosen by it.
    #[serde(default)]
    pub memory_bytes_per_s: Option<u64>,
    /// The host memory in bytes to which the host can grow (memory balloon), or the lowest limit of
    /// the control groups of this process. `None` if it is equal to `ram_bytes`.
    #[serde(default)]
    pub max_ram_bytes: Option<u64>,
    /// The GPUs that the NVIDIA driver shows, in the order of the PCI bus.
    pub gpus: Vec<Gpu>,
    /// The GPUs that the NVIDIA driver cannot read. A model fails only if it needs one of them.
    #[serde(default)]
    pub unreadable_gpus: Vec<UnreadableGpu>,
    /// Why there are no GPUs. `None` if there is one.
    pub no_gpu_reason: Option<String>,
}

impl Host {
    /// Inspects this host.
    pub fn inspect() -> Host {
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let system = system.ok();
        let total = system.as_ref().map_or(0, System::total_memory);
        let capacity = HostCapacity::read(Path::new("/"), total);
        let inventory = nvidia::inventory(total);
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
            ram_bytes: capacity.now,
            max_ram_bytes: Some(capacity.max).filter(|max| *max != capacity.now),
            memory_bytes_per_s: None,
            gpus: inventory.gpus,
            unreadable_gpus: inventory.unreadable,
            no_gpu_reason: inventory.no_gpu_reason,
        }
    }

    /// Measures the bandwidth of the memory.
    pub fn with_memory_rate(self) -> Host {
        let rate = memory_rate(self.cores, self.ram_bytes);
        Host { memory_bytes_per_s: rate, ..self }
    }

    /// Returns the GPUs that the driver shows.
    pub fn gpus(&self) -> HostGpus<'_> {
        HostGpus {
            gpus: &self.gpus,
            unreadable: &self.unreadable_gpus,
            no_gpu_reason: self.no_gpu_reason.as_deref(),
        }
    }

    /// Returns the host memory in bytes above which no load can succeed; 0 if unknown.
    pub fn memory_limit(&self) -> u64 {
        self.max_ram_bytes.unwrap_or(self.ram_bytes)
    }
}

/// Returns a hash of the machine id, or of the host name if there is no machine id.
fn machine_id() -> String {
    let id = std::fs::read_to_string("/etc/machine-id")
        .ok()
        .or_else(|| System::host_name().ok())
        .unwrap_or_default();
    // the machine id itself must not be published: `man machine-id`
    sha256_hex(format!("modelgate {}", id.trim()).as_bytes())[..16].to_owned()
}
