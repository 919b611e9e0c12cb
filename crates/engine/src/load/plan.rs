//! The plan of a load: compares the tensors that the config requires with the tensors in the files.

use super::job::{FormRule, Job};
use super::left_over::left_over;
use super::source_names::file_list;
use crate::failures;
use crate::formats::{Format, OpenedModel, Source};
use modelgate_model::{Config, tensors};
use modelgate_protocol::{Failure, FailureKind, Omitted, Scheme};
use std::collections::HashMap;

/// The plan of a load: a job for each tensor in the files that is loaded, and the omitted tensors.
pub(crate) struct Plan<'a> {
    pub(super) source: &'a Source,
    pub(super) jobs: Vec<Job<'a>>,
    pub(super) omitted: Vec<Omitted>,
}

impl<'a> Plan<'a> {
    /// Plans the load of a model without reading weights.
    ///
    /// # Errors
    /// A tensor is missing, has a wrong shape or type, or is left over, or the format does not
    /// support the scheme.
    pub(crate) fn new(
        format: &dyn Format,
        opened: &'a OpenedModel,
        scheme: Scheme,
        on_device: bool,
    ) -> Result<Plan<'a>, Failure> {
        let OpenedModel { source, config, .. } = opened;
        refuse_more_layers_than_tensors(source, config)?;
        format.refuse_scheme(scheme)?;
        let rule = FormRule { conversion: format.conversion(), scheme, on_device };
        let mut jobs: Vec<Job> = Vec::new();
        let mut job_by_name: HashMap<String, usize> = HashMap::new();
        for needed in tensors(config) {
            let stored = format.stored_tensor(source, config, &needed);
            match job_by_name.get(&stored.name) {
                Some(index) => jobs[*index].needed.push(needed.name),
                None => {
                    job_by_name.insert(stored.name.clone(), jobs.len());
                    jobs.push(Job::new(source, needed.name, stored, rule)?);
                }
            }
        }
        for stored in format.additional_tensors(source, config) {
            jobs.push(Job::new(source, stored.name.clone(), stored, rule)?);
        }
        let omitted = left_over(source, config, &jobs)?;
        Ok(Plan { source, jobs, omitted })
    }

    /// Returns the number of weights (parameters) in all tensors that are loaded.
    pub(crate) fn parameters(&self) -> u64 {
        let elements = |job: &Job| job.tensor.shape.iter().map(|size| *size as u64).product();
        self.jobs.iter().map(|job| -> u64 { elements(job) }).sum()
    }
}

/// Refuses a config with more layers than tensors in the files, before the tensors of the config
/// are listed, because the list could exceed the memory.
///
/// # Errors
/// The config has more layers than the files have tensors.
fn refuse_more_layers_than_tensors(source: &Source, config: &Config) -> Result<(), Failure> {
    if config.layers <= source.tensors.len() {
        return Ok(());
    }
    Err(failures::load(
        FailureKind::TensorMissing,
        format!(
            "the config requires {} layers: the files ({}) contain {} tensors",
            config.layers,
            file_list(source),
            source.tensors.len()
        ),
        "use the config of the checkpoint that contains the weights",
    ))
}
