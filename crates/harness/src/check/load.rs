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

/// The table of divisors of the RoPE frequencies, one for each pair of values in a head. A GGUF file
/// may contain it in addition to the tensors of the architecture. A Hugging Face checkpoint has
/// `rope_scaling` in its config instead.
const ROPE_TABLE: &str = "rope_freqs.weight";

/// Returns the first difference between the names and shapes of `list` and those that `config`
/// requires. In a GGUF file, the experts of a layer may be one tensor, and the file may contain
/// [`ROPE_TABLE`].
fn inventory_difference(list: &[Tensor], config: &Config) -> Option<String> {
    let mut found: HashMap<&str, &[u64]> =
        list.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let from_gguf = list.iter().any(|tensor| tensor.name.starts_with("blk."));
    if from_gguf && let Some(shape) = found.remove(ROPE_TABLE) {
        let expected = [config.head_dim as u64 / 2];
        if shape != expected {
            return Some(shape_difference(ROPE_TABLE, shape, &expected));
        }
    }
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
            Some(other) => return Some(shape_difference(&name, other, &shape)),
            None => return Some(format!("tensor {name} of shape {shape:?} is not resident")),
        }
    }
    let extra = found.keys().min()?;
    Some(format!("tensor {extra} is resident, but the architecture does not contain it"))
}

