//! Generates the random weights of a synthetic model on a device.

use super::job::Job;
use super::load_meter::LoadMeter;
use super::loaded_tensor::LoadedTensor;
use crate::cuda::{Gpu, Region};
use crate::failures;
use crate::weights::ResidentTensor;
use crate::weights::random::{self, BlockRecipe};
use modelgate_protocol::{Failure, Stage};

/// Generates the random blocks or values of a tensor in the device memory that is allocated for it.
///
/// # Errors
/// The driver fails.
pub(super) fn fill_with_random_values(
    gpu: &Gpu,
    job: &Job,
    parts: Vec<(Region, ResidentTensor)>,
    meter: &LoadMeter,
) -> Result<LoadedTensor, Failure> {
    let columns = job.tensor.shape.last().copied().unwrap_or(1);
    let deviation = random::deviation(job.placement.role, columns);
    let seed = random::seed(&job.name);
    let recipe = BlockRecipe::new(&job.tensor.dtype, deviation);
    let mut matrices = Vec::new();
    for (region, matrix) in parts {
        match &recipe {
            Some(recipe) => gpu.random_blocks(region, recipe.pattern(), recipe.random(), seed),
            None => gpu.random_bf16(region, random::uniform_scale(deviation), seed),
        }
        .map_err(failures::internal(Stage::Load))?;
        meter.advance(region.bytes);
        matrices.push(matrix);
    }
    Ok(LoadedTensor::random(matrices))
}
