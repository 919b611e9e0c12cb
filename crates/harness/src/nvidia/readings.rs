//! What can be read of a GPU from outside, at one moment. The seam between what the harness makes
//! of such readings and the driver that gives them.

/// Reads GPUs, each named by its UUID. What the driver does not tell is none.
pub trait Readings: Send + Sync {
    /// Memory in use by everybody.
    fn memory(&self, uuid: &str) -> Option<MemoryReading>;
    /// The processes that have the GPU open, in the order of their ids.
    fn processes(&self, uuid: &str) -> Option<Vec<ProcessUse>>;
    /// The name of a process.
    fn name(&self, pid: u32) -> Option<String>;
}

/// Memory of a whole GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReading {
    /// Bytes in use by everybody.
    pub used: u64,
    /// Bytes that there are to be used: without what the driver keeps for itself.
    pub total: u64,
}

/// What one process takes of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// Its id as the driver knows it, which inside a container may be that of no process there.
    pub pid: u32,
    /// Bytes; `None` if the driver does not tell.
    pub used: Option<u64>,
}

/// A GPU at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its memory.
    pub memory: MemoryReading,
    /// Who has it open; `None` if the driver does not tell.
    pub processes: Option<Vec<ProcessUse>>,
}

impl Snapshot {
    /// Reads the GPU `uuid` now; `None` if its memory cannot be read.
    pub fn take(readings: &dyn Readings, uuid: &str) -> Option<Snapshot> {
        Some(Snapshot { memory: readings.memory(uuid)?, processes: readings.processes(uuid) })
    }
}
