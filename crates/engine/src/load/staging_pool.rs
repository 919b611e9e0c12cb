//! A pool of page-locked host buffers through which threads copy weights to a device.

use crate::cuda::{Gpu, Region, Staging};
use crate::meter::BusyClock;
use modelgate_protocol::{Failure, Stage};
use std::sync::{Mutex, PoisonError};

/// The size of a buffer in bytes, and of the pieces that are copied unchanged. The copy of a
/// complete buffer takes much longer than its launch.
pub(super) const BUFFER_BYTES: u64 = 4 << 20;

/// The page-locked buffers of all threads of a load.
pub(super) struct StagingPool {
    gpu: Gpu,
    /// The buffers that no thread uses at the moment.
    idle: Mutex<Vec<Staging>>,
}

impl StagingPool {
    /// Creates a pool of buffers for copies to `gpu`. Buffers are allocated on demand.
    pub(super) fn new(gpu: &Gpu) -> StagingPool {
        StagingPool { gpu: gpu.clone(), idle: Mutex::default() }
    }

    /// Calls `fill` with a buffer of the size of `region`, and starts the copy of the buffer to
    /// `region`.
    ///
    /// # Errors
    /// `fill` or the driver fails.
    pub(super) fn upload<R>(
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

    /// Waits until all copies are complete, and adds their bytes and time to `copy`.
    ///
    /// # Errors
    /// A copy failed.
    pub(super) fn finish(self, copy: &BusyClock) -> Result<(), Failure> {
        for mut staging in self.idle.into_inner().unwrap_or_else(PoisonError::into_inner) {
            let copied = staging.finish()?;
            copy.add(copied.bytes, copied.busy);
        }
        self.gpu.synchronize(Stage::Load)
    }
}
