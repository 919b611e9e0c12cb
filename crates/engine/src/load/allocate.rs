//! Allocates device memory for every tensor of a load before the first is read, so that a model that
//! does not fit fails at once.
//!
//! The experts of a layer become one tensor, as the fused kernels require, whether the files have them
//! merged or apart.

use super::job::Job;
use super::target::Target;
use crate::cuda::{Gpu, Region};
use crate::failures;
use crate::weights::{DeviceMatrix, Resident, allocate_blocks, has_fused_kernel};
use candle_core::{Result, bail};
use modelgate_protocol::{DType, Failure, Stage};
use std::collections::BTreeMap;

/// One matrix, by the index of its job and its own index in the job.
type Slot = (usize, usize);

/// Allocates a target for each job, in order.
pub(super) fn allocate(gpu: &Gpu, jobs: &[Job]) -> std::result::Result<Vec<Target>, Failure> {
    targets(gpu, jobs).map_err(failures::internal(Stage::Load)).and_then(|targets| {
        // the memory is zeroed on the device's stream, before the copies write it on another
        gpu.synchronize(Stage::Load).map(|()| targets)
    })
}

fn targets(gpu: &Gpu, jobs: &[Job]) -> Result<Vec<Target>> {
    let mut experts: BTreeMap<Slot, (Region, Resident)> = BTreeMap::new();
    for (dtype, slots) in groups(jobs) {
        let (job, _) = slots[0];
        let [.., rows, columns] = *jobs[job].tensor.shape.as_slice() else {
            bail!("experts of shape {:?}", jobs[job].tensor.shape)
        };
        let (tensor, whole) = allocate_blocks(gpu, dtype, &[slots.len(), rows, columns])?;
        let bytes = whole.bytes / slots.len() as u64;
        for (number, slot) in (0..).zip(slots) {
            let Some(region) = whole.part(number * bytes, bytes) else {
                bail!("expert {number} is outside the memory of all")
            };
            let matrix = DeviceMatrix::new(gpu, tensor.clone(), region);
            experts.insert(slot, (region, Resident::Device(matrix)));
        }
    }
    jobs.iter()
        .enumerate()
        .map(|(index, job)| {
            let parts =
                (0..job.needed.len()).map(|matrix| match experts.remove(&(index, matrix)) {
                    Some(expert) => Ok(expert),
                    None => single(gpu, job),
                });
            parts.collect::<Result<_>>().map(Target::Device)
        })
        .collect()
}

/// Allocates memory for one matrix of a job.
fn single(gpu: &Gpu, job: &Job) -> Result<(Region, Resident)> {
    let shape = match job.tensor.shape.as_slice() {
        [_, matrix @ ..] if matrix.len() == 2 => matrix,
        shape => shape,
    };
    if job.dtype().is_quantized() {
        let (tensor, region) = allocate_blocks(gpu, job.dtype(), shape)?;
        return Ok((region, Resident::Device(DeviceMatrix::new(gpu, tensor, region))));
    }
    let (tensor, region) = gpu.values(job.dtype(), shape)?;
    Ok((region, Resident::Float(tensor)))
}

/// Returns the experts' matrices that become one tensor, each group in the order of the experts.
fn groups<'a>(jobs: &'a [Job]) -> Vec<(&'a DType, Vec<Slot>)> {
    let mut groups: BTreeMap<String, Vec<(usize, Slot)>> = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate().filter(|(_, job)| is_fused(job)) {
        for (matrix, name) in job.needed.iter().enumerate() {
            if let Some((group, expert)) = expert(name) {
                groups.entry(group).or_default().push((expert, (index, matrix)));
            }
        }
    }
    let one_tensor = |mut experts: Vec<(usize, Slot)>| {
        experts.sort_unstable();
        let first = jobs[experts.first()?.1.0].dtype();
        let same = experts.iter().all(|(_, (job, _))| jobs[*job].dtype() == first);
        let whole = experts.iter().enumerate().all(|(number, (expert, _))| number == *expert);
        (same && whole).then(|| (first, experts.into_iter().map(|(_, slot)| slot).collect()))
    };
    groups.into_values().filter_map(one_tensor).collect()
}

fn is_fused(job: &Job) -> bool {
    has_fused_kernel(job.dtype(), job.tensor.shape.last().copied().unwrap_or(0))
}

/// Splits the name of an expert's matrix into what all experts of the layer share and the expert's
/// number.
fn expert(name: &str) -> Option<(String, usize)> {
    let (layer, rest) = name.split_once(".experts.")?;
    let (number, matrix) = rest.split_once('.')?;
    Some((format!("{layer}.{matrix}"), number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::expert;

    #[test]
    fn experts_are_told_by_their_names() {
        let name = "model.layers.3.block_sparse_moe.experts.7.w1.weight";
        let group = "model.layers.3.block_sparse_moe.w1.weight";
        assert_eq!(expert(name), Some((group.to_owned(), 7)));
        assert_eq!(expert("model.layers.3.mlp.up_proj.weight"), None);
    }
}
