//! The bandwidths of the device: of copies from page-locked host memory, and of device memory.

use super::driver_failures::running_failure;
use super::{Gpu, Region};
use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DriverError, result, sys};
use modelgate_protocol::{Ceiling, CeilingName, DType, Failure, Finite, Location, Stage};

/// The size in bytes of each of the two tensors between which the device copies. It is several
/// times the size of the caches.
const DEVICE_BYTES: u64 = 512 << 20;
/// The size in bytes of the page-locked buffer.
const HOST_BYTES: usize = 64 << 20;
/// The number of copies that are timed together, after one copy that is not timed.
const COPIES: u32 = 8;

impl Gpu {
    /// Measures the bandwidths. Allocates 1 GiB of device memory during the measurement.
    ///
    /// # Errors
    /// The memory cannot be allocated, or a copy fails.
    pub(crate) fn ceilings(&self) -> Result<Vec<Ceiling>, Failure> {
        let shape = [(DEVICE_BYTES / 4) as usize];
        let memory =
            || self.values(&DType::F32, &shape).map_err(failures::internal(Stage::Generate));
        let (from, to) = (memory()?, memory()?);
        let (pinned_copy, device_memory) =
            self.bandwidths(from.1, to.1).map_err(running_failure(self.name(), Stage::Generate))?;
        drop((from, to));
        self.memory_tracker().trim().map_err(running_failure(self.name(), Stage::Generate))?;
        let ceiling = |(name, rate): (CeilingName, f64)| {
            let bytes_per_s = Finite::new(rate)?;
            Some(Ceiling { name, device: Location::Device(self.id()), bytes_per_s })
        };
        let rates =
            [(CeilingName::PinnedCopy, pinned_copy), (CeilingName::DeviceMemory, device_memory)];
        Ok(rates.into_iter().filter_map(ceiling).collect())
    }

    /// Returns the bytes per second of copies from page-locked memory to `to`, and of reads and
    /// writes of device memory by copies from `from` to `to`.
    fn bandwidths(&self, from: Region, to: Region) -> Result<(f64, f64), DriverError> {
        self.wait()?;
        let stream = self.copy_stream();
        // SAFETY: the content of the buffer is never used.
        let host = unsafe { self.context().alloc_pinned_with_flags::<u8>(HOST_BYTES, 0) }?;
        let host = host.as_slice()?;
        let host_copy_s = mean_copy_seconds(stream, || {
            // SAFETY: the region is longer than the buffer, and both outlive the copy, since
            // `mean_copy_seconds` waits for it.
            unsafe { result::memcpy_htod_async(to.address, host, stream.cu_stream()) }
        })?;
        let device_copy_s = mean_copy_seconds(stream, || {
            let bytes = from.bytes.min(to.bytes) as usize;
            // SAFETY: both regions have at least this length and outlive the copy.
            unsafe {
                result::memcpy_dtod_async(to.address, from.address, bytes, stream.cu_stream())
            }
        })?;
        let device_bytes = 2 * from.bytes.min(to.bytes);
        Ok((HOST_BYTES as f64 / host_copy_s, device_bytes as f64 / device_copy_s))
    }
}

/// Returns the mean time of [`COPIES`] copies in seconds, after one copy that is not timed.
fn mean_copy_seconds(
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
