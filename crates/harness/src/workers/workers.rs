//! Selects the worker program of each model: the existing one for the CPU, and for a GPU a worker
//! with its compute capability, which is built if it does not exist.

use super::built::BuiltWorker;
use super::cuda_build::CudaBuild;
use super::engine::engine_of;
use super::error::WorkerError;
use super::locate::locate;
use crate::nvidia::{self, Assigned};
use crate::settings::WorkerSettings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A worker, or the reason why there is none. Several models may report the same reason.
type WorkerResult = Result<BuiltWorker, Arc<WorkerError>>;

/// The worker programs of a run.
#[derive(Debug)]
pub struct Workers {
    /// The worker that exists before the run.
    existing: WorkerResult,
    /// The workers for GPUs by compute capability, such as `9.0`, as far as the run needs them.
    cuda: BTreeMap<String, WorkerResult>,
}

impl Workers {
    /// Returns the existing worker for all models, without a build.
    pub fn existing(settings: &WorkerSettings) -> Workers {
        Workers {
            existing: locate(settings).map(BuiltWorker::at).map_err(Arc::new),
            cuda: BTreeMap::new(),
        }
    }

    /// Returns the workers for models on GPUs. `assigned` has the first GPU of each model. A worker
    /// that the user names is used for all models; otherwise, missing workers are built with
    /// `build`.
    pub fn prepare(
        assigned: impl IntoIterator<Item = Assigned>,
        settings: &WorkerSettings,
        build: &CudaBuild<'_>,
    ) -> Workers {
        let mut workers = Workers::existing(settings);
        if settings.named.is_some() {
            return workers;
        }
        for first in assigned {
            if build.interrupt.signal().is_none() {
                workers.prepare_for(&first, build);
            }
        }
        workers
    }

    /// Finds or builds a worker for this GPU, once for each compute capability.
    fn prepare_for(&mut self, assigned: &Assigned, build: &CudaBuild<'_>) {
        let capability = &assigned.gpu.compute_capability;
        if self.cuda.contains_key(capability) {
            return;
        }
        let worker = match unsuitability(&self.existing, assigned, build) {
            None => self.existing.clone(),
            Some(reason) => build.worker_for(&assigned.gpu, &reason).map_err(Arc::new),
        };
        self.cuda.insert(capability.clone(), worker);
    }

    /// Returns the worker for a model on the GPUs `assigned`. The first GPU decides the compute
    /// capability.
    ///
    /// # Errors
    /// There is no worker, with the reason.
    pub fn for_gpus(&self, assigned: &[Assigned]) -> WorkerResult {
        let first = assigned.first();
        first
            .and_then(|Assigned { gpu, .. }| self.cuda.get(&gpu.compute_capability))
            .unwrap_or(&self.existing)
            .clone()
    }
}

/// Returns why the existing worker cannot run on this GPU. `None` if it can.
fn unsuitability(
    existing: &WorkerResult,
    assigned: &Assigned,
    build: &CudaBuild<'_>,
) -> Option<String> {
    let built = match existing {
        Ok(built) => built,
        Err(error) => return Some(error.to_string()),
    };
    let engine = match engine_of(built, build.inherited, build.interrupt) {
        Ok(engine) => engine,
        Err(error) => return Some(error.to_string()),
    };
    let unsuitable = nvidia::check_worker(&engine, &built.program, std::slice::from_ref(assigned));
    unsuitable.err().map(|error| error.to_string())
}
