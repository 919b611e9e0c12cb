//! Allocates device memory for all tensors of a load before the first is read, so that a model that
//! does not fit fails immediately.
//!
//! The matrices of the experts of a layer are allocated as one tensor, as the fused kernels
//! require, even if the files contain them as separate tensors.

use super::job::Job;
use super::target::Target;
use crate::cuda::{Gpu, Region};
use crate::failures;
use crate::weights::{DeviceMatrix, ResidentTensor, allocate_blocks, has_fused_kernel};
use candle_core::{Result, bail};
use modelgate_protocol::{DType, Failure, Stage};
use std::collections::BTreeMap;

/// A matrix, as the index of its job and its index in the job.
type MatrixIndex = (usize, usize);

/// Allocates a target for each job, in the order of the jobs.
///
/// # Errors
/// The device does not have enough memory, or the driver fails.
pub(super) fn allocate(gpu: &Gpu, jobs: &[Job]) -> std::result::Result<Vec<Target>, Failure> {
    targets(gpu, jobs).map_err(failures::internal(Stage::Load)).and_then(|targets| {
        // the memory is zeroed on the stream of the device, and copies write it on another stream
        gpu.synchronize(Stage::Load).map(|()| targets)
    })
}

/// Allocates the merged experts first, then a target for each job.
fn targets(gpu: &Gpu, jobs: &[Job]) -> Result<Vec<Target>> {
    let mut experts: BTreeMap<MatrixIndex, (Region, ResidentTensor)> = BTreeMap::new();
    for (dtype, matrices) in expert_groups(jobs) {
        let (job, _) = matrices[0];
        let [.., rows, columns] = *jobs[job].tensor.shape.as_slice() else {
            bail!(
                "experts: expected two or more dimensions, found shape {:?}",
                jobs[job].tensor.shape
            )
        };
        let (tensor, merged) = allocate_blocks(gpu, dtype, &[matrices.len(), rows, columns])?;
        let bytes = merged.bytes / matrices.len() as u64;
        for (number, index) in (0..).zip(matrices) {
            let Some(region) = merged.part(number * bytes, bytes) else {
                bail!("expert {number}: the region is outside the allocation of the experts")
            };
            let matrix = DeviceMatrix::new(gpu, tensor.clone(), region);
            experts.insert(index, (region, ResidentTensor::Device(matrix)));
        }
    }
    jobs.iter()
        .enumerate()
        .map(|(index, job)| {
            let parts =
                (0..job.needed.len()).map(|matrix| match experts.remove(&(index, matrix)) {
                    Some(expert) => Ok(expert),
                    None => allocate_matrix(gpu, job),
                });
            parts.collect::<Result<_>>().map(Target::Device)
        })
        .collect()
}

/// Allocates memory for one matrix of a job.
fn allocate_matrix(gpu: &Gpu, job: &Job) -> Result<(Region, ResidentTensor)> {
    let shape = match job.tensor.shape.as_slice() {
        [_, matrix @ ..] if matrix.len() == 2 => matrix,
        shape => shape,
    };
    if job.dtype().is_quantized() {
        let (tensor, region) = allocate_blocks(gpu, job.dtype(), shape)?;
        return Ok((region, ResidentTensor::Device(DeviceMatrix::new(gpu, tensor, region))));
    }
    let (tensor, region) = gpu.values(job.dtype(), shape)?;
    Ok((region, ResidentTensor::Float(tensor)))
}

/// Returns the groups of expert matrices that become one tensor each, with their type. The matrices
/// of a group are in the order of the experts. Experts of different types, or with missing numbers,
/// stay separate.
fn expert_groups<'a>(jobs: &'a [Job]) -> Vec<(&'a DType, Vec<MatrixIndex>)> {
    let mut groups: BTreeMap<String, Vec<(usize, MatrixIndex)>> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate().filter(|(_, job)| is_fused(job)) {
        for (matrix, name) in job.needed.iter().enumerate() {
            if let Some((group, expert)) = parse_expert_name(name) {
                groups.entry(group).or_default().push((expert, (index, matrix)));
            }
        }
    }
    let merged = |mut experts: Vec<(usize, MatrixIndex)>| {
        experts.sort_unstable();
        let first = jobs[experts.first()?.1.0].dtype();
        let same_type = experts.iter().all(|(_, (job, _))| jobs[*job].dtype() == first);
        let complete = experts.iter().enumerate().all(|(number, (expert, _))| number == *expert);
        (same_type && complete)
            .then(|| (first, experts.into_iter().map(|(_, index)| index).collect()))
    };
    groups.into_values().filter_map(merged).collect()
}

/// Returns whether candle has a fused kernel for the type and row length of a job.
fn is_fused(job: &Job) -> bool {
    has_fused_kernel(job.dtype(), job.tensor.shape.last().copied().unwrap_or(0))
}

/// Splits the name of an expert's matrix into the name that all experts of the layer share and the
/// number of the expert; `None` if the name does not belong to an expert.
fn parse_expert_name(name: &str) -> Option<(String, usize)> {
    let (layer, rest) = name.split_once(".experts.")?;
    let (number, matrix) = rest.split_once('.')?;
    Some((format!("{layer}.{matrix}"), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse_expert_name;

    #[test]
    fn experts_are_recognised_by_their_names() {
        let name = "model.layers.3.block_sparse_moe.experts.7.w1.weight";
        let group = "model.layers.3.block_sparse_moe.w1.weight";
        assert_eq!(parse_expert_name(name), Some((group.to_owned(), 7)));
        assert_eq!(parse_expert_name("model.layers.3.mlp.up_proj.weight"), None);
    }
}
