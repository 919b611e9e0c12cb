//! `load`: every tensor of the architecture is resident, complete and finite.

use super::verdict::{Status, Verdict, without_evidence};
use crate::measurement::Measurement;
use modelgate_model::units::{format_bytes, grouped};
use modelgate_model::{Config, gguf_name, tensors};
use modelgate_protocol::{Device, FailureKind, Tensor};
use std::collections::{HashMap, HashSet};

const EXPECTED: &str =
    "every tensor of the architecture resident, no extra tensor, all values finite";

const ENGINE_DEFECT_HINT: &str = "report this defect of the engine: its tensors are not those that \
                                  the config of the model requires";

/// Compares the inventory with the tensor list of the architecture: each tensor is on its device,
/// and no value is NaN or infinite.
pub(super) fn check(measurement: &Measurement) -> Verdict {
    if measurement.load_s.is_none() {
        let verdict = without_evidence(measurement, EXPECTED.into(), true);
        // an expectation that cannot be met is the subject of `memory_range`, not of `load`
        let other = measurement
            .failure
            .as_ref()
            .is_some_and(|f| f.kind == FailureKind::ExpectationUnreachable);
        return Verdict { status: if other { Status::Blocked } else { Status::Failed }, ..verdict };
    }
    let inventory = &measurement.tensors;
    let weights = inventory.list.iter().map(Tensor::elements).fold(0, u64::saturating_add);
    let bytes = inventory.list.iter().map(|tensor| tensor.bytes).fold(0, u64::saturating_add);
    let mut observed = format!(
        "{} tensors, {} parameters, {}",
        inventory.list.len(),
        grouped(weights),
        format_bytes(bytes)
    );
    if measurement.is_partial() {
        observed.push_str(&format!("; parts: {}", measurement.parts.join(", ")));
    }
    for omitted in &inventory.omitted {
        observed.push_str(&format!("; omitted: {} {}", omitted.tensors, omitted.group));
    }
    let verdict = Verdict::passed(EXPECTED, observed, false);
    if let Some(non_finite) = inventory.list.iter().find(|tensor| tensor.non_finite > 0) {
        return verdict.failed(
            format!(
                "tensor {} of {} contains {} values that are NaN or infinite",
                non_finite.name, non_finite.file, non_finite.non_finite
            ),
            "download the file again and compare its hash: the file is damaged, or the training \
             diverged",
        );
    }
    match wrong_inventory(measurement, weights) {
        None => verdict,
        Some(message) => verdict.failed(message, ENGINE_DEFECT_HINT),
    }
}

fn wrong_inventory(measurement: &Measurement, weights: u64) -> Option<String> {
    let list = &measurement.tensors.list;
    if let Some(empty) = list.iter().find(|tensor| tensor.bytes == 0) {
        return Some(format!("tensor {} of {} has 0 bytes", empty.name, empty.file));
    }
    let misplaced =
        list.iter().find(|tensor| !measurement.requested_devices.contains(&tensor.device));
    if let Some(tensor) = misplaced {
        return Some(format!(
            "tensor {} is on {}, expected on {}",
            tensor.name,
            tensor.device,
            joined(&measurement.requested_devices)
        ));
    }
    let mut names = HashSet::new();
    if let Some(duplicate) = list.iter().find(|tensor| !names.insert(&tensor.name)) {
        return Some(format!("tensor {} is duplicated in the inventory", duplicate.name));
    }
    if measurement.parameters != Some(weights) {
        return Some(format!(
            "the worker reported {} weights, the resident tensors have {}",
            measurement.parameters.map_or("an unknown number of".into(), grouped),
            grouped(weights)
        ));
    }
    let Some(Ok(config)) = measurement.config.as_deref().map(Config::from_json) else {
        return Some(
            "the required tensors are not known: the measurement has no valid config".into(),
        );
    };
    inventory_difference(list, &config)
}

fn joined(devices: &[Device]) -> String {
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(" or ")
}

