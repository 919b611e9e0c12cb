//! The prediction of a load as it grows with what the worker reports: the config, if only the worker could
//! read it, and what it takes of each device before the first weight.

use crate::admission::{Admission, LoadSpec, Prediction, Refusal, Room, predict};
use crate::plan::ModelJob;
use crate::reportable::{BoxedReportable, Reportable};
use crate::supervise::Gpus;
use modelgate_model::{Config, ConfigError};
use modelgate_protocol::{Device, DeviceSeen, Event, FailureKind, Stage};

/// What is known before the worker is started.
pub(super) struct Forecast<'a> {
    pub(super) job: &'a ModelJob,
    pub(super) admission: &'a Admission,
    pub(super) devices: &'a [Device],
    pub(super) gpus: &'a Gpus,
    /// Bytes that the worker may take of each GPU.
    pub(super) limit: Option<u64>,
    /// Bytes of files whose blocks stay as they are.
    pub(super) file_bytes: Option<u64>,
    /// What is to be loaded, once the config is known.
    pub(super) spec: Option<LoadSpec>,
    /// The devices that are open, in the order of `gpus`.
    pub(super) rooms: Vec<Option<Room>>,
}

impl Forecast<'_> {
    /// Takes an event of the worker into account.
    ///
    /// # Errors
    /// The model cannot be what was expected, or does not fit.
    pub(super) fn event(&mut self, event: &Event) -> Result<(), BoxedReportable> {
        match event {
            Event::Model { config: Some(text), .. } if self.spec.is_none() => {
                let config = Config::from_json(text).map_err(ReportedConfigError)?;
                self.spec = Some(self.job.load_spec(config, self.devices, self.file_bytes));
                Ok(self.admit()?)
            }
            Event::Device(seen) => {
                self.open(seen);
                Ok(self.admit()?)
            }
            _ => Ok(()),
        }
    }

    /// Returns the prediction, completed by the devices' baselines if all of them are known.
    pub(super) fn prediction(&self) -> Option<Prediction> {
        let prediction = predict(self.spec.as_ref()?);
        let Some(rooms) = self.known_rooms() else {
            return Some(prediction);
        };
        let baselines = rooms.iter().filter_map(|room| room.baseline);
        Some(prediction.with_device_baseline(baselines.fold(0, u64::saturating_add)))
    }

    /// Notes what the worker takes of a device. One that it was not given is refused where the event is
    /// folded.
    fn open(&mut self, seen: &DeviceSeen) {
        let given = &self.gpus.assigned;
        let index = given.iter().position(|assigned| assigned.device == seen.device);
        if let Some(index) = index {
            let before = self.gpus.before[index].memory.used;
            self.rooms[index] = Some(Room {
                total: seen.total,
                others: before,
                limit: self.limit,
                baseline: Some(seen.own_baseline(before)),
            });
        }
    }

    /// Returns the rooms of all devices, once all are open; `None` without devices.
    fn known_rooms(&self) -> Option<Vec<Room>> {
        let rooms: Vec<Room> = self.rooms.iter().copied().collect::<Option<_>>()?;
        (!rooms.is_empty()).then_some(rooms)
    }

    fn admit(&self) -> Result<(), Refusal> {
        let Some(spec) = &self.spec else {
            return Ok(());
        };
        let rooms = self.known_rooms().unwrap_or_default();
        self.admission.admit(spec, &rooms)
    }
}

/// The worker describes the model by a config that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the worker describes the model by a config that cannot be used: {0}")]
struct ReportedConfigError(#[source] ConfigError);

impl Reportable for ReportedConfigError {
    fn stage(&self) -> Stage {
        Stage::Load
    }

    fn kind(&self) -> FailureKind {
        FailureKind::Protocol
    }

    fn hint(&self) -> String {
        "a defect of the engine".to_owned()
    }
}
