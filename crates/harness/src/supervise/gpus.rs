//! The GPUs of one worker. Converts between the device names of the worker and of the model.

use crate::nvidia::{Assigned, GpuError, Readings, Snapshot};
use modelgate_protocol::{Ceiling, Device, Event, Location};
use std::sync::Arc;

/// The GPUs of a worker, and their memory in use before the worker starts.
pub struct Gpus {
    /// The GPUs, in the order of the request.
    pub assigned: Vec<Assigned>,
    /// The memory in use before the start of the worker, in the same order.
    pub before: Vec<Snapshot>,
    /// The source of the memory readings.
    pub readings: Arc<dyn Readings>,
}

impl Gpus {
    /// Reads the memory in use on these GPUs.
    ///
    /// # Errors
    /// The driver does not report the memory of a GPU.
    pub fn read(assigned: Vec<Assigned>, readings: Arc<dyn Readings>) -> Result<Gpus, GpuError> {
        let read = |Assigned { device, gpu }: &Assigned| {
            Snapshot::take(&*readings, &gpu.uuid).map_err(|reason| GpuError::MemoryUnknown {
                device: *device,
                uuid: gpu.uuid.clone(),
                reason,
            })
        };
        let before = assigned.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Gpus { assigned, before, readings })
    }

    /// Returns `event` with the device names of the model. A worker counts only the GPUs that are
    /// visible to it, so its `cuda:0` may be `cuda:1` of the model.
    pub(super) fn rename_devices(&self, mut event: Event) -> Event {
        let rename = |device: &mut Device| {
            if let Device::Cuda(ordinal) = *device
                && let Some(assigned) = self.assigned.get(ordinal as usize)
            {
                *device = assigned.device;
            }
        };
        match &mut event {
            Event::Model { devices, .. } => devices.iter_mut().for_each(rename),
            Event::Tensor(tensor) => rename(&mut tensor.device),
            Event::Device(seen) => rename(&mut seen.device),
            Event::DeviceMemory(memory) => rename(&mut memory.device),
            Event::Ceiling(Ceiling { device: Location::Device(device), .. }) => rename(device),
            Event::Failure(failure) => failure.message.push_str(&self.device_names()),
            _ => {}
        }
        event
    }

    /// Returns a suffix for a message of the worker, which explains its device names. Empty if they
    /// are the names of the model.
    fn device_names(&self) -> String {
        let numbered = (0..).zip(&self.assigned);
        let pairs: Vec<String> = numbered
            .map(|(ordinal, assigned)| (Device::Cuda(ordinal), assigned.device))
            .filter(|(of_worker, of_model)| of_worker != of_model)
            .map(|(of_worker, of_model)| format!("{of_worker} of the worker is {of_model}"))
            .collect();
        if pairs.is_empty() { String::new() } else { format!(" ({})", pairs.join(", ")) }
    }

    /// Returns the UUIDs of the GPUs, in the order of the request.
    pub(super) fn uuids(&self) -> Vec<&str> {
        self.assigned.iter().map(|assigned| assigned.gpu.uuid.as_str()).collect()
    }
}
