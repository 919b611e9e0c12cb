//! The prediction of a load, refined with the reports of the worker: the config, if only the worker
//! could read it, and the memory of each device before the first weight.

use crate::admission::{Admission, DeviceCapacity, LoadSpec, Prediction, Refusal, predict};
use crate::plan::ModelJob;
use crate::reportable::{BoxedReportable, Reportable};
use crate::supervise::Gpus;
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Device, DeviceRecord, Event, FailureKind, Stage};

/// The known facts about a load, from which its memory is predicted.
pub(super) struct Forecast<'a> {
    /// The job of the model.
    pub(super) job: &'a ModelJob,
    /// The limits that decide whether the load is admitted.
    pub(super) admission: &'a Admission,
    /// The number of cores that the worker may use.
    pub(super) cores: u64,
    /// The requested devices.
    pub(super) devices: &'a [Device],
    /// The GPUs among `devices`, with their memory in use before the start.
    pub(super) gpus: &'a Gpus,
    /// The maximum bytes that the worker may use on each GPU. `None` without a limit.
    pub(super) limit: Option<u64>,
    /// The size in bytes of files whose blocks are not converted. `None` if the config is known
    /// from the files.
    pub(super) file_bytes: Option<u64>,
    /// The load. `None` until the config is known.
    pub(super) spec: Option<LoadSpec>,
    /// The opened devices, in the order of `gpus`. `None` until the worker opens the device.
    pub(super) capacities: Vec<Option<DeviceCapacity>>,
}

impl Forecast<'_> {
    /// Adds the facts of an event of the worker, and admits the load again.
    ///
    /// # Errors
    /// The model differs from the expected one, or does not fit.
    pub(super) fn observe(&mut self, event: &Event) -> Result<(), BoxedReportable> {
        match event {
            Event::Model { config: Some(text), .. } if self.spec.is_none() => {
                let config = Config::from_json(text).map_err(ReportedConfigError)?;
                self.spec = Some(self.job.load_spec(config, self.devices, self.file_bytes));
                Ok(self.admit()?)
            }
            Event::Device(opened) => {
                self.record_baseline(opened);
                Ok(self.admit()?)
            }
            _ => Ok(()),
        }
    }

    /// Returns the prediction (`None` until the config is known), with the baselines of the devices
    /// if all of them are known.
    pub(super) fn prediction(&self) -> Option<Prediction> {
        let prediction = predict(self.spec.as_ref()?).with_cores(self.cores);
        let Some(capacities) = self.known_rooms() else {
            return Some(prediction);
        };
        let baselines = capacities.iter().filter_map(|capacity| capacity.baseline);
        Some(prediction.with_device_baseline(baselines.fold(0, u64::saturating_add)))
    }

    /// Records the baseline of a device. An unexpected device has no effect here: the code that records
    /// the event refuses it.
    fn record_baseline(&mut self, opened: &DeviceRecord) {
        let gpus = &self.gpus.assigned;
        let index = gpus.iter().position(|assigned| assigned.device == opened.device);
        if let Some(index) = index {
            let before = self.gpus.before[index].memory.used;
            self.capacities[index] = Some(DeviceCapacity {
                total: opened.total,
                others: before,
                limit: self.limit,
                baseline: Some(opened.own_baseline(before)),
            });
        }
    }

    /// Returns the free memory of all devices, once all are open. `None` without devices.
    fn known_rooms(&self) -> Option<Vec<DeviceCapacity>> {
        let capacities: Vec<DeviceCapacity> =
            self.capacities.iter().copied().collect::<Option<_>>()?;
        (!capacities.is_empty()).then_some(capacities)
    }

    /// Admits the load with the known facts. Does nothing until the config is known.
    fn admit(&self) -> Result<(), Refusal> {
        let Some(spec) = &self.spec else {
            return Ok(());
        };
        let capacities = self.known_rooms().unwrap_or_default();
        self.admission.admit(spec, &capacities)
    }
}

/// The error for a config that the worker reported and that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the worker reported a config that cannot be used: {0}")]
struct ReportedConfigError(#[source] ConfigError);

impl Reportable for ReportedConfigError {
    fn stage(&self) -> Stage {
        Stage::Load
    }

    fn kind(&self) -> FailureKind {
        FailureKind::Protocol
    }

    fn hint(&self) -> String {
        "report this defect of the engine".to_owned()
    }
}
