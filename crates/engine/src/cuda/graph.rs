//! A sequence of launches that is recorded once and then launched as one: a token takes hundreds of
//! short kernels, and to launch each by itself takes longer than most of them run.
//!
//! Source: CUDA Programming Guide, "CUDA Graphs". Recorded kernels read their inputs where they were
//! when they were recorded, so inputs are written there before each launch.

use super::tensors::address;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, result, sys};
use candle_core::{Device, Result, Tensor};
use std::sync::{Mutex, PoisonError};

/// Recorded launches on the one stream of a device.
pub(crate) struct Graph(Mutex<Recorded>);

struct Recorded(CudaGraph);

// SAFETY: the handles may be used from any thread, by one at a time, which the mutex ensures.
unsafe impl Send for Recorded {}

impl Graph {
    /// Does `work`, then does it again and records what it launches; returns `None` if the driver
    /// does not record that work. `work` must free all that it allocates and read nothing back, and
    /// a workspace that outlives one call of it and grows on demand must have its full size before.
    ///
    /// # Errors
    /// `work` or the driver fails.
    pub(crate) fn record(device: &Device, work: impl Fn() -> Result<()>) -> Result<Option<Graph>> {
        use sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED as RELAXED;
        let cuda = device.as_cuda_device()?;
        // candle copies shapes to the device for some kernels; with this it keeps the copies of the
        // first time, since a recorded copy would read host memory that is freed by then
        let _shapes_stay = cuda.enable_cuda_graph_htod_cache();
        work()?;
        let stream = cuda.cuda_stream();
        stream.synchronize().w()?;
        stream.begin_capture(RELAXED).w()?;
        let recorded = work();
        // the recording has to end, successful or not
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags);
        recorded?;
        // the driver may refuse work that succeeded: it then runs launch by launch
        Ok(graph.ok().flatten().map(|graph| Graph(Mutex::new(Recorded(graph)))))
    }

    /// Launches what was recorded.
    ///
    /// # Errors
    /// The driver refuses.
    pub(crate) fn launch(&self) -> Result<()> {
        let graph = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        graph.0.launch().w()
    }
}

/// Writes a number into a tensor of one element, in place.
pub(crate) fn write_number(tensor: &Tensor, number: u32) -> Result<()> {
    let address = address::<u32>(tensor)?;
    let stream = tensor.device().as_cuda_device()?.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: the tensor is alive and holds one number. The driver copies memory that is not
    // page-locked before this returns.
    unsafe { result::memcpy_htod_async(address, &[number], stream.cu_stream()) }.w()
}
