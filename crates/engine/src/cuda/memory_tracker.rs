//! Tracks the memory of a device that is in use. Tensors are allocated from the device's memory pool,
//! which keeps exact high-water marks; what is allocated outside of it is sampled.
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

/// Time between two samples of what is allocated outside the pool.
const INTERVAL: Duration = Duration::from_millis(2);

/// Tracks a device's memory: the pool's marks, and a thread that samples the rest until this is
/// dropped.
pub(super) struct MemoryTracker {
    shared: Arc<Shared>,
    sampler: Option<JoinHandle<()>>,
}

struct Shared {
    context: Arc<CudaContext>,
    pool: Pool,
    stop: AtomicBool,
    log: Mutex<Log>,
}

/// A memory pool's handle; the driver's functions on it may be called from any thread.
#[derive(Clone, Copy)]
struct Pool(sys::CUmemoryPool);

// SAFETY: an opaque handle, whose functions the driver makes safe to call from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

struct Log {
    outside: u64,
    outside_peak: u64,
    last: Instant,
    longest_gap: Duration,
}

impl MemoryTracker {
    /// Makes tensors be allocated from a pool that keeps what it has once reserved, of `limit` bytes
    /// at most, and begins to sample.
    pub(super) fn start(
        context: &Arc<CudaContext>,
        limit: Option<u64>,
    ) -> Result<MemoryTracker, DriverError> {
        context.bind_to_thread()?;
        let pool = Pool::of(context, limit)?;
        let shared = Arc::new(Shared {
            context: Arc::clone(context),
            pool,
            stop: AtomicBool::new(false),
            log: Mutex::new(Log {
                outside: 0,
                outside_peak: 0,
                last: Instant::now(),
                longest_gap: Duration::ZERO,
            }),
        });
        shared.sample();
        let sampler = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                // once: each call takes away errors that others are to see
                if shared.context.bind_to_thread().is_err() {
                    return;
                }
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.sample();
                    std::thread::sleep(INTERVAL);
                }
            }
        });
        Ok(MemoryTracker { shared, sampler: Some(sampler) })
    }

    /// Returns the current values, as those of `device`.
    pub(super) fn read(&self, device: Device, uuid: String) -> PoolMemory {
        use sys::CUmemPool_attribute_enum as Attribute;
        // `sample` needs the context on this thread; an error shows in the next call
        let _ = self.shared.context.bind_to_thread();
        self.shared.sample();
        let pool = self.shared.pool;
        let log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        // the time since the last sample is a gap too, which grows if the sampler hangs
        let gap = log.longest_gap.max(log.last.elapsed());
        PoolMemory {
            device,
            uuid,
            reserved: pool.attribute(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT),
            reserved_peak: pool.attribute(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH),
            outside: log.outside,
            outside_peak: log.outside_peak,
            longest_gap_s: Finite::seconds(gap),
        }
    }

    /// Frees the memory of the pool that no tensor uses.
    pub(super) fn trim(&self) -> Result<(), DriverError> {
        self.shared.context.bind_to_thread()?;
        self.shared.context.synchronize()?;
        // SAFETY: the pool lives as long as the process.
        unsafe { mem_pool::trim_to(self.shared.pool.0, 0) }
    }
}

impl Drop for MemoryTracker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            // a sampler that panicked has nothing to report
            let _ = sampler.join();
        }
    }
}

impl Shared {
    fn sample(&self) {
        use sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED;
        let read = || -> Option<u64> {
            let before = self.pool.attribute(RESERVED);
            let (free, total) = result::mem_get_info().ok()?;
            // if the pool has changed meanwhile, the two readings do not belong together
            let outside = (total as u64).checked_sub(free as u64)?.checked_sub(before)?;
            (self.pool.attribute(RESERVED) == before).then_some(outside)
        };
        let Some(outside) = read() else { return };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        log.longest_gap = log.longest_gap.max(now - log.last);
        log.last = now;
        log.outside = outside;
        log.outside_peak = log.outside_peak.max(outside);
    }
}

impl Pool {
    /// Returns the device's own pool, or creates one of limited size in its place.
    fn of(context: &CudaContext, limit: Option<u64>) -> Result<Pool, DriverError> {
        use sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as THRESHOLD;
        let cu_device = context.cu_device();
        let pool = match limit {
            None => {
                // SAFETY: the device is that of a live context.
                let pool = unsafe { device::get_default_mem_pool(cu_device) }?;
                // SAFETY: as above; an earlier limit of this process ends here.
                unsafe { device::set_mem_pool(cu_device, pool) }?;
                pool
            }
            Some(limit) => {
                // SAFETY: a struct of integers and a pointer, for which zeros are the documented
                // defaults.
                let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
                properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
                properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
                properties.location.id = cu_device;
                properties.maxSize = usize::try_from(limit).unwrap_or(usize::MAX);
                // SAFETY: the properties are filled in; the pool lives as long as the process.
                let pool = unsafe { mem_pool::create(&raw const properties) }?;
                // SAFETY: the device and the pool are alive.
                unsafe { device::set_mem_pool(cu_device, pool) }?;
                pool
            }
        };
        let mut keep = u64::MAX;
        // SAFETY: this attribute is one 64-bit integer.
        unsafe { mem_pool::set_attribute(pool, THRESHOLD, (&raw mut keep).cast()) }?;
        Ok(Pool(pool))
    }

    fn attribute(self, attribute: sys::CUmemPool_attribute) -> u64 {
        let mut value = 0u64;
        // SAFETY: the attributes that are read are 64-bit integers.
        match unsafe { mem_pool::get_attribute(self.0, attribute, (&raw mut value).cast()) } {
            Ok(()) => value,
            Err(_) => 0,
        }
    }
}
