//! Which worker program runs which model: the one at hand for the CPU, and for a GPU one that was
//! built for its compute capability, which is built here where there is none.

use crate::cuda_build::CudaBuild;
use crate::env::Environment;
use crate::gpu::{self, Assigned};
use crate::host::Host;
use crate::manifest::Model;
use crate::measure;
use crate::worker::{self, BuiltWorker, engine_of};
use modelgate_protocol::Failure;
use std::collections::BTreeMap;

/// The worker programs of a run.
#[derive(Debug)]
pub struct Workers {
    at_hand: Result<BuiltWorker, Failure>,
    /// By compute capability, such as `9.0`; those that the run needs.
    cuda: BTreeMap<String, Result<BuiltWorker, Failure>>,
}

impl Workers {
    /// The worker at hand for everything.
    pub fn at_hand(environment: &Environment) -> Workers {
        let at_hand = worker::locate(environment).map(BuiltWorker::at);
        Workers { at_hand, cuda: BTreeMap::new() }
    }

    /// The workers that `models` need on `host`. A worker that the user names is the user's word
    /// and stays; otherwise what is missing is built now, by `build`.
    pub fn prepare<'a>(
        models: impl Iterator<Item = &'a Model>,
        environment: &Environment,
        host: &Host,
        build: &CudaBuild<'_>,
    ) -> Workers {
        let mut workers = Workers::at_hand(environment);
        if environment.worker.is_some() {
            return workers;
        }
        for model in models {
            // a model whose devices cannot be had fails by itself, with that reason
            let assigned = measure::assigned(model, environment, host).unwrap_or_default();
            if let Some(first) = assigned.first()
                && build.interrupt.signal().is_none()
            {
                workers.prepare_for(first, build);
            }
        }
        workers
    }

    /// Makes sure of a worker for that GPU, once for each compute capability.
    fn prepare_for(&mut self, assigned: &Assigned, build: &CudaBuild<'_>) {
        let capability = &assigned.gpu.compute_capability;
        if self.cuda.contains_key(capability) {
            return;
        }
        let worker = match unfit(&self.at_hand, assigned) {
            None => self.at_hand.clone(),
            Some(why) => build.worker_for(&assigned.gpu, &why),
        };
        self.cuda.insert(capability.clone(), worker);
    }

    /// The worker for a model that lives on the GPUs `assigned`: the first of them decides what it
    /// must be built for.
    ///
    /// # Errors
    /// There is none, and why.
    pub fn for_gpus(&self, assigned: &[Assigned]) -> Result<BuiltWorker, Failure> {
        let first = assigned.first();
        first
            .and_then(|Assigned { gpu, .. }| self.cuda.get(&gpu.compute_capability))
            .unwrap_or(&self.at_hand)
            .clone()
    }
}

/// Why the worker at hand cannot run on that GPU; none where it can.
fn unfit(at_hand: &Result<BuiltWorker, Failure>, assigned: &Assigned) -> Option<String> {
    let suits = |built: &BuiltWorker| {
        gpu::suits(&engine_of(built)?, &built.program, std::slice::from_ref(assigned))
    };
    let suits = at_hand.as_ref().map_err(Failure::clone).and_then(suits);
    suits.err().map(|failure| failure.message)
}
