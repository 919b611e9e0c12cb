//! A run of launches that is recorded once and then started as one: a token takes hundreds of short
//! kernels, and to launch each by itself takes longer than most of them run.
//!
//! Source: CUDA Programming Guide, "CUDA Graphs". What is recorded reads its inputs where they were
//! when it was recorded, so they are written there before each start.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, result, sys};
use candle_core::{Device, Result, Tensor};
use std::sync::{Mutex, PoisonError};

/// Recorded launches on the one stream of a device.
pub(crate) struct Graph(Mutex<Recorded>);

struct Recorded(CudaGraph);

// SAFETY: the handles may be used from any thread, by one at a time, which the mutex sees to.
unsafe impl Send for Recorded {}

impl Graph {
    /// Does `work`, then records what it launches when it is done once more. All that it allocates it
    /// must free, nothing may be read back, and whatever lives longer than one call of it and is
    /// replaced by something larger when more is asked for must be as large as it will ever be.
    ///
    /// # Errors
    /// `work` fails, or the driver does. Where it only refuses to record there is no graph.
    pub(crate) fn record(device: &Device, work: impl Fn() -> Result<()>) -> Result<Option<Graph>> {
        use sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED as RELAXED;
        let cuda = device.as_cuda_device()?;
        // candle copies shapes to the device for some kernels; with this it keeps the copies of the
        // first time, since a recorded copy would read host memory that is gone by then
        let _shapes_stay = cuda.enable_cuda_graph_htod_cache();
        work()?;
        let stream = cuda.cuda_stream();
        stream.synchronize().w()?;
        stream.begin_capture(RELAXED).w()?;
        let recorded = work();
        // the recording has to end whatever became of it
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags);
        recorded?;
        // what the work did not mind, the driver may: it then runs launch by launch
        Ok(graph.ok().flatten().map(|graph| Graph(Mutex::new(Recorded(graph)))))
    }

    /// Starts what was recorded.
    ///
    /// # Errors
    /// The driver refuses.
    pub(crate) fn launch(&self) -> Result<()> {
        let graph = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        graph.0.launch().w()
    }
}

/// Writes a number into a tensor of one, where it is.
pub(crate) fn write_number(tensor: &Tensor, number: u32) -> Result<()> {
    let address = super::attention::address::<u32>(tensor)?;
    let stream = tensor.device().as_cuda_device()?.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: the tensor is alive and holds one number. Of memory that is not page-locked the driver
    // has taken a copy when this returns.
    unsafe { result::memcpy_htod_async(address, &[number], stream.cu_stream()) }.w()
}
