//! A CUDA device as it is opened: one handle for the whole process, checked before it is used.
//!
//! Everything runs on one stream, so no event has to order one use of a tensor after another; what
//! runs beside it (the copies of a load) is synchronised before the tensors are handed on.

use super::marks::Marks;
use super::products::Chip;
use super::staging::Staging;
use crate::fail;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, DriverError, sys};
use candle_core::cuda_backend::kernels::{self, Module};
use candle_core::{CudaDevice, Device};
use modelgate_protocol::{DeviceSeen, Failure, FailureKind, PoolMemory, Stage};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The compute capability that the kernels were built for.
pub(crate) fn compute_capability() -> Option<String> {
    Some(env!("MODELGATE_COMPUTE_CAPABILITY").to_owned())
}

/// The CUDA version that they were built with.
pub(crate) fn cuda_version() -> Option<String> {
    Some(env!("MODELGATE_CUDA_VERSION").to_owned())
}

/// candle's kernels that a decoder uses, by module, with the name of one in each.
const KERNELS: [(&str, &Module); 9] = [
    ("affine_f32", &kernels::AFFINE),
    ("badd_f32", &kernels::BINARY),
    ("cast_f32_f16", &kernels::CAST),
    ("fill_f32", &kernels::FILL),
    ("is_u32_f32", &kernels::INDEXING),
    ("get_rows_q4_0", &kernels::QUANTIZED),
    ("rmsnorm_f32", &kernels::REDUCE),
    ("asort_desc_f32", &kernels::SORT),
    ("usilu_f32", &kernels::UNARY),
];

/// A CUDA device that is open. Clones are the same device.
#[derive(Clone)]
pub(crate) struct Gpu(Arc<Inner>);

struct Inner {
    /// Such as `cuda:0`.
    name: String,
    device: Device,
    context: Arc<CudaContext>,
    /// Where the copies of a load run.
    copies: Arc<CudaStream>,
    /// Held by whoever puts a copy there.
    copy_turn: Mutex<()>,
    marks: Marks,
    chip: Chip,
    kernels_cached: OnceLock<Option<bool>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Gpu {
    /// Opens the device with that ordinal among those visible. No more than `limit` bytes of its
    /// memory will be taken by tensors.
    ///
    /// # Errors
    /// There is no such device, driver or device do not fit this build, or the driver fails.
    pub(crate) fn open(ordinal: u32, limit: Option<u64>) -> Result<Gpu, Failure> {
        let name = format!("cuda:{ordinal}");
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
        let marks = Marks::start(&context, limit).map_err(&driver)?;
        let chip = Chip::of(&context).map_err(&driver)?;
        drop(driver);
        Ok(Gpu(Arc::new(Inner {
            name,
            device,
            context,
            copies,
            copy_turn: Mutex::new(()),
            marks,
            chip,
            kernels_cached: OnceLock::new(),
        })))
    }

    /// candle's handle of it.
    pub(crate) fn device(&self) -> &Device {
        &self.0.device
    }

    /// candle's CUDA device, which `open` has made.
    pub(super) fn cuda(&self) -> candle_core::Result<&CudaDevice> {
        self.0.device.as_cuda_device()
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.0.context
    }

    pub(super) fn copies(&self) -> &Arc<CudaStream> {
        &self.0.copies
    }

    pub(super) fn copy_turn(&self) -> MutexGuard<'_, ()> {
        self.0.copy_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn chip(&self) -> Chip {
        self.0.chip
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.0.marks
    }

    /// Loads every kernel that will be used, which the driver compiles where it has not before.
    ///
    /// # Errors
    /// A kernel cannot be loaded.
    pub(crate) fn load_kernels(&self) -> Result<(), Failure> {
        let cache = KernelCache::find();
        let before = cache.as_ref().map(KernelCache::bytes);
        let load = || -> candle_core::Result<()> {
            let cuda = self.cuda()?;
            for (kernel, module) in KERNELS {
                cuda.get_or_load_func(kernel, module)?;
            }
            super::attention::load(cuda)?;
            super::weights::load(cuda)
        };
        load().map_err(|error| {
            Failure::new(
                Stage::Start,
                FailureKind::DeviceMismatch,
                format!("{}: the kernels cannot be loaded: {error}", self.0.name),
                "build the worker on this host, or update the NVIDIA driver",
            )
        })?;
        let cached = before.zip(cache.as_ref().map(KernelCache::bytes));
        // the cache grows by what was compiled
        let _ = self.0.kernels_cached.set(cached.map(|(before, after)| before == after));
        Ok(())
    }

    /// What it is, and what is in use of it now.
    pub(crate) fn seen(&self) -> DeviceSeen {
        let memory = self.memory();
        let capability = self.0.context.compute_capability().unwrap_or_default();
        DeviceSeen {
            device: self.0.name.clone(),
            uuid: memory.uuid,
            name: self.0.context.name().unwrap_or_default(),
            compute_capability: format!("{}.{}", capability.0, capability.1),
            total: self.0.context.total_mem().unwrap_or_default() as u64,
            baseline: memory.outside.saturating_add(memory.reserved),
            kernels_cached: self.0.kernels_cached.get().copied().flatten(),
        }
    }

    /// What is in use of its memory, and was at most.
    pub(crate) fn memory(&self) -> PoolMemory {
        let uuid = self.0.context.uuid().map(|uuid| written(&uuid.bytes)).unwrap_or_default();
        self.0.marks.read(&self.0.name, uuid)
    }

    /// Waits until all that was asked of it is done.
    ///
    /// # Errors
    /// Something that it did failed.
    pub(crate) fn synchronize(&self, stage: Stage) -> Result<(), Failure> {
        self.wait().map_err(running_failure(&self.0.name, stage))
    }

    /// The same, for whoever calls the driver next from this thread.
    pub(super) fn wait(&self) -> Result<(), DriverError> {
        self.0.context.bind_to_thread()?;
        self.0.context.synchronize()
    }

    /// Page-locked buffers of `bytes` bytes each, for one thread.
    ///
    /// # Errors
    /// The memory cannot be had.
    pub(crate) fn staging(&self, bytes: usize) -> Result<Staging, Failure> {
        Staging::new(self, bytes)
    }
}

fn cuda_of(device: &Device) -> Result<CudaDevice, Failure> {
    device.as_cuda_device().cloned().map_err(fail::internal(Stage::Start))
}

/// A UUID as the driver's tools write it.
fn written(bytes: &[i8; 16]) -> String {
    let hex: Vec<String> =
        bytes.iter().map(|byte| format!("{:02x}", byte.cast_unsigned())).collect();
    let group = |range: std::ops::Range<usize>| hex[range].concat();
    let groups = [group(0..4), group(4..6), group(6..8), group(8..10), group(10..16)];
    format!("GPU-{}", groups.join("-"))
}

/// A failure of the driver where nothing else is known of it.
pub(super) fn driver_failure(device: &str) -> impl Fn(DriverError) -> Failure + '_ {
    move |error| {
        if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return fail::device_memory(Stage::Start, format!("{device}: {error}"));
        }
        Failure::new(
            Stage::Start,
            FailureKind::DeviceMismatch,
            format!("{device}: the NVIDIA driver failed: {error}"),
            "look at `nvidia-smi` and the system's log; a driver that was updated needs a restart",
        )
    }
}

