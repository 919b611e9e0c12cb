//! Loads the tensors of a plan, on all CPU cores.

use super::allocate::allocate;
use super::inventory::inventory;
use super::job::{Form, Job};
use super::load_meter::LoadMeter;
use super::load_tensor::{LoadContext, load_tensor};
use super::plan::Plan;
use super::random_on_device::fill_with_random_values;
use super::staging_pool::StagingPool;
use super::target::Target;
use super::unusable::unusable;
use crate::compute_device::ComputeDevice;
use crate::events::Events;
use crate::failures;
use crate::weights::{ResidentTensor, WeightMap};
use modelgate_protocol::{DType, Event, Failure, FailureKind};
use rayon::prelude::*;

impl Plan<'_> {
    /// Loads all tensors onto `device`, using all CPU cores, and reports each of them to `events`.
    ///
    /// # Errors
    /// A file cannot be read, a tensor is unusable, or there is not enough memory.
    pub(crate) fn load(
        &self,
        device: &ComputeDevice,
        events: Events,
    ) -> Result<WeightMap, Failure> {
        for omitted in &self.omitted {
            events(Event::Omitted(omitted.clone()));
        }
        let targets: Vec<Target> = match device {
            ComputeDevice::Cpu => self.jobs.iter().map(|_| Target::Host).collect(),
            ComputeDevice::Cuda(gpu) => allocate(gpu, &self.jobs)?,
        };
        // keeps the memory until all copies are complete, even if a tensor fails and its handles
        // are dropped
        let _memory: Vec<ResidentTensor> =
            targets.iter().flat_map(Target::matrices).cloned().collect();
        let meter = LoadMeter::new(self.jobs.iter().map(|job| job.tensor.bytes).sum(), events);
        let staging = device.gpu().map(StagingPool::new);
        let context = LoadContext { source: self.source, meter: &meter, staging: staging.as_ref() };
        // a separate pool, whose threads free their buffers when the load is complete
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|number| format!("load-{number}"))
            .build()
            .map_err(|error| {
                failures::load(
                    FailureKind::Internal,
                    format!("the threads of the load cannot be started: {error}"),
                    "end other processes on the host, and start the load again",
                )
            })?;
        let load = |(job, target): (&Job, Target)| {
            let loaded = match (device, &job.form, target) {
                (ComputeDevice::Cuda(gpu), Form::Random, Target::Device(parts))
                    if job.tensor.dtype != DType::F32 =>
                {
                    fill_with_random_values(gpu, job, parts, &meter)?
                }
                (_, form, target) => load_tensor(&context, &job.name, job.tensor, form, target)?,
            };
            let file = self.source.file_name(job.tensor);
            events(Event::Tensor(inventory(job, file, &loaded)));
            match unusable(&job.tensor.label(&job.name), file, job.placement.role, &loaded) {
                Some(failure) => Err(failure),
                None => Ok(loaded.matrices),
            }
        };
        let loaded: Result<Vec<_>, Failure> = threads
            .install(|| self.jobs.par_iter().zip(targets).with_max_len(1).map(load).collect());
        let loaded = loaded?;
        if let Some(staging) = staging {
            staging.finish(&meter.copy)?;
        }
        meter.finish(events);
        let mut weights = WeightMap::new();
        for (job, matrices) in self.jobs.iter().zip(loaded) {
            weights.extend(job.needed.iter().cloned().zip(matrices));
        }
        Ok(weights)
    }
}
