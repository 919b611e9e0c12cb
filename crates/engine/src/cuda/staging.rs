//! Page-locked buffers through which weights are copied to a device. While the device copies one
//! buffer, a thread fills the next.

use super::driver_failures::running_failure;
use super::{Gpu, Region, UploadStats};
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, DriverError, PinnedHostSlice, result, sys,
};
use modelgate_protocol::{Failure, Stage};
use std::time::Duration;

/// The number of buffers per thread: one is filled, one is copied and one waits for its copy.
const BUFFERS: usize = 3;

/// The page-locked buffers of one thread.
pub(crate) struct Staging {
    gpu: Gpu,
    buffers: Vec<Buffer>,
    /// The index of the buffer to fill next.
    next: usize,
    /// The total of the completed copies.
    stats: UploadStats,
}

/// A page-locked buffer, with events that time its copy.
struct Buffer {
    memory: PinnedHostSlice<u8>,
    begin: CudaEvent,
    end: CudaEvent,
    /// Whether a copy was enqueued that `wait` has not awaited.
    in_flight: bool,
}

impl Gpu {
    /// Allocates page-locked buffers of `bytes` bytes each, for one thread.
    ///
    /// # Errors
    /// The memory cannot be allocated.
    pub(crate) fn staging(&self, bytes: usize) -> Result<Staging, Failure> {
        let buffers = (0..BUFFERS)
            .map(|_| Buffer::new(self, bytes))
            .collect::<Result<_, _>>()
            .map_err(running_failure(self.name(), Stage::Load))?;
        Ok(Staging { gpu: self.clone(), buffers, next: 0, stats: UploadStats::default() })
    }
}

impl Staging {
    /// Calls `fill` to write the bytes of `region` to a buffer, and starts a copy of the buffer to
    /// `region`. The copy may still run when this function returns.
    ///
    /// # Errors
    /// `fill` or the driver fails.
    pub(crate) fn upload<R>(
        &mut self,
        region: Region,
        fill: impl FnOnce(&mut [u8]) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        let driver = running_failure(self.gpu.name(), Stage::Load);
        let bytes = region.bytes as usize;
        let buffer = &mut self.buffers[self.next];
        self.next = (self.next + 1) % BUFFERS;
        self.stats.busy += buffer.wait().map_err(&driver)?;
        if buffer.memory.len() < bytes {
            *buffer = Buffer::new(&self.gpu, bytes).map_err(&driver)?;
        }
        let memory = buffer.memory.as_mut_slice().map_err(&driver)?;
        let filled = fill(&mut memory[..bytes])?;
        buffer.copy(&self.gpu, region).map_err(&driver)?;
        self.stats.bytes += region.bytes;
        Ok(filled)
    }

    /// Waits for the copies that still run, and returns the totals since the last call.
    ///
    /// # Errors
    /// A copy failed.
    pub(crate) fn finish(&mut self) -> Result<UploadStats, Failure> {
        for buffer in &mut self.buffers {
            self.stats.busy +=
                buffer.wait().map_err(running_failure(self.gpu.name(), Stage::Load))?;
        }
        Ok(std::mem::take(&mut self.stats))
    }
}

impl Buffer {
    fn new(gpu: &Gpu, bytes: usize) -> Result<Buffer, DriverError> {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Buffer {
            // SAFETY: the memory is written before it is read. It is not write-combined, since
            // values are read back from it, which would be slow.
            memory: unsafe { gpu.context().alloc_pinned_with_flags(bytes, 0) }?,
            begin: gpu.context().new_event(timed)?,
            end: gpu.context().new_event(timed)?,
            in_flight: false,
        })
    }

    /// Enqueues a copy of the first bytes of the buffer to `region`.
    fn copy(&mut self, gpu: &Gpu, region: Region) -> Result<(), DriverError> {
        // copies run one after another: concurrent copies are not faster, and their times would
        // overlap
        let stream = gpu.copy_stream();
        let _lock = gpu.lock_copy_stream();
        self.begin.record(stream)?;
        let source = &self.memory.as_slice()?[..region.bytes as usize];
        // SAFETY: the region belongs to a live tensor and has the length of the source. The buffer
        // is not used before `wait` has waited for the end of the copy.
        unsafe { result::memcpy_htod_async(region.address, source, stream.cu_stream()) }?;
        self.end.record(stream)?;
        self.in_flight = true;
        Ok(())
    }

    /// Waits for the copy of the buffer, and returns its duration; zero if no copy is in flight.
    fn wait(&mut self) -> Result<Duration, DriverError> {
        if !std::mem::take(&mut self.in_flight) {
            return Ok(Duration::ZERO);
        }
        self.end.synchronize()?;
        let milliseconds = self.begin.elapsed_ms(&self.end)?;
        Ok(Duration::from_secs_f32(milliseconds.max(0.0) / 1000.0))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // a buffer must not be freed while a copy reads it; `upload` and `finish` report failed
        // copies
        for buffer in &mut self.buffers {
            let _ = buffer.wait();
        }
    }
}
