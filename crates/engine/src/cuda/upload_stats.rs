//! How much was copied to a device, and how long that took.

use std::time::Duration;

/// What was copied to a device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UploadStats {
    /// Bytes that were copied.
    pub(crate) bytes: u64,
    /// The time that the device was busy with it.
    pub(crate) busy: Duration,
}
