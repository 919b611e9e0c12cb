//! The way of weights from the host to a device: buffers that threads take in turns.

use crate::gpu::{Gpu, Region, Staging};
use crate::meter::Busy;
use modelgate_protocol::{Failure, Stage};
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer: a piece of a file as it is. A copy of so many takes much longer than to ask for
/// it.
pub(crate) const BUFFER_BYTES: u64 = 4 << 20;

/// Page-locked buffers of all threads of a load.
pub(crate) struct StagingPool {
    gpu: Gpu,
    idle: Mutex<Vec<Staging>>,
}

impl StagingPool {
    /// Buffers on the way to `gpu`, made as they are needed.
    pub(crate) fn new(gpu: &Gpu) -> StagingPool {
        StagingPool { gpu: gpu.clone(), idle: Mutex::default() }
    }

    /// Lets `fill` write as many bytes as `region` has, and copies them there.
    ///
    /// # Errors
    /// What `fill` says, or the driver.
    pub(crate) fn upload<R>(
        &self,
        region: Region,
        fill: impl FnOnce(&mut [u8]) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut staging = match idle {
            Some(staging) => staging,
            None => self.gpu.staging(BUFFER_BYTES as usize)?,
        };
        let filled = staging.upload(region, fill);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(staging);
        filled
    }

    /// Waits until everything is where it belongs, and tells `copy` how long the copies took.
    ///
    /// # Errors
    /// A copy failed.
    pub(crate) fn finish(self, copy: &Busy) -> Result<(), Failure> {
        for mut staging in self.idle.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let copied = staging.finish()?;
            copy.add(copied.bytes, copied.busy);
        }
        self.gpu.synchronize(Stage::Load)
    }
}
