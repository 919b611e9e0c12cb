//! The inventory of loaded tensors, which the worker reports.

use super::job::Job;
use super::loaded_tensor::LoadedTensor;
use crate::weights::ResidentTensor;
use modelgate_protocol::{DType, Device, Finite, Tensor};

/// Describes a loaded tensor for the report; `file` is the name of its file.
pub(super) fn inventory(job: &Job, file: &str, loaded: &LoadedTensor) -> Tensor {
    let first = loaded.matrices.first();
    Tensor {
        name: job.name.clone(),
        file: file.to_owned(),
        shape: job.tensor.shape.iter().map(|size| *size as u64).collect(),
        source_dtype: job.tensor.dtype.clone(),
        dtype: first.map_or(DType::Other("none".into()), ResidentTensor::dtype),
        bytes: loaded.matrices.iter().map(ResidentTensor::bytes).sum(),
        device: first.map_or(Device::Cpu, ResidentTensor::device),
        nmse: loaded.nmse.and_then(Finite::new),
        worst_nmse: loaded.worst_nmse.and_then(Finite::new),
        non_finite: loaded.non_finite,
        role: job.placement.role,
        reason: job.placement.reason.clone(),
    }
}
