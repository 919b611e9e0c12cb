//! Stands in for a CUDA device in a build without CUDA: it cannot be opened, so nothing here runs.

use super::{Copied, Heads, Region};
use crate::synthetic::BlockRecipe;
use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor, bail};
use modelgate_protocol::{Ceiling, DType, DeviceSeen, Failure, FailureKind, PoolMemory, Stage};
use std::sync::Arc;

/// A CUDA device, of which a build without CUDA has none.
#[derive(Debug, Clone)]
pub(crate) enum Gpu {}

/// Page-locked buffers, of which a build without CUDA has none.
pub(crate) enum Staging {}

/// The compute capability that the kernels were built for.
pub(crate) fn compute_capability() -> Option<String> {
    None
}

/// The CUDA version that they were built with.
pub(crate) fn cuda_version() -> Option<String> {
    None
}

/// Recorded launches, of which a build without CUDA has none.
pub(crate) enum Graph {}

impl Graph {
    pub(crate) fn record(_: &Device, _: impl Fn() -> Result<()>) -> Result<Option<Graph>> {
        bail!("this build has no CUDA")
    }

    pub(crate) fn launch(&self) -> Result<()> {
        match *self {}
    }
}

pub(crate) fn write_number(_: &Tensor, _: u32) -> Result<()> {
    bail!("this build has no CUDA")
}

impl Gpu {
    /// Says that this build has no CUDA.
    pub(crate) fn open(ordinal: u32, _limit: Option<u64>) -> std::result::Result<Gpu, Failure> {
        Err(Failure::new(
            Stage::Start,
            FailureKind::NoDevice,
            format!("cuda:{ordinal} is asked for; this worker was built without CUDA"),
            "build the worker with CUDA, or set device = \"cpu\"",
        ))
    }

    pub(crate) fn device(&self) -> &Device {
        match *self {}
    }

    pub(crate) fn load_kernels(&self) -> std::result::Result<(), Failure> {
        match *self {}
    }

    pub(crate) fn prove(&self, _dtypes: &[DType]) -> std::result::Result<(), Failure> {
        match *self {}
    }

    pub(crate) fn seen(&self) -> DeviceSeen {
        match *self {}
    }

    pub(crate) fn memory(&self) -> PoolMemory {
        match *self {}
    }

    pub(crate) fn synchronize(&self, _: Stage) -> std::result::Result<(), Failure> {
        match *self {}
    }

    pub(crate) fn ceilings(&self) -> std::result::Result<Vec<Ceiling>, Failure> {
        match *self {}
    }

    pub(crate) fn blocks(&self, _: &DType, _: &[usize]) -> Result<(Arc<QTensor>, Region)> {
        match *self {}
    }

    pub(crate) fn values(&self, _: &DType, _: &[usize]) -> Result<(Tensor, Region)> {
        match *self {}
    }

    pub(crate) fn random_blocks(&self, _: Region, _: &BlockRecipe, _seed: u64) -> Result<()> {
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

    pub(crate) fn finish(&mut self) -> std::result::Result<Copied, Failure> {
        match *self {}
    }
}

pub(crate) fn rope_append(
    _projected: [&Tensor; 3],
    _angles: [&Tensor; 2],
    _cache: [&Tensor; 2],
    _sizes: Heads,
    _position: &Tensor,
    _interleaved: bool,
) -> Result<Tensor> {
    bail!("this build has no CUDA")
}

pub(crate) fn attend(
    _query: &Tensor,
    _cache: [&Tensor; 2],
    _sizes: Heads,
    _position: &Tensor,
    _window: Option<usize>,
) -> Result<Tensor> {
    bail!("this build has no CUDA")
}
