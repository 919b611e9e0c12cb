//! Page-locked buffers through which weights go to a device: while one is copied, the next is
//! filled.

use super::driver_failures::running_failure;
use super::{Gpu, Region, UploadStats};
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, DriverError, PinnedHostSlice, result, sys,
};
use modelgate_protocol::{Failure, Stage};
use std::time::Duration;

/// Buffers of a thread: one is filled, one is copied, one waits.
const BUFFERS: usize = 3;

/// The buffers of one thread.
pub(crate) struct Staging {
    gpu: Gpu,
    buffers: Vec<Buffer>,
    next: usize,
    copied: UploadStats,
}

struct Buffer {
    memory: PinnedHostSlice<u8>,
    begin: CudaEvent,
    end: CudaEvent,
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
        Ok(Staging { gpu: self.clone(), buffers, next: 0, copied: UploadStats::default() })
    }
}

impl Staging {
    /// Lets `fill` write as many bytes as `region` has, and copies them there. The copy may still
    /// run when this returns.
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
        self.copied.busy += buffer.wait().map_err(&driver)?;
        if buffer.memory.len() < bytes {
            *buffer = Buffer::new(&self.gpu, bytes).map_err(&driver)?;
        }
        let memory = buffer.memory.as_mut_slice().map_err(&driver)?;
        let filled = fill(&mut memory[..bytes])?;
        buffer.copy(&self.gpu, region).map_err(&driver)?;
        self.copied.bytes += region.bytes;
        Ok(filled)
    }

    /// Waits for the copies that still run, and returns the totals.
    ///
    /// # Errors
    /// A copy failed.
    pub(crate) fn finish(&mut self) -> Result<UploadStats, Failure> {
        for buffer in &mut self.buffers {
            self.copied.busy +=
                buffer.wait().map_err(running_failure(self.gpu.name(), Stage::Load))?;
        }
        Ok(std::mem::take(&mut self.copied))
    }
}

impl Buffer {
    fn new(gpu: &Gpu, bytes: usize) -> Result<Buffer, DriverError> {
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        Ok(Buffer {
            // SAFETY: the memory is written before it is read. It is not write-combined, since
            // values are read back from it.
            memory: unsafe { gpu.context().alloc_pinned_with_flags(bytes, 0) }?,
            begin: gpu.context().new_event(timed)?,
            end: gpu.context().new_event(timed)?,
            in_flight: false,
        })
    }

    fn copy(&mut self, gpu: &Gpu, region: Region) -> Result<(), DriverError> {
        // one copy after the other: two at once are no faster, and their times would be wrong
        let stream = gpu.copies();
        let _turn = gpu.copy_turn();
        self.begin.record(stream)?;
        let source = &self.memory.as_slice()?[..region.bytes as usize];
        // SAFETY: the region is memory of a live tensor, as long as the source; the buffer is not
        // used before `wait` has waited for the end of the copy.
        unsafe { result::memcpy_htod_async(region.address, source, stream.cu_stream()) }?;
        self.end.record(stream)?;
        self.in_flight = true;
        Ok(())
    }

    /// Waits until the buffer is free, and returns how long its last copy took.
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
        // the buffers must not be freed while a copy reads them; a failed copy is reported elsewhere
        for buffer in &mut self.buffers {
            let _ = buffer.wait();
        }
    }
}