/// Tables that a GGUF file may contain in addition to the tensors of the architecture.
const TABLES: [&str; 1] = ["rope_freqs.weight"];

/// Returns the first difference between the names and shapes of `list` and those that `config`
/// requires. In a GGUF file, the experts of a layer may be one tensor, and the file may contain
/// additional tables, for example `rope_freqs`.
fn inventory_difference(list: &[Tensor], config: &Config) -> Option<String> {
    let mut found: HashMap<&str, &[u64]> = list
        .iter()
        .filter(|tensor| !TABLES.contains(&tensor.name.as_str()))
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    let from_gguf = list.iter().any(|tensor| tensor.name.starts_with("blk."));
    let mut merged_found = HashSet::new();
    for needed in tensors(config) {
        let mut shape: Vec<u64> = needed.shape.iter().map(|size| *size as u64).collect();
        let mut name = needed.name;
        if from_gguf && let Some(gguf) = gguf_name(&name) {
            name = gguf.name;
            if let (Some(merged), Some(experts)) = (gguf.merged, config.experts) {
                if merged_found.contains(&merged) {
                    continue;
                }
                if found.contains_key(merged.as_str()) {
                    merged_found.insert(merged.clone());
                    shape.insert(0, experts.count as u64);
                    name = merged;
                }
            }
        }
        match found.remove(name.as_str()) {
            Some(other) if other == shape => {}
            Some(other) => {
                return Some(format!("tensor {name} has shape {other:?}, expected {shape:?}"));
            }
            None => return Some(format!("tensor {name} of shape {shape:?} is not resident")),
        }
    }
    let extra = found.keys().min()?;
    Some(format!("tensor {extra} is resident, but the architecture does not contain it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::{DType, Role};

    const MIXTRAL: &str = r#"{
        "model_type": "mixtral", "num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 96,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
        "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 64
    }"#;

    fn tensor(name: &str, shape: &[u64]) -> Tensor {
        let bytes = 4 * shape.iter().product::<u64>();
        Tensor {
            name: name.into(),
            file: "x.gguf".into(),
            shape: shape.to_vec(),
            source_dtype: DType::F32,
            dtype: DType::F32,
            bytes,
            device: Device::Cpu,
            nmse: None,
            worst_nmse: None,
            non_finite: 0,
            role: Role::Linear,
            reason: None,
        }
    }

    fn inventory(config: &Config, merged: bool) -> Vec<Tensor> {
        let mut list: Vec<Tensor> = Vec::new();
        for needed in tensors(config) {
            let shape: Vec<u64> = needed.shape.iter().map(|size| *size as u64).collect();
            let name = gguf_name(&needed.name).expect("a GGUF name");
            match name.merged {
                Some(name) if merged && list.iter().any(|tensor| tensor.name == name) => {}
                Some(name) if merged => {
                    list.push(tensor(&name, &[&[4], shape.as_slice()].concat()));
                }
                _ => list.push(tensor(&name.name, &shape)),
            }
        }
        list
    }

    #[test]
    fn experts_may_be_merged_but_not_missing() {
        let config = Config::from_json(MIXTRAL).expect("a config");
        for merged in [false, true] {
            let mut list = inventory(&config, merged);
            list.push(tensor("rope_freqs.weight", &[16]));
            assert_eq!(inventory_difference(&list, &config), None);
            let index = list.iter().position(|t| t.name.contains("ffn_up")).expect("an expert");
            let removed = list.remove(index);
            let message = inventory_difference(&list, &config).expect("a missing tensor");
            assert!(message.contains("blk.0.ffn_up"), "{message}");
            list.push(Tensor { shape: vec![4, 32, 65], ..removed.clone() });
            assert!(inventory_difference(&list, &config).is_some_and(|m| m.contains("expected")));
            list.pop();
            list.push(removed);
            list.push(tensor("blk.0.ffn_up.9.weight", &[32, 64]));
            let message = inventory_difference(&list, &config).expect("an extra tensor");
            assert!(message.contains("blk.0.ffn_up.9.weight"), "{message}");
        }
    }
}
