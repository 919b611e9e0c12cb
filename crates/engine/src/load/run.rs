//! Loads what a plan lists, on all cores.

use super::allocate::allocate;
use super::fill::{Loading, fill};
use super::inventory::inventory;
use super::job::{Form, Job};
use super::load_meter::LoadMeter;
use super::make_on_device::make_on_device;
use super::plan::Plan;
use super::staging_pool::StagingPool;
use super::target::Target;
use super::unusable::unusable;
use crate::compute_device::ComputeDevice;
use crate::events::Events;
use crate::failures;
use crate::weights::{Resident, WeightMap};
use modelgate_protocol::{DType, Event, Failure, FailureKind};
use rayon::prelude::*;

impl Plan<'_> {
    /// Loads everything to `device`, on all cores.
    ///
    /// # Errors
    /// A file cannot be read, a tensor cannot be used, or memory ran out.
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
        // kept until the copies are over, also if a tensor fails and its own handles are dropped
        let _kept: Vec<Resident> = targets.iter().flat_map(Target::residents).cloned().collect();
        let meter = LoadMeter::new(self.jobs.iter().map(|job| job.tensor.bytes).sum(), events);
        let staging = device.gpu().map(StagingPool::new);
        let loading = Loading { source: self.source, meter: &meter, staging: staging.as_ref() };
        // a pool of its own, whose threads free their buffers when the load is over
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|number| format!("load-{number}"))
            .build()
            .map_err(|error| {
                failures::load(FailureKind::Internal, error.to_string(), "try again")
            })?;
        let load = |(job, target): (&Job, Target)| {
            let filled = match (device, &job.form, target) {
                (ComputeDevice::Cuda(gpu), Form::Make, Target::Device(parts))
                    if job.tensor.dtype != DType::F32 =>
                {
                    make_on_device(gpu, job, parts, &meter)?
                }
                (_, form, target) => fill(&loading, &job.name, job.tensor, form, target)?,
            };
            let file = self.source.file_name(job.tensor);
            events(Event::Tensor(inventory(job, file, &filled)));
            match unusable(&job.name, file, job.placement.role, &filled) {
                Some(failure) => Err(failure),
                None => Ok(filled.residents),
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
        for (job, residents) in self.jobs.iter().zip(loaded) {
            weights.extend(job.needed.iter().cloned().zip(residents));
        }
        Ok(weights)
    }
}
