//! Ranges of device memory.

/// A range of device memory that belongs to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Region {
    /// The address of the first byte on the device.
    pub(crate) address: u64,
    /// The length in bytes.
    pub(crate) bytes: u64,
}

impl Region {
    /// Returns the part of `bytes` bytes that starts at byte `offset`. `None` if it is not inside
    /// the region.
    pub(crate) fn part(self, offset: u64, bytes: u64) -> Option<Region> {
        let end = offset.checked_add(bytes)?;
        (end <= self.bytes).then_some(Region { address: self.address + offset, bytes })
    }
}