/// A failure of the driver while a model is on the device.
pub(super) fn running_failure(device: &str, stage: Stage) -> impl Fn(DriverError) -> Failure + '_ {
    move |error| {
        if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            return fail::device_memory(stage, format!("{device}: {error}"));
        }
        Failure::new(
            stage,
            FailureKind::DeviceWrong,
            format!("{device} failed: {error}"),
            "look for Xid errors in the system's log; without any it is a defect of modelgate: \
             please report it with the model's name",
        )
    }
}

fn opening_failure(device: &str, error: &str) -> Failure {
    let missing = ["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"];
    let (kind, hint) = if missing.iter().any(|code| error.contains(code)) {
        (FailureKind::NoDevice, "`nvidia-smi -L` lists the GPUs; CUDA_VISIBLE_DEVICES hides some")
    } else {
        (FailureKind::DeviceMismatch, "look at `nvidia-smi` and the system's log")
    };
    Failure::new(Stage::Start, kind, format!("{device} cannot be opened: {error}"), hint)
}

/// Refuses a driver that is older than the CUDA that this build was made with.
fn refuse_driver() -> Result<(), Failure> {
    let mut found = 0;
    // SAFETY: writes one integer.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut found) };
    let built = env!("MODELGATE_CUDA_VERSION");
    let major: i32 = built.split('.').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    if answer == sys::CUresult::CUDA_SUCCESS && found / 1000 >= major {
        return Ok(());
    }
    Err(Failure::new(
        Stage::Start,
        FailureKind::DeviceMismatch,
        format!(
            "the NVIDIA driver supports CUDA {}.{}, and this worker was built with CUDA {built}",
            found / 1000,
            found % 1000 / 10
        ),
        "update the driver, or build the worker with an older CUDA toolkit",
    ))
}

/// Refuses a device of another compute capability: some kernels are machine code for one alone, and
/// their launches would fail without a word.
fn refuse_capability(name: &str, context: &CudaContext) -> Result<(), Failure> {
    let (major, minor) = context.compute_capability().map_err(driver_failure(name))?;
    let (found, built) = (format!("{major}.{minor}"), env!("MODELGATE_COMPUTE_CAPABILITY"));
    if found == built {
        return Ok(());
    }
    Err(Failure::new(
        Stage::Start,
        FailureKind::DeviceMismatch,
        format!(
            "{name} ({}) has compute capability {found}, and this worker was built for {built}",
            context.name().unwrap_or_default()
        ),
        format!(
            "build the worker for this GPU: CUDA_COMPUTE_CAP={} cargo build --release --features \
             cuda",
            found.replace('.', "")
        ),
    ))
}

/// The folder in which the driver keeps what it has compiled (CUDA Programming Guide, environment
/// variables `CUDA_CACHE_PATH` and `CUDA_CACHE_DISABLE`).
struct KernelCache(PathBuf);

impl KernelCache {
    /// The folder; none where nothing is kept.
    fn find() -> Option<KernelCache> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if set("CUDA_CACHE_DISABLE").is_some_and(|value| value != "0") {
            return None;
        }
        let folder = set("CUDA_CACHE_PATH").map(PathBuf::from);
        let home = || Some(PathBuf::from(set("HOME")?).join(".nv/ComputeCache"));
        folder.or_else(home).map(KernelCache)
    }

    fn bytes(&self) -> u64 {
        fn sum(folder: &Path) -> u64 {
            let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
            entries
                .flatten()
                .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
                .map(|(path, data)| if data.is_dir() { sum(&path) } else { data.len() })
                .sum()
        }
        sum(&self.0)
    }
}
