//! Which worker program runs which model: the one at hand for the CPU, and for a GPU one that was
//! built for its compute capability, which is built here where there is none.

use super::built::BuiltWorker;
use super::cuda_build::CudaBuild;
use super::engine::engine_of;
use super::error::WorkerError;
use super::locate::locate;
use crate::nvidia::{self, Assigned};
use crate::settings::WorkerSettings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A worker, or why there is none, which several models may have to report.
type WorkerResult = Result<BuiltWorker, Arc<WorkerError>>;

/// The worker programs of a run.
#[derive(Debug)]
pub struct Workers {
    at_hand: WorkerResult,
    /// By compute capability, such as `9.0`; those that the run needs.
    cuda: BTreeMap<String, WorkerResult>,
}

impl Workers {
    /// Returns the worker at hand, to be used for every model.
    pub fn at_hand(settings: &WorkerSettings) -> Workers {
        Workers {
            at_hand: locate(settings).map(BuiltWorker::at).map_err(Arc::new),
            cuda: BTreeMap::new(),
        }
    }

    /// Returns the workers that models on the GPUs `assigned` need, each the first GPU of a model. A
    /// worker that the user names is used for all of them; otherwise what is missing is built now, by
    /// `build`.
    pub fn prepare(
        assigned: impl IntoIterator<Item = Assigned>,
        settings: &WorkerSettings,
        build: &CudaBuild<'_>,
    ) -> Workers {
        let mut workers = Workers::at_hand(settings);
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

    /// Finds or builds a worker for that GPU, once for each compute capability.
    fn prepare_for(&mut self, assigned: &Assigned, build: &CudaBuild<'_>) {
        let capability = &assigned.gpu.compute_capability;
        if self.cuda.contains_key(capability) {
            return;
        }
        let worker = match unfit(&self.at_hand, assigned, build) {
            None => self.at_hand.clone(),
            Some(why) => build.worker_for(&assigned.gpu, &why).map_err(Arc::new),
        };
        self.cuda.insert(capability.clone(), worker);
    }

    /// Returns the worker for a model that lives on the GPUs `assigned`: the first of them decides what
    /// it must be built for.
    ///
    /// # Errors
    /// There is none, and why.
    pub fn for_gpus(&self, assigned: &[Assigned]) -> WorkerResult {
        let first = assigned.first();
        first
            .and_then(|Assigned { gpu, .. }| self.cuda.get(&gpu.compute_capability))
            .unwrap_or(&self.at_hand)
            .clone()
    }
}

/// Returns why the worker at hand cannot run on that GPU; `None` if it can.
fn unfit(at_hand: &WorkerResult, assigned: &Assigned, build: &CudaBuild<'_>) -> Option<String> {
    let built = match at_hand {
        Ok(built) => built,
        Err(error) => return Some(error.to_string()),
    };
    let engine = match engine_of(built, build.inherited, build.interrupt) {
        Ok(engine) => engine,
        Err(error) => return Some(error.to_string()),
    };
    let suits = nvidia::suits(&engine, &built.program, std::slice::from_ref(assigned));
    suits.err().map(|error| error.to_string())
}
