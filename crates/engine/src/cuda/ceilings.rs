//! The bandwidth of the device: of copies from page-locked memory, and of its own memory.

use super::driver_failures::running_failure;
use super::{Gpu, Region};
use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DriverError, result, sys};
use modelgate_protocol::{Ceiling, CeilingName, DType, Failure, Finite, Location, Stage};

/// Bytes of the two tensors between which the device copies: several times its caches.
const DEVICE_BYTES: u64 = 512 << 20;
/// Bytes of the page-locked buffer.
const HOST_BYTES: usize = 64 << 20;
/// Copies that are timed together, after one that is not.
const COPIES: u32 = 8;

impl Gpu {
    /// Measures the ceilings. Allocates a gigabyte of the device while it does so.
    ///
    /// # Errors
    /// The memory cannot be allocated, or a copy fails.
    pub(crate) fn ceilings(&self) -> Result<Vec<Ceiling>, Failure> {
        let shape = [(DEVICE_BYTES / 4) as usize];
        let memory =
            || self.values(&DType::F32, &shape).map_err(failures::internal(Stage::Generate));
        let (from, to) = (memory()?, memory()?);
        let measured =
            self.measure(from.1, to.1).map_err(running_failure(self.name(), Stage::Generate))?;
        drop((from, to));
        self.memory_tracker().trim().map_err(running_failure(self.name(), Stage::Generate))?;
        let ceiling = |(name, rate): (CeilingName, f64)| {
            let bytes_per_s = Finite::new(rate)?;
            Some(Ceiling { name, device: Location::Device(self.id()), bytes_per_s })
        };
        let (copied, moved) = measured;
        let rates = [(CeilingName::PinnedCopy, copied), (CeilingName::DeviceMemory, moved)];
        Ok(rates.into_iter().filter_map(ceiling).collect())
    }

    /// Returns the bytes per second from page-locked memory, and those that the device itself reads
    /// and writes.
    fn measure(&self, from: Region, to: Region) -> Result<(f64, f64), DriverError> {
        self.wait()?;
        let stream = self.copies();
        // SAFETY: its content is never used.
        let host = unsafe { self.context().alloc_pinned_with_flags::<u8>(HOST_BYTES, 0) }?;
        let host = host.as_slice()?;
        let copied = timed(stream, || {
            // SAFETY: the region is longer than the buffer, and both outlive the copy, which is
            // waited for.
            unsafe { result::memcpy_htod_async(to.address, host, stream.cu_stream()) }
        })?;
        let moved = timed(stream, || {
            let bytes = from.bytes.min(to.bytes) as usize;
            // SAFETY: both regions are that long, and outlive the copy.
            unsafe {
                result::memcpy_dtod_async(to.address, from.address, bytes, stream.cu_stream())
            }
        })?;
        let moved_bytes = 2 * from.bytes.min(to.bytes);
        Ok((HOST_BYTES as f64 / copied, moved_bytes as f64 / moved))
    }
}

/// Returns the seconds that a copy takes, the mean of several after one that is not timed.
fn timed(
    stream: &CudaStream,
    copy: impl Fn() -> Result<(), DriverError>,
) -> Result<f64, DriverError> {
    let event = || stream.context().new_event(Some(sys::CUevent_flags::CU_EVENT_DEFAULT));
    let (begin, end) = (event()?, event()?);
    copy()?;
    begin.record(stream)?;
    for _ in 0..COPIES {
        copy()?;
    }
    end.record(stream)?;
    end.synchronize()?;
    Ok(f64::from(begin.elapsed_ms(&end)?) / 1000.0 / f64::from(COPIES))
}
