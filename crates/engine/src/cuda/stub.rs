//! The replacement of the CUDA device in a build without CUDA. It cannot be opened, so none of its
//! methods can be called.

use super::{AttentionShape, Region, UploadStats};
use crate::failures;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor, bail};
use modelgate_protocol::{Ceiling, DType, DeviceRecord, Failure, FailureKind, PoolMemory, Stage};
use std::ops::Range;
use std::sync::Arc;

/// A CUDA device. It has no values in a build without CUDA.
#[derive(Debug, Clone)]
pub(crate) enum Gpu {}

/// Page-locked buffers. They have no values in a build without CUDA.
pub(crate) enum Staging {}

/// Recorded kernel launches. They have no values in a build without CUDA.
pub(crate) enum Graph {}

/// Returns the compute capability for which the kernels were built: always `None` in a build
/// without CUDA.
pub(crate) fn compute_capability() -> Option<String> {
    None
}

/// Returns the CUDA version with which the kernels were built: always `None` in a build without
/// CUDA.
pub(crate) fn cuda_version() -> Option<String> {
    None
}

impl Graph {
    pub(crate) fn record(_: &Device, _: impl Fn() -> Result<()>) -> Result<Option<Graph>> {
        bail!("this worker was built without CUDA")
    }

    pub(crate) fn launch(&self) -> Result<()> {
        match *self {}
    }
}

pub(crate) fn write_number(_: &Tensor, _: u32) -> Result<()> {
    bail!("this worker was built without CUDA")
}

impl Gpu {
    /// Fails always, since the build has no CUDA.
    ///
    /// # Errors
    /// `no_device`.
    pub(crate) fn open(ordinal: u32, _limit: Option<u64>) -> std::result::Result<Gpu, Failure> {
        Err(failures::start(
            FailureKind::DeviceNotFound,
            format!("cuda:{ordinal}: this worker was built without CUDA"),
            "build the worker with `--features cuda`; or set `device = \"cpu\"`",
        ))
    }

    pub(crate) fn device(&self) -> &Device {
        match *self {}
    }

    pub(crate) fn name(&self) -> &str {
        match *self {}
    }

    pub(crate) fn load_kernels(&self) -> std::result::Result<(), Failure> {
        match *self {}
    }

    pub(crate) fn record(&self) -> std::result::Result<DeviceRecord, Failure> {
        match *self {}
    }

    pub(crate) fn memory(&self, _: Stage) -> std::result::Result<PoolMemory, Failure> {
        match *self {}
    }

    pub(crate) fn synchronize(&self, _: Stage) -> std::result::Result<(), Failure> {
        match *self {}
    }

    pub(crate) fn ceilings(&self) -> std::result::Result<Vec<Ceiling>, Failure> {
        match *self {}
    }

    pub(crate) fn blocks(&self, _: GgmlDType, _: &[usize]) -> Result<(Arc<QTensor>, Region)> {
        match *self {}
    }

    pub(crate) fn values(&self, _: &DType, _: &[usize]) -> Result<(Tensor, Region)> {
        match *self {}
    }

    pub(crate) fn random_blocks(
        &self,
        _: Region,
        _pattern: &[u16],
        _random: Range<usize>,
        _seed: u64,
    ) -> Result<()> {
        match *self {}
    }

    pub(crate) fn random_bf16(&self, _: Region, _scale: f32, _seed: u64) -> Result<()> {
        match *self {}
    }

    pub(crate) fn product(
        &self,
        _: Region,
        _: &DType,
        _: (usize, usize),
        _: &Tensor,
    ) -> Result<Tensor> {
        match *self {}
    }

    pub(crate) fn upload(&self, _: Region, _: &[u8]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn download(&self, _: Region, _: &mut [u8]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn staging(&self, _bytes: usize) -> std::result::Result<Staging, Failure> {
        match *self {}
    }
}

impl Staging {
    pub(crate) fn upload<R>(
        &mut self,
        _: Region,
        _fill: impl FnOnce(&mut [u8]) -> std::result::Result<R, Failure>,
    ) -> std::result::Result<R, Failure> {
        match *self {}
    }

    pub(crate) fn finish(&mut self) -> std::result::Result<UploadStats, Failure> {
        match *self {}
    }
}

pub(crate) fn rope_append(
    _projected: [&Tensor; 3],
    _angles: [&Tensor; 2],
    _cache: [&Tensor; 2],
    _shape: AttentionShape,
    _position: &Tensor,
    _interleaved: bool,
) -> Result<Tensor> {
    bail!("this worker was built without CUDA")
}

pub(crate) fn attend(
    _query: &Tensor,
    _cache: [&Tensor; 2],
    _shape: AttentionShape,
    _position: &Tensor,
    _window: Option<usize>,
) -> Result<Tensor> {
    bail!("this worker was built without CUDA")
}
