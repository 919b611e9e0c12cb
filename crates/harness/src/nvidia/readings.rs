//! Readings of a GPU from outside at one moment: the interface between the harness and the driver.

/// A source of readings of GPUs, each named by its UUID.
pub trait Readings: Send + Sync {
    /// Returns the memory of the complete GPU.
    ///
    /// # Errors
    /// The reason why the driver does not report it.
    fn memory(&self, uuid: &str) -> Result<MemoryReading, String>;
    /// Returns the processes that have the GPU open, in the order of their ids. `None` if the
    /// driver does not report them.
    fn processes(&self, uuid: &str) -> Option<Vec<ProcessUse>>;
    /// Returns the name of a process. `None` if it is unknown.
    fn name(&self, pid: u32) -> Option<String>;
}

/// The memory of a complete GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryReading {
    /// Bytes in use by all processes.
    pub used: u64,
    /// Bytes that are usable: without the part that the driver reserves.
    pub total: u64,
}

/// The memory of one process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    /// The process id that the driver reports. In a container it can be an id of the host.
    pub pid: u32,
    /// Bytes in use. `None` if the driver does not report them.
    pub used: Option<u64>,
}

/// The state of a GPU at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The memory of the GPU.
    pub memory: MemoryReading,
    /// The processes that have the GPU open. `None` if the driver does not list them.
    pub processes: Option<Vec<ProcessUse>>,
}

impl Snapshot {
    /// Reads the GPU `uuid` now.
    ///
    /// # Errors
    /// The reason why its memory cannot be read.
    pub fn take(readings: &dyn Readings, uuid: &str) -> Result<Snapshot, String> {
        Ok(Snapshot { memory: readings.memory(uuid)?, processes: readings.processes(uuid) })
    }
}
