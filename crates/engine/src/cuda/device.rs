//! A CUDA device as it is opened: one handle for the whole process, checked before it is used.
//!
//! Everything runs on one stream, so no event has to order one use of a tensor after another; what
//! runs outside it (the copies of a load) is synchronised before the tensors are used.

use super::chip::Chip;
use super::compatibility::{refuse_capability, refuse_driver};
use super::driver_failures::{driver_failure, opening_failure, running_failure};
use super::memory_tracker::MemoryTracker;
use crate::failures;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, DriverError};
use candle_core::{CudaDevice, Device};
use modelgate_protocol::{DeviceSeen, Failure, PoolMemory, Stage};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A CUDA device that is open. Clones are the same device.
#[derive(Clone)]
pub(crate) struct Gpu(Arc<Inner>);

struct Inner {
    /// The device as requests and reports name it.
    id: modelgate_protocol::Device,
    /// The same as text, such as `cuda:0`.
    name: String,
    device: Device,
    context: Arc<CudaContext>,
    /// The stream of a load's copies.
    copies: Arc<CudaStream>,
    /// Locked while a copy is put on that stream.
    copy_turn: Mutex<()>,
    memory: MemoryTracker,
    chip: Chip,
    kernels_cached: OnceLock<Option<bool>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Gpu {
    /// Opens the device with that ordinal among those visible. Tensors will take no more than
    /// `limit` bytes of its memory.
    ///
    /// # Errors
    /// There is no such device, driver or device do not fit this build, or the driver fails.
    pub(crate) fn open(ordinal: u32, limit: Option<u64>) -> Result<Gpu, Failure> {
        let id = modelgate_protocol::Device::Cuda(ordinal);
        let name = id.to_string();
        refuse_driver()?;
        let driver = driver_failure(&name);
        let device = Device::new_cuda_with_stream(ordinal as usize)
            .map_err(|error| opening_failure(&name, &error.to_string()))?;
        let cuda = cuda_of(&device)?;
        // SAFETY: all tensors live on the one stream of this device. Copies on another stream are
        // waited for before anything reads what they write (`Gpu::synchronize`).
        unsafe { cuda.disable_event_tracking() };
        let context = Arc::clone(cuda.cuda_stream().context());
        refuse_capability(&name, &context)?;
        let copies = context.new_stream().map_err(&driver)?;
        let memory = MemoryTracker::start(&context, limit).map_err(&driver)?;
        let chip = Chip::of(&context).map_err(&driver)?;
        drop(driver);
        Ok(Gpu(Arc::new(Inner {
            id,
            name,
            device,
            context,
            copies,
            copy_turn: Mutex::new(()),
            memory,
            chip,
            kernels_cached: OnceLock::new(),
        })))
    }

    /// Returns candle's handle of the device.
    pub(crate) fn device(&self) -> &Device {
        &self.0.device
    }

    /// Returns the device's name, such as `cuda:0`.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the device as requests and reports name it.
    pub(super) fn id(&self) -> modelgate_protocol::Device {
        self.0.id
    }

    /// Returns candle's CUDA device, which `open` has made.
    pub(super) fn cuda(&self) -> candle_core::Result<&CudaDevice> {
        self.0.device.as_cuda_device()
    }

    /// Returns the device's context.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.0.context
    }

    /// Returns the stream of a load's copies.
    pub(super) fn copies(&self) -> &Arc<CudaStream> {
        &self.0.copies
    }

    /// Waits until no other thread puts a copy on that stream.
    pub(super) fn copy_turn(&self) -> MutexGuard<'_, ()> {
        self.0.copy_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the properties that kernels choose their tiles by.
    pub(super) fn chip(&self) -> Chip {
        self.0.chip
    }

    /// Returns the tracker of the device's memory.
    pub(super) fn memory_tracker(&self) -> &MemoryTracker {
        &self.0.memory
    }

    /// Records whether the driver had compiled the kernels before; `None` if that is unknown. Only
    /// the first call counts.
    pub(super) fn set_kernels_cached(&self, cached: Option<bool>) {
        let _ = self.0.kernels_cached.set(cached);
    }

    /// Returns what the device is, and how much of its memory is in use now.
    pub(crate) fn seen(&self) -> DeviceSeen {
        let memory = self.memory();
        let capability = self.0.context.compute_capability().unwrap_or_default();
        DeviceSeen {
            device: self.0.id,
            uuid: memory.uuid,
            name: self.0.context.name().unwrap_or_default(),
            compute_capability: format!("{}.{}", capability.0, capability.1),
            total: self.0.context.total_mem().unwrap_or_default() as u64,
            baseline: memory.outside.saturating_add(memory.reserved),
            kernels_cached: self.0.kernels_cached.get().copied().flatten(),
        }
    }

    /// Returns how much of the device's memory is in use, and the peaks.
    pub(crate) fn memory(&self) -> PoolMemory {
        let uuid = self.0.context.uuid().map(|uuid| formatted(&uuid.bytes)).unwrap_or_default();
        self.0.memory.read(self.0.id, uuid)
    }

    /// Waits until all work of the device is done.
    ///
    /// # Errors
    /// Some of that work failed.
    pub(crate) fn synchronize(&self, stage: Stage) -> Result<(), Failure> {
        self.wait().map_err(running_failure(&self.0.name, stage))
    }

    /// Waits until all work of the device is done, and makes its context current on this thread.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        self.0.context.bind_to_thread()?;
        self.0.context.synchronize()
    }
}

fn cuda_of(device: &Device) -> Result<CudaDevice, Failure> {
    device.as_cuda_device().cloned().map_err(failures::internal(Stage::Start))
}

/// Formats a UUID as the driver's tools do.
fn formatted(bytes: &[i8; 16]) -> String {
    let digits = hex::encode(bytes.map(i8::cast_unsigned));
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|group| &digits[group]);
    format!("GPU-{}", groups.join("-"))
}
