//! The GPUs of one worker, under the names that the model asked for.

use crate::nvidia::{Assigned, GpuError, Readings, Snapshot};
use modelgate_protocol::{Ceiling, Device, Event, Location};
use std::sync::Arc;

/// The GPUs that a worker is to use, and what is in use on them before it starts.
pub struct Gpus {
    /// In the order of the request.
    pub assigned: Vec<Assigned>,
    /// What is in use, in the same order.
    pub before: Vec<Snapshot>,
    /// The source of these figures.
    pub readings: Arc<dyn Readings>,
}

impl Gpus {
    /// Reads what is in use on these GPUs now.
    ///
    /// # Errors
    /// The driver does not tell the memory of one.
    pub fn read(assigned: Vec<Assigned>, readings: Arc<dyn Readings>) -> Result<Gpus, GpuError> {
        let read = |Assigned { device, gpu }: &Assigned| {
            Snapshot::take(&*readings, &gpu.uuid)
                .ok_or_else(|| GpuError::MemoryUnknown { device: *device, uuid: gpu.uuid.clone() })
        };
        let before = assigned.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Gpus { assigned, before, readings })
    }

    /// Returns `event` of a worker, which counts the GPUs that it is shown, with the names under which
    /// the model asked for them.
    pub(super) fn named(&self, mut event: Event) -> Event {
        let asked = |shown: &mut Device| {
            if let Device::Cuda(ordinal) = *shown
                && let Some(assigned) = self.assigned.get(ordinal as usize)
            {
                *shown = assigned.device;
            }
        };
        match &mut event {
            Event::Model { devices, .. } => devices.iter_mut().for_each(asked),
            Event::Tensor(tensor) => asked(&mut tensor.device),
            Event::Device(seen) => asked(&mut seen.device),
            Event::DeviceMemory(memory) => asked(&mut memory.device),
            Event::Ceiling(Ceiling { device: Location::Device(device), .. }) => asked(device),
            Event::Failure(failure) => failure.message.push_str(&self.other_names()),
            _ => {}
        }
        event
    }

    /// Returns what the worker's names stand for, if they are not those of the model.
    fn other_names(&self) -> String {
        let shown = (0..).zip(&self.assigned);
        let pairs: Vec<String> = shown
            .map(|(ordinal, assigned)| (Device::Cuda(ordinal), assigned.device))
            .filter(|(shown, asked)| shown != asked)
            .map(|(shown, asked)| format!("the worker's {shown} is {asked}"))
            .collect();
        if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
    }

    pub(super) fn uuids(&self) -> Vec<&str> {
        self.assigned.iter().map(|assigned| assigned.gpu.uuid.as_str()).collect()
    }
}
