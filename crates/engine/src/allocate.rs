//! Memory of a device for every tensor of a load, taken before the first is read, so that what does
//! not fit shows at once.
//!
//! The experts of a layer are made one tensor, as the fused kernels want them, whether the files
//! have them merged or apart.

use crate::device_matrix::{DeviceMatrix, fused_experts};
use crate::fail;
use crate::fill::Target;
use crate::gpu::{Gpu, Region};
use crate::load::Job;
use crate::storage::Resident;
use candle_core::{Result, bail};
use modelgate_protocol::{DType, Failure, Stage};
use std::collections::BTreeMap;

/// One matrix: that of a job, by the indices of both.
type Slot = (usize, usize);

/// A target for each job, in order.
pub(crate) fn allocate(gpu: &Gpu, jobs: &[Job]) -> std::result::Result<Vec<Target>, Failure> {
    take(gpu, jobs).map_err(fail::internal(Stage::Load)).and_then(|targets| {
        // the memory is zeroed on a stream of its own, before others write there
        gpu.synchronize(Stage::Load).map(|()| targets)
    })
}

fn take(gpu: &Gpu, jobs: &[Job]) -> Result<Vec<Target>> {
    let mut places: BTreeMap<Slot, (Region, Resident)> = BTreeMap::new();
    for (dtype, slots) in groups(jobs) {
        let (job, _) = slots[0];
        let [.., rows, columns] = *jobs[job].tensor.shape.as_slice() else {
            bail!("experts of shape {:?}", jobs[job].tensor.shape)
        };
        let (tensor, whole) = gpu.blocks(dtype, &[slots.len(), rows, columns])?;
        let bytes = whole.bytes / slots.len() as u64;
        for (number, slot) in (0..).zip(slots) {
            let Some(region) = whole.part(number * bytes, bytes) else {
                bail!("expert {number} is outside the memory of all")
            };
            let matrix = DeviceMatrix::new(gpu, tensor.clone(), region);
            places.insert(slot, (region, Resident::Device(matrix)));
        }
    }
    jobs.iter()
        .enumerate()
        .map(|(index, job)| {
            let parts = (0..job.needed.len()).map(|matrix| match places.remove(&(index, matrix)) {
                Some(place) => Ok(place),
                None => alone(gpu, job),
            });
            parts.collect::<Result<_>>().map(Target::Device)
        })
        .collect()
}

/// Memory of its own for one matrix of a job.
fn alone(gpu: &Gpu, job: &Job) -> Result<(Region, Resident)> {
    let shape = match job.tensor.shape.as_slice() {
        [_, matrix @ ..] if matrix.len() == 2 => matrix,
        shape => shape,
    };
    if job.dtype().is_quantized() {
        let (tensor, region) = gpu.blocks(job.dtype(), shape)?;
        return Ok((region, Resident::Device(DeviceMatrix::new(gpu, tensor, region))));
    }
    let (tensor, region) = gpu.values(job.dtype(), shape)?;
    Ok((region, Resident::Float(tensor)))
}

/// The experts' matrices that are to be one tensor, each group in the order of the experts.
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
    fused_experts(job.dtype(), job.tensor.shape.last().copied().unwrap_or(0))
}

/// What the experts of a layer have in common in the name of one matrix, and the expert's number.
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
