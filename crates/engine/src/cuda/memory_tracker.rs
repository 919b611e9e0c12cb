//! Tracks the device memory that is in use. Tensors are allocated from a memory pool of the device,
//! which has exact high-water marks. The memory outside of the pool is sampled.
//!
//! Source: CUDA Driver API, "Stream Ordered Memory Allocator" (`CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH`)
//! and `cuMemGetInfo`, which counts the memory of all processes.

use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, DriverError, result, sys};
use modelgate_protocol::{Device, Finite, PoolMemory};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two samples of the memory outside of the pool.
const INTERVAL: Duration = Duration::from_millis(2);

/// A tracker of the memory of a device: a memory pool with high-water marks, and a thread that
/// samples the memory outside of the pool until the tracker is dropped.
pub(super) struct MemoryTracker {
    state: Arc<TrackerState>,
    sampler: Option<JoinHandle<()>>,
}

/// The state that the tracker and its sampling thread share.
struct TrackerState {
    context: Arc<CudaContext>,
    pool: Pool,
    /// Whether the sampling thread must end.
    stop: AtomicBool,
    samples: Mutex<Samples>,
}

/// A handle of a memory pool, which can be used from any thread.
#[derive(Clone, Copy)]
struct Pool(sys::CUmemoryPool);

// SAFETY: it is an opaque handle, and the functions of the driver for it are thread-safe.
unsafe impl Send for Pool {}
// SAFETY: it is an opaque handle, and the functions of the driver for it are thread-safe.
unsafe impl Sync for Pool {}

/// The samples of the memory outside of the pool.
struct Samples {
    /// The bytes outside of the pool at the last sample.
    outside: u64,
    /// The maximum of `outside` over all samples.
    outside_peak: u64,
    /// The time of the last sample.
    last: Instant,
    /// The longest time between two samples.
    longest_gap: Duration,
}

impl MemoryTracker {
    /// Selects the memory pool from which all tensors of the device are allocated, and starts the
    /// sampling thread. The pool has at most `limit` bytes; `None` means the default pool. It does
    /// not return reserved memory to the device before [`MemoryTracker::trim`].
    pub(super) fn start(
        context: &Arc<CudaContext>,
        limit: Option<u64>,
    ) -> Result<MemoryTracker, DriverError> {
        context.bind_to_thread()?;
        let pool = Pool::of(context, limit)?;
        let state = Arc::new(TrackerState {
            context: Arc::clone(context),
            pool,
            stop: AtomicBool::new(false),
            samples: Mutex::new(Samples {
                outside: 0,
                outside_peak: 0,
                last: Instant::now(),
                longest_gap: Duration::ZERO,
            }),
        });
        state.sample();
        let sampler = std::thread::spawn({
            let state = Arc::clone(&state);
            move || {
                // only once, since each call clears errors that other code must receive
                if state.context.bind_to_thread().is_err() {
                    return;
                }
                while !state.stop.load(Ordering::Relaxed) {
                    state.sample();
                    std::thread::sleep(INTERVAL);
                }
            }
        });
        Ok(MemoryTracker { state, sampler: Some(sampler) })
    }

    /// Returns the current use of the memory and its peaks, labeled with `device` and `uuid`.
    ///
    /// # Errors
    /// The driver fails.
    pub(super) fn usage(&self, device: Device, uuid: String) -> Result<PoolMemory, DriverError> {
        use sys::CUmemPool_attribute_enum as Attribute;
        self.state.context.bind_to_thread()?;
        self.state.sample();
        let pool = self.state.pool;
        let samples = self.state.samples.lock().unwrap_or_else(PoisonError::into_inner);
        // the time since the last sample is also a gap, which grows if the sampling thread hangs
        let gap = samples.longest_gap.max(samples.last.elapsed());
        Ok(PoolMemory {
            device,
            uuid,
            reserved: pool.attribute(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
            reserved_peak: pool.attribute(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
            outside: samples.outside,
            outside_peak: samples.outside_peak,
            longest_gap_s: Finite::seconds(gap),
        })
    }

    /// Returns the memory of the pool that no tensor uses to the device.
    pub(super) fn trim(&self) -> Result<(), DriverError> {
        self.state.context.bind_to_thread()?;
        self.state.context.synchronize()?;
        // SAFETY: the pool exists until the process ends.
        unsafe { mem_pool::trim_to(self.state.pool.0, 0) }
    }
}

impl Drop for MemoryTracker {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            // the samples up to a panic of the thread are still valid
            let _ = sampler.join();
        }
    }
}

impl TrackerState {
    /// Adds a sample, unless the driver fails or the pool changes during the measurement.
    fn sample(&self) {
        use sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED;
        let read = || -> Option<u64> {
            let before = self.pool.attribute(RESERVED).ok()?;
            let (free, total) = result::mem_get_info().ok()?;
            // if the pool has changed in the meantime, the two values are inconsistent
            let outside = (total as u64).checked_sub(free as u64)?.checked_sub(before)?;
            (self.pool.attribute(RESERVED).ok()? == before).then_some(outside)
        };
        let Some(outside) = read() else { return };
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        samples.longest_gap = samples.longest_gap.max(now - samples.last);
        samples.last = now;
        samples.outside = outside;
        samples.outside_peak = samples.outside_peak.max(outside);
    }
}

impl Pool {
    /// Selects the pool from which the device allocates: a new pool of at most `limit` bytes, or
    /// the default pool if `limit` is `None`.
    fn of(context: &CudaContext, limit: Option<u64>) -> Result<Pool, DriverError> {
        use sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as THRESHOLD;
        let cu_device = context.cu_device();
        let pool = match limit {
            None => {
                // SAFETY: the device belongs to a live context.
                let pool = unsafe { device::get_default_mem_pool(cu_device) }?;
                // SAFETY: the device belongs to a live context. This call replaces a limited pool
                // that this process may have set before.
                unsafe { device::set_mem_pool(cu_device, pool) }?;
                pool
            }
            Some(limit) => {
                // SAFETY: it is a struct of integers and a pointer, for which zeros are the
                // documented defaults.
                let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
                properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
                properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
                properties.location.id = cu_device;
                properties.maxSize = usize::try_from(limit).unwrap_or(usize::MAX);
                // SAFETY: the properties are initialized; the pool exists until the process ends.
                let pool = unsafe { mem_pool::create(&raw const properties) }?;
                // SAFETY: the device belongs to a live context, and the pool exists.
                unsafe { device::set_mem_pool(cu_device, pool) }?;
                pool
            }
        };
        let mut release_threshold = u64::MAX;
        // SAFETY: the value of this attribute is one 64-bit integer.
        unsafe { mem_pool::set_attribute(pool, THRESHOLD, (&raw mut release_threshold).cast()) }?;
        Ok(Pool(pool))
    }

    /// Returns the value of an attribute with a 64-bit value.
    ///
    /// # Errors
    /// The driver fails.
    fn attribute(self, attribute: sys::CUmemPool_attribute) -> Result<u64, DriverError> {
        let mut value = 0u64;
        // SAFETY: the values of the attributes that are read are 64-bit integers.
        unsafe { mem_pool::get_attribute(self.0, attribute, (&raw mut value).cast()) }?;
        Ok(value)
    }
}
