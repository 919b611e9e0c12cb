//! The plan of a load: compares what the config calls for with what the files hold.

use super::job::{FormRule, Job};
use super::left_over::left_over;
use super::source_names::file_list;
use crate::failures;
use crate::formats::{Format, Opened, Source};
use modelgate_model::{Config, tensors};
use modelgate_protocol::{Failure, FailureKind, Omitted, Scheme};
use std::collections::HashMap;

/// The plan of a load: every needed tensor and the stored one that it is made of.
pub(crate) struct Plan<'a> {
    pub(super) source: &'a Source,
    pub(super) jobs: Vec<Job<'a>>,
    pub(super) omitted: Vec<Omitted>,
}

impl<'a> Plan<'a> {
    /// Plans the load of a model, without reading a weight.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or left over, or the scheme is not one of the format's.
    pub(crate) fn new(
        format: &dyn Format,
        opened: &'a Opened,
        scheme: Scheme,
        on_device: bool,
    ) -> Result<Plan<'a>, Failure> {
        let Opened { source, config, .. } = opened;
        refuse_absurd(source, config)?;
        format.refuse_scheme(scheme)?;
        let rule = FormRule { conversion: format.conversion(), scheme, on_device };
        let mut jobs: Vec<Job> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for needed in tensors(config) {
            let stored = format.stored(source, config, &needed);
            match known.get(&stored.name) {
                Some(index) => jobs[*index].needed.push(needed.name),
                None => {
                    known.insert(stored.name.clone(), jobs.len());
                    jobs.push(Job::new(source, needed.name, stored, rule)?);
                }
            }
        }
        for stored in format.additional(source, config) {
            jobs.push(Job::new(source, stored.name.clone(), stored, rule)?);
        }
        let omitted = left_over(source, config, &jobs)?;
        Ok(Plan { source, jobs, omitted })
    }

    /// Returns the number of weights.
    pub(crate) fn parameters(&self) -> u64 {
        let elements = |job: &Job| job.tensor.shape.iter().map(|size| *size as u64).product();
        self.jobs.iter().map(|job| -> u64 { elements(job) }).sum()
    }
}

/// Refuses a config of more layers than there are tensors, before its tensors are listed.
fn refuse_absurd(source: &Source, config: &Config) -> Result<(), Failure> {
    if config.layers <= source.tensors.len() {
        return Ok(());
    }
    Err(failures::load(
        FailureKind::TensorMissing,
        format!(
            "the config requires {} layers, but {} contain {} tensors",
            config.layers,
            file_list(source),
            source.tensors.len()
        ),
        "download the model again: config and weights are not of the same model",
    ))
}
