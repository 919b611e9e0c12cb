//! The amount of data that was copied to a device, and the time that this took.

use std::time::Duration;

/// The total of the copies to a device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UploadStats {
    /// The number of bytes that were copied.
    pub(crate) bytes: u64,
    /// The time during which the device was busy with the copies.
    pub(crate) busy: Duration,
}
