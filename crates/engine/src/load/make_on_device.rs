//! Makes the weights of a synthetic model on a device.

use super::filled::Filled;
use super::job::Job;
use super::load_meter::LoadMeter;
use crate::cuda::{Gpu, Region};
use crate::failures;
use crate::weights::Resident;
use crate::weights::random::{self, BlockRecipe};
use modelgate_protocol::{Failure, Stage};

/// Makes the blocks or values of a tensor in the device memory that is allocated for them.
pub(super) fn make_on_device(
    gpu: &Gpu,
    job: &Job,
    parts: Vec<(Region, Resident)>,
    meter: &LoadMeter,
) -> Result<Filled, Failure> {
    let columns = job.tensor.shape.last().copied().unwrap_or(1);
    let deviation = random::deviation(job.placement.role, columns);
    let seed = random::seed(&job.name);
    let recipe = BlockRecipe::new(&job.tensor.dtype, deviation);
    let mut residents = Vec::new();
    for (region, resident) in parts {
        match &recipe {
            Some(recipe) => gpu.random_blocks(region, recipe.pattern(), recipe.random(), seed),
            None => gpu.random_bf16(region, random::uniform_scale(deviation), seed),
        }
        .map_err(failures::internal(Stage::Load))?;
        meter.advance(region.bytes);
        residents.push(resident);
    }
    Ok(Filled::made(residents))
}
