//! The memory of the host: its size, how far it can grow, and the limits of the control groups of
//! this process. Pure functions of the files below a root folder, which is `/` outside of tests.

mod capacity;
mod control_groups;
mod online_memory;
mod system_memory;

pub(crate) use capacity::HostCapacity;
pub(crate) use control_groups::{MemoryGroups, memory_groups};
pub(crate) use system_memory::SystemMemory;
