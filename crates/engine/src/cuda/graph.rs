//! A sequence of kernel launches that is recorded once and then launched as a unit. A token needs
//! hundreds of short kernels, and a separate launch takes longer than most of these kernels run.
//!
//! Source: CUDA Programming Guide, "CUDA Graphs". Recorded kernels read their inputs at the
//! addresses that were recorded, so new inputs are written to these addresses before each launch.

use super::tensors::address;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, result, sys};
use candle_core::{Device, Result, Tensor};
use std::sync::{Mutex, PoisonError};

/// Recorded kernel launches on the stream of a device.
pub(crate) struct Graph(Mutex<Recorded>);

struct Recorded(CudaGraph);

// SAFETY: the handles may be used from any thread, but by only one thread at a time, which the
// mutex ensures.
unsafe impl Send for Recorded {}

impl Graph {
    /// Calls `work`, then calls it again and records the kernels that it launches. `None` if the
    /// driver cannot record this work.
    ///
    /// `work` must free all memory that it allocates, and must not copy results to the host. A
    /// workspace that remains between the calls of `work` and grows on demand must already have its
    /// full size.
    ///
    /// # Errors
    /// `work` or the driver fails.
    pub(crate) fn record(device: &Device, work: impl Fn() -> Result<()>) -> Result<Option<Graph>> {
        use sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED as RELAXED;
        let cuda = device.as_cuda_device()?;
        // candle copies shapes to the device for some kernels. It now keeps the copies of the first
        // call, since a recorded copy would later read host memory that was freed
        let _shape_cache = cuda.enable_cuda_graph_htod_cache();
        work()?;
        let stream = cuda.cuda_stream();
        stream.synchronize().w()?;
        stream.begin_capture(RELAXED).w()?;
        let recorded = work();
        // the capture must end, even if the work failed
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags);
        recorded?;
        // if the driver cannot record work that succeeded, the caller launches it kernel by kernel
        Ok(graph.ok().flatten().map(|graph| Graph(Mutex::new(Recorded(graph)))))
    }

    /// Launches the recorded kernels.
    ///
    /// # Errors
    /// The driver fails.
    pub(crate) fn launch(&self) -> Result<()> {
        let graph = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        graph.0.launch().w()
    }
}

/// Writes `number` to a tensor of one element, in place.
///
/// # Errors
/// The tensor is not a contiguous u32 tensor on a CUDA device, or the driver fails.
pub(crate) fn write_number(tensor: &Tensor, number: u32) -> Result<()> {
    let address = address::<u32>(tensor)?;
    let stream = tensor.device().as_cuda_device()?.cuda_stream();
    stream.context().bind_to_thread().w()?;
    // SAFETY: the tensor is alive and has one element. The driver reads memory that is not
    // page-locked before this function returns.
    unsafe { result::memcpy_htod_async(address, &[number], stream.cu_stream()) }.w()
}
