//! GPUs of the host that the driver cannot read, with the error of NVML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// A GPU of the host that cannot be used, because NVML reports an error for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadableGpu {
    /// The index that `nvidia-smi` shows for the GPU.
    pub index: u32,
    /// The number `n` of the device `cuda:n`. `None` if the process has no access to the GPU, which
    /// is then not counted.
    pub ordinal: Option<u32>,
    /// The product name. `None` if it cannot be read.
    pub name: Option<String>,
    /// The UUID. `None` if it cannot be read.
    pub uuid: Option<String>,
    /// The address on the PCI bus. `None` if it cannot be read.
    pub bus_id: Option<String>,
    /// Whether MIG mode is on. It is also false if the mode cannot be read.
    pub mig: bool,
    /// The value that cannot be read, and the error of NVML.
    pub error: String,
}

impl Display for UnreadableGpu {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let identity: Vec<&str> =
            [&self.name, &self.uuid].into_iter().flatten().map(String::as_str).collect();
        write!(f, "GPU {}", self.index)?;
        if !identity.is_empty() {
            write!(f, " ({})", identity.join(", "))?;
        }
        write!(f, ": {}", self.error)
    }
}
