//! The inventory: every tensor as it is resident.

use super::filled::Filled;
use super::job::Job;
use crate::weights::Resident;
use modelgate_protocol::{DType, Device, Finite, Tensor};

/// Describes a loaded tensor.
pub(super) fn inventory(job: &Job, file: &str, filled: &Filled) -> Tensor {
    let first = filled.residents.first();
    Tensor {
        name: job.name.clone(),
        file: file.to_owned(),
        shape: job.tensor.shape.iter().map(|size| *size as u64).collect(),
        source_dtype: job.tensor.dtype.clone(),
        dtype: first.map_or(DType::Other("none".into()), Resident::dtype),
        bytes: filled.residents.iter().map(Resident::bytes).sum(),
        device: first.map_or(Device::Cpu, Resident::device),
        nmse: filled.nmse.and_then(Finite::new),
        worst_nmse: filled.worst_nmse.and_then(Finite::new),
        nonfinite: filled.nonfinite,
        role: job.placement.role,
        reason: job.placement.reason.clone(),
    }
}