fn shape_difference(name: &str, found: &[u64], expected: &[u64]) -> String {
    format!("tensor {name} has shape {found:?}, expected {expected:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expectation::tests::expectation;
    use crate::check::kind::Check;
    use crate::measurement::{Outcome, Tensors};
    use modelgate_protocol::{DType, Failure, Finite, Omitted, Role, Stage};

    const MIXTRAL: &str = r#"{
        "model_type": "mixtral", "num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 96,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
        "num_local_experts": 4, "num_experts_per_tok": 2, "max_position_embeddings": 64
    }"#;
    const LLAMA: &str = r#"{
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 96,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 64
    }"#;
    /// The values in the twelve tensors of [`LLAMA`]: two matrices of the vocabulary, four of
    /// attention, three of the feed-forward network, and three norms.
    const LLAMA_VALUES: u64 = 2 * 96 * 64 + 4 * 64 * 64 + 3 * 32 * 64 + 3 * 64;

    fn config(text: &str) -> Config {
        Config::from_json(text).expect("a config")
    }

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

    /// Returns the tensors of `config` in a Hugging Face checkpoint.
    fn checkpoint(config: &Config) -> Vec<Tensor> {
        let shape_of = |shape: &[usize]| shape.iter().map(|size| *size as u64).collect::<Vec<_>>();
        tensors(config).iter().map(|t| tensor(&t.name, &shape_of(&t.shape))).collect()
    }

    /// Returns the tensors of `config` in a GGUF file.
    fn gguf(config: &Config, merged: bool) -> Vec<Tensor> {
        let mut list: Vec<Tensor> = Vec::new();
        for needed in checkpoint(config) {
            let name = gguf_name(&needed.name).expect("a GGUF name");
            match name.merged {
                Some(name) if merged && list.iter().any(|tensor| tensor.name == name) => {}
                Some(name) if merged => {
                    list.push(tensor(&name, &[&[4], needed.shape.as_slice()].concat()));
                }
                _ => list.push(tensor(&name.name, &needed.shape)),
            }
        }
        list
    }

    /// Returns a healthy measurement of [`LLAMA`] on the CPU.
    fn measured() -> Measurement {
        Measurement {
            outcome: Outcome::Measured,
            config: Some(LLAMA.into()),
            parameters: Some(LLAMA_VALUES),
            requested_devices: vec![Device::Cpu],
            load_s: Finite::new(1.0),
            tensors: Tensors::of(checkpoint(&config(LLAMA)), Vec::new()),
            ..Measurement::empty()
        }
    }

    fn verdict(measurement: &Measurement) -> Verdict {
        Check::Load.verdict(measurement, &expectation("none"))
    }

    /// Asserts that a healthy measurement fails after `change`, with exactly this message and a
    /// hint that starts with `hint`.
    fn assert_fails(change: impl FnOnce(&mut Measurement), message: &str, hint: &str) {
        let mut measurement = measured();
        change(&mut measurement);
        let verdict = verdict(&measurement);
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        assert_eq!(verdict.message.as_deref(), Some(message));
        assert!(
            verdict.hint.as_deref().is_some_and(|found| found.starts_with(hint)),
            "{verdict:?}"
        );
    }

    /// Asserts that the inventory of [`LLAMA`] fails after `change`, with exactly this message.
    fn assert_wrong(change: impl FnOnce(&mut Vec<Tensor>), message: &str) {
        assert_fails(|m| change(&mut m.tensors.list), message, "report this defect of the engine");
    }

    #[test]
    fn a_complete_inventory_passes() {
        let passed = verdict(&measured());
        assert_eq!(
            passed,
            Verdict {
                check: Check::Load,
                status: Status::Passed,
                expected: EXPECTED.into(),
                observed: "12 tensors, 35,008 parameters, 140 kB".into(),
                derived: false,
                message: None,
                hint: None,
            }
        );
    }

    #[test]
    fn the_parts_of_a_partial_model_are_observed() {
        let mut measurement = Measurement { parts: vec!["text".into()], ..measured() };
        assert_eq!(verdict(&measurement).observed, "12 tensors, 35,008 parameters, 140 kB");
        let omitted = Omitted { group: "tensors of the vision tower".into(), tensors: 7, bytes: 9 };
        measurement.tensors.omitted.push(omitted);
        let passed = verdict(&measurement);
        assert_eq!(passed.status, Status::Passed, "{passed:?}");
        assert_eq!(
            passed.observed,
            "12 tensors, 35,008 parameters, 140 kB; parts: text; omitted: 7 tensors of the vision \
             tower"
        );
    }

    #[test]
    fn a_value_that_is_not_finite_fails() {
        for count in [1, 2, u64::MAX] {
            assert_fails(
                |m| m.tensors.list[11].non_finite = count,
                &format!(
                    "tensor lm_head.weight of x.gguf contains {count} values that are NaN or \
                     infinite"
                ),
                "download the file again",
            );
        }
    }

    #[test]
    fn a_wrong_inventory_fails() {
        let embedding = "model.embed_tokens.weight";
        assert_wrong(
            |list| list[0].bytes = 0,
            &format!("tensor {embedding} of x.gguf has 0 bytes"),
        );
        assert_wrong(
            |list| list[0].device = Device::Cuda(0),
            &format!("tensor {embedding} is on cuda:0, expected on cpu"),
        );
        assert_wrong(
            |list| list.push(list[0].clone()),
            &format!("tensor {embedding} is duplicated in the inventory"),
        );
        assert_wrong(
            |list| drop(list.pop()),
            "the worker reported 35,008 weights, the resident tensors have 28,864",
        );
        assert_wrong(
            |list| list[0].shape.reverse(),
            &format!("tensor {embedding} has shape [64, 96], expected [96, 64]"),
        );
        assert_wrong(
            |list| list[0].name = "other.weight".into(),
            &format!("tensor {embedding} of shape [96, 64] is not resident"),
        );
    }

    #[test]
    fn figures_that_the_worker_does_not_report_fail() {
        let hint = "report this defect of the engine";
        assert_fails(
            |m| m.parameters = None,
            "the worker reported an unknown number of weights, the resident tensors have 35,008",
            hint,
        );
        for config in [None, Some("{}".to_owned())] {
            assert_fails(
                |m| m.config = config,
                "the required tensors are not known: the measurement has no valid config",
                hint,
            );
        }
        assert_fails(
            |m| {
                m.tensors.list.clear();
                m.parameters = Some(0);
            },
            "tensor model.embed_tokens.weight of shape [96, 64] is not resident",
            hint,
        );
        assert_fails(
            |m| m.requested_devices = vec![Device::Cuda(0), Device::Cuda(1)],
            "tensor model.embed_tokens.weight is on cpu, expected on cuda:0 or cuda:1",
            hint,
        );
    }

    #[test]
    fn a_model_may_be_on_any_of_its_devices() {
        let mut measurement =
            Measurement { requested_devices: vec![Device::Cuda(0), Device::Cpu], ..measured() };
        measurement.tensors.list[3].device = Device::Cuda(0);
        assert_eq!(verdict(&measurement).status, Status::Passed);
    }

    #[test]
    fn an_extra_tensor_fails() {
        let extra = |name: &str, values: u64| {
            let mut measurement = measured();
            measurement.tensors.list.push(tensor(name, &[values]));
            measurement.parameters = Some(LLAMA_VALUES + values);
            verdict(&measurement).message
        };
        assert_eq!(
            extra("model.norm.bias", 64).as_deref(),
            Some("tensor model.norm.bias is resident, but the architecture does not contain it")
        );
        assert_eq!(
            extra(ROPE_TABLE, 16).as_deref(),
            Some("tensor rope_freqs.weight is resident, but the architecture does not contain it"),
            "a checkpoint has no such table"
        );
    }

    #[test]
    fn a_gguf_file_may_contain_the_rope_table() {
        for (text, merged) in [(LLAMA, false), (MIXTRAL, false), (MIXTRAL, true)] {
            let config = config(text);
            let mut list = gguf(&config, merged);
            assert_eq!(inventory_difference(&list, &config), None);
            list.push(tensor(ROPE_TABLE, &[16]));
            assert_eq!(inventory_difference(&list, &config), None, "half of a head of 32 values");
            for shape in [&[15][..], &[32], &[16, 1]] {
                list.pop();
                list.push(tensor(ROPE_TABLE, shape));
                assert_eq!(
                    inventory_difference(&list, &config),
                    Some(format!("tensor rope_freqs.weight has shape {shape:?}, expected [16]"))
                );
            }
        }
    }

    #[test]
    fn the_names_of_both_formats_are_not_mixed() {
        let config = config(LLAMA);
        let mut list = gguf(&config, false);
        list[0].name = "model.embed_tokens.weight".into();
        assert_eq!(
            inventory_difference(&list, &config).as_deref(),
            Some("tensor token_embd.weight of shape [96, 64] is not resident")
        );
    }

    #[test]
    fn experts_may_be_merged_but_not_missing() {
        let config = config(MIXTRAL);
        assert_eq!(inventory_difference(&checkpoint(&config), &config), None);
        for merged in [false, true] {
            let mut list = gguf(&config, merged);
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

    #[test]
    fn a_merged_tensor_replaces_all_experts_of_its_kind() {
        let config = config(MIXTRAL);
        let mut list = gguf(&config, true);
        let merged = list.iter_mut().find(|t| t.name == "blk.0.ffn_up_exps.weight");
        let merged = merged.expect("the merged tensor");
        assert_eq!(merged.shape, [4, 32, 64]);
        merged.shape[0] = 3;
        assert_eq!(
            inventory_difference(&list, &config).as_deref(),
            Some("tensor blk.0.ffn_up_exps.weight has shape [3, 32, 64], expected [4, 32, 64]")
        );
        let mut both = gguf(&config, true);
        both.push(tensor("blk.0.ffn_up.2.weight", &[32, 64]));
        assert_eq!(
            inventory_difference(&both, &config).as_deref(),
            Some(
                "tensor blk.0.ffn_up.2.weight is resident, but the architecture does not contain it"
            )
        );
    }

    #[test]
    fn a_load_that_did_not_complete_fails_unless_the_memory_range_is_its_subject() {
        let without_load = |kind| {
            let failure = Failure::new(Stage::Load, kind, "a message", "a hint");
            let outcome = Outcome::Failed;
            verdict(&Measurement { outcome, failure: Some(failure), load_s: None, ..measured() })
        };
        let failed = without_load(FailureKind::Corrupt);
        assert_eq!((failed.status, failed.expected.as_str()), (Status::Failed, EXPECTED));
        assert_eq!(failed.message.as_deref(), Some("corrupt (load): a message"));
        let other = without_load(FailureKind::ExpectationUnreachable);
        assert_eq!(other.status, Status::Blocked);
        let incomplete = verdict(&Measurement { load_s: None, ..measured() });
        assert_eq!(incomplete.status, Status::Failed, "without a failure");
        let lost = Measurement { outcome: Outcome::Crashed, ..measured() };
        assert_eq!(verdict(&lost).status, Status::Passed, "the load completed before the crash");
    }
}
