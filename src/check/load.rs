//! `load`: every tensor that the architecture needs is resident, whole, and holds numbers.

use super::{Status, Verdict, without_evidence};
use crate::predict::grouped;
use modelgate_model::{Config, Role, role, tensors};
use modelgate_protocol::{FailureKind, Measurement, Tensor};
use std::collections::{BTreeMap, HashSet};

const EXPECTED: &str =
    "every tensor of the architecture resident, none left over, all values finite";

const ENGINE: &str = "the worker's inventory is not what the model's config calls for: a defect of \
                      the engine";

/// What the measurement says of the load: the inventory against the architecture's own list, each
/// tensor where it was to be, no value that is not a number.
pub(super) fn check(measurement: &Measurement) -> Verdict {
    if measurement.load_s.is_none() {
        let verdict = without_evidence(measurement, EXPECTED.into(), true);
        // an expectation that nothing could meet is the memory check's subject, not the load's
        let other = measurement.failure.as_ref().is_some_and(|f| f.kind == FailureKind::Impossible);
        return Verdict { status: if other { Status::Blocked } else { Status::Failed }, ..verdict };
    }
    let inventory = &measurement.tensors;
    let weights = inventory.list.iter().map(Tensor::elements).fold(0, u64::saturating_add);
    let bytes = inventory.list.iter().map(|tensor| tensor.bytes).fold(0, u64::saturating_add);
    let mut observed = format!(
        "{} tensors, {} parameters, {}",
        inventory.list.len(),
        grouped(weights),
        crate::manifest::format_bytes(bytes)
    );
    for omitted in &inventory.omitted {
        observed.push_str(&format!("; left out: {} {}", omitted.tensors, omitted.group));
    }
    let verdict = Verdict::passed(EXPECTED, observed, false);
    if let Some(broken) = inventory.list.iter().find(|tensor| tensor.nonfinite > 0) {
        return verdict.failed(
            format!(
                "tensor {} of {} holds {} values that are NaN or infinite",
                broken.name, broken.file, broken.nonfinite
            ),
            "the file is damaged or the training diverged: fetch it again, and compare its hash",
        );
    }
    match wrong_inventory(measurement, weights) {
        None => verdict,
        Some(message) => verdict.failed(message, ENGINE),
    }
}

fn wrong_inventory(measurement: &Measurement, weights: u64) -> Option<String> {
    let list = &measurement.tensors.list;
    if let Some(empty) = list.iter().find(|tensor| tensor.bytes == 0) {
        return Some(format!("tensor {} of {} takes no bytes", empty.name, empty.file));
    }
    let elsewhere =
        list.iter().find(|tensor| !measurement.requested_devices.contains(&tensor.device));
    if let Some(tensor) = elsewhere {
        return Some(format!(
            "tensor {} is on {}, expected on {}",
            tensor.name,
            tensor.device,
            measurement.requested_devices.join(" or ")
        ));
    }
    let mut names = HashSet::new();
    if let Some(twice) = list.iter().find(|tensor| !names.insert(&tensor.name)) {
        return Some(format!("tensor {} stands twice in the inventory", twice.name));
    }
    if measurement.parameters != Some(weights) {
        return Some(format!(
            "the resident tensors hold {} weights, the worker says that the model has {}",
            grouped(weights),
            measurement.parameters.map_or("an unknown number".into(), grouped)
        ));
    }
    let Some(Ok(config)) = measurement.config.as_deref().map(Config::from_json) else {
        return Some("no config says which tensors must be there".into());
    };
    not_as_called_for(list, &config)
}

/// Compares shapes, each as often as the architecture has it, and names where they are those of a
/// Hugging Face checkpoint. GGUF names differ, and tables such as `rope_freqs` come with them.
fn not_as_called_for(list: &[Tensor], config: &Config) -> Option<String> {
    let mut found: BTreeMap<Vec<u64>, Vec<&str>> = BTreeMap::new();
    for tensor in list.iter().filter(|tensor| role(&tensor.name, &tensor.shape) != Role::Other) {
        found.entry(tensor.shape.clone()).or_default().push(&tensor.name);
    }
    let from_hub = list.iter().any(|tensor| tensor.name.contains("model.layers."));
    for needed in tensors(config) {
        let shape: Vec<u64> = needed.shape.iter().map(|size| *size as u64).collect();
        let names = found.entry(shape).or_default();
        let index = match from_hub {
            true => names.iter().position(|name| *name == needed.name),
            false => names.len().checked_sub(1),
        };
        match index {
            Some(index) => drop(names.swap_remove(index)),
            None => {
                return Some(format!(
                    "tensor {} of shape {:?} is not resident",
                    needed.name, needed.shape
                ));
            }
        }
    }
    let extra = found.values().flatten().next()?;
    Some(format!("tensor {extra} is resident and the architecture has none such"))
}
