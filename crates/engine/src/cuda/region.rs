//! Addresses of device memory.

/// A range of device memory that belongs to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// Its address on the device.
    pub(crate) address: u64,
    /// Its length.
    pub(crate) bytes: u64,
}

impl Region {
    /// Returns the part of `bytes` bytes from `offset` on; `None` if it is not inside.
    pub(crate) fn part(self, offset: u64, bytes: u64) -> Option<Region> {
        let end = offset.checked_add(bytes)?;
        (end <= self.bytes).then_some(Region { address: self.address + offset, bytes })
    }
}
