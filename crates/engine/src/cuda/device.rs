//! An open CUDA device: one handle for the complete process, checked before use.
//!
//! All kernels run on one stream, so no events are needed to order the uses of a tensor. The copies
//! of a load run on a second stream, which is synchronized before the tensors are used.

use super::compatibility::{check_compute_capability, check_driver};
use super::device_properties::DeviceProperties;
use super::driver_failures::{driver_failure, opening_failure, running_failure};
use super::memory_tracker::MemoryTracker;
use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, DriverError};
use candle_core::{CudaDevice, Device};
use modelgate_protocol::{DeviceRecord, Failure, PoolMemory, Stage};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// An open CUDA device. Clones refer to the same device.
#[derive(Clone)]
pub(crate) struct Gpu(Arc<Inner>);

struct Inner {
    /// The device as it is identified in requests and reports.
    id: modelgate_protocol::Device,
    /// The text form of `id`, for example `cuda:0`.
    name: String,
    device: Device,
    context: Arc<CudaContext>,
    /// The stream for the copies of a load.
    copy_stream: Arc<CudaStream>,
    /// The lock that a thread holds while it enqueues a copy on `copy_stream`.
    copy_lock: Mutex<()>,
    memory: MemoryTracker,
    properties: DeviceProperties,
    /// Whether the driver had compiled the kernels before. Unset until the kernels are loaded; the
    /// value is `None` if this is unknown.
    kernels_cached: OnceLock<Option<bool>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Gpu {
    /// Opens the visible device with this ordinal. Tensors can take at most `limit` bytes of its
    /// memory.
    ///
    /// # Errors
    /// The device does not exist, the driver or the device is not compatible with this build, or
    /// the driver fails.
    pub(crate) fn open(ordinal: u32, limit: Option<u64>) -> Result<Gpu, Failure> {
        let id = modelgate_protocol::Device::Cuda(ordinal);
        let name = id.to_string();
        check_driver()?;
        let driver = driver_failure(&name);
        let device = Device::new_cuda_with_stream(ordinal as usize)
            .map_err(|error| opening_failure(&name, &error.to_string()))?;
        let cuda = candle_cuda_device(&device)?;
        // SAFETY: all tensors are used on a single stream of this device. `Gpu::synchronize` waits
        // for the copies on the other stream before their results are read.
        unsafe { cuda.disable_event_tracking() };
        let context = Arc::clone(cuda.cuda_stream().context());
        check_compute_capability(&name, &context)?;
        let copy_stream = context.new_stream().map_err(&driver)?;
        let memory = MemoryTracker::start(&context, limit).map_err(&driver)?;
        let properties = DeviceProperties::of(&context).map_err(&driver)?;
        drop(driver);
        Ok(Gpu(Arc::new(Inner {
            id,
            name,
            device,
            context,
            copy_stream,
            copy_lock: Mutex::new(()),
            memory,
            properties,
            kernels_cached: OnceLock::new(),
        })))
    }

    /// Returns the device as a candle device.
    pub(crate) fn device(&self) -> &Device {
        &self.0.device
    }

    /// Returns the text form of the device's identifier, for example `cuda:0`.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the device as it is identified in requests and reports.
    pub(super) fn id(&self) -> modelgate_protocol::Device {
        self.0.id
    }

    /// Returns the device as a candle CUDA device.
    pub(super) fn cuda(&self) -> candle_core::Result<&CudaDevice> {
        self.0.device.as_cuda_device()
    }

    /// Returns the CUDA context of the device.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.0.context
    }

    /// Returns the stream for the copies of a load.
    pub(super) fn copy_stream(&self) -> &Arc<CudaStream> {
        &self.0.copy_stream
    }

    /// Waits until no other thread enqueues a copy on `copy_stream`, and excludes other threads
    /// until the guard is dropped.
    pub(super) fn lock_copy_stream(&self) -> MutexGuard<'_, ()> {
        self.0.copy_lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the properties by which kernels select their tiles.
    pub(super) fn properties(&self) -> DeviceProperties {
        self.0.properties
    }

    /// Returns the tracker of the device memory.
    pub(super) fn memory_tracker(&self) -> &MemoryTracker {
        &self.0.memory
    }

    /// Records whether the driver had compiled the kernels before. `None` if this is unknown. Only
    /// the first call has an effect.
    pub(super) fn set_kernels_cached(&self, cached: Option<bool>) {
        let _ = self.0.kernels_cached.set(cached);
    }

    /// Returns the properties of the device that are reported, and how much of its memory is in use
    /// now.
    ///
    /// # Errors
    /// The driver fails.
    pub(crate) fn record(&self) -> Result<DeviceRecord, Failure> {
        let memory = self.memory(Stage::Start)?;
        let context = &self.0.context;
        let driver = driver_failure(&self.0.name);
        let capability = context.compute_capability().map_err(&driver)?;
        Ok(DeviceRecord {
            device: self.0.id,
            uuid: memory.uuid,
            name: context.name().map_err(&driver)?,
            compute_capability: format!("{}.{}", capability.0, capability.1),
            total: context.total_mem().map_err(&driver)? as u64,
            baseline: memory.outside.saturating_add(memory.reserved),
            kernels_cached: self.0.kernels_cached.get().copied().flatten(),
        })
    }

    /// Returns how much device memory is in use now, and the peaks so far.
    ///
    /// # Errors
    /// The driver fails, in `stage`.
    pub(crate) fn memory(&self, stage: Stage) -> Result<PoolMemory, Failure> {
        let usage = || -> Result<PoolMemory, DriverError> {
            let uuid = format_uuid(&self.0.context.uuid()?.bytes);
            self.0.memory.usage(self.0.id, uuid)
        };
        usage().map_err(running_failure(&self.0.name, stage))
    }

    /// Waits until the device has completed all work.
    ///
    /// # Errors
    /// Some of this work failed.
    pub(crate) fn synchronize(&self, stage: Stage) -> Result<(), Failure> {
        self.wait().map_err(running_failure(&self.0.name, stage))
    }

    /// Makes the context of the device current on this thread, and waits until the device has
    /// completed all work.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        self.0.context.bind_to_thread()?;
        self.0.context.synchronize()
    }
}

fn candle_cuda_device(device: &Device) -> Result<CudaDevice, Failure> {
    device.as_cuda_device().cloned().map_err(failures::internal(Stage::Start))
}

/// Formats a UUID like `nvidia-smi`, as `GPU-` and 32 hexadecimal digits in five groups.
fn format_uuid(bytes: &[i8; 16]) -> String {
    let digits = hex::encode(bytes.map(i8::cast_unsigned));
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    format!("GPU-{}", groups.join("-"))
}
