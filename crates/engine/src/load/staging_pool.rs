//! The buffers through which weights are copied to a device, which threads use in turns.

use crate::cuda::{Gpu, Region, Staging};
use crate::meter::BusyClock;
use modelgate_protocol::{Failure, Stage};
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer, which holds a piece of a file. A copy of so many takes much longer than its
/// launch.
pub(super) const BUFFER_BYTES: u64 = 4 << 20;

/// Page-locked buffers of all threads of a load.
pub(super) struct StagingPool {
    gpu: Gpu,
    idle: Mutex<Vec<Staging>>,
}

impl StagingPool {
    /// Creates the pool of buffers for copies to `gpu`, which are allocated on demand.
    pub(super) fn new(gpu: &Gpu) -> StagingPool {
        StagingPool { gpu: gpu.clone(), idle: Mutex::default() }
    }

    /// Lets `fill` write as many bytes as `region` has, and copies them there.
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

    /// Waits until all copies are complete, and adds their time to `copy`.
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
