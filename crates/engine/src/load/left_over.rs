//! Tensors in the files that are not loaded.

use super::job::Job;
use super::source_names::MAX_NAMES;
use crate::failures;
use crate::formats::Source;
use modelgate_model::{Config, Family};
use modelgate_protocol::{Failure, FailureKind, Omitted};
use std::collections::{BTreeMap, HashSet};

/// The parts of Qwen2.5-Omni that do not process text: the prefix of their tensor names (after the
/// prefix of the text model, if present), and their group in reports. The talker and token2wav
/// synthesize speech, which is not checked.
const OMNI_GROUPS: [(&str, &str); 4] = [
    ("audio_tower.", "audio tower"),
    ("visual.", "vision tower"),
    ("talker.", "talker"),
    ("token2wav.", "token2wav"),
];

/// Returns the groups of tensors that no job uses and that can be omitted.
///
/// # Errors
/// Other tensors are left over: if a part of a model is not loaded, the model is not the requested
/// one.
pub(super) fn left_over(
    source: &Source,
    config: &Config,
    jobs: &[Job],
) -> Result<Vec<Omitted>, Failure> {
    let used: HashSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let mut groups: BTreeMap<&str, Omitted> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, tensor) in source.tensors.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        match omissible_group(config, name) {
            None => unknown.push((name, tensor)),
            Some(group) => {
                let entry = groups.entry(group).or_insert_with(|| Omitted {
                    group: group.to_owned(),
                    tensors: 0,
                    bytes: 0,
                });
                entry.tensors += 1;
                entry.bytes += tensor.bytes;
            }
        }
    }
    if unknown.is_empty() {
        return Ok(groups.into_values().collect());
    }
    let shown: Vec<String> = unknown
        .iter()
        .take(MAX_NAMES)
        .map(|(name, tensor)| format!("{} in {}", tensor.label(name), source.file_name(tensor)))
        .collect();
    let more = unknown.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Err(failures::load(
        FailureKind::TensorUnexpected,
        format!(
            "{} tensors are not used by the architecture: {}{more}",
            unknown.len(),
            shown.join(", ")
        ),
        match unknown.iter().any(|(name, _)| is_of_later_layer(config, name)) {
            true => "use the config of the checkpoint that contains the weights",
            false => "",
        },
    ))
}

/// Returns whether a tensor belongs to a layer that the config does not have.
fn is_of_later_layer(config: &Config, name: &str) -> bool {
    let layer = name.strip_prefix(config.prefix).unwrap_or(name);
    let layer = layer.strip_prefix("model.layers.").or_else(|| layer.strip_prefix("blk."));
    let number = layer.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    number.is_some_and(|number| number >= config.layers)
}

/// Returns the group of a tensor that can be omitted; `None` if the tensor must not be left over.
fn omissible_group(config: &Config, name: &str) -> Option<&'static str> {
    if config.family == Family::Qwen25Omni
        && let Some((_, group)) = OMNI_GROUPS.iter().find(|(prefix, _)| {
            name.strip_prefix(config.prefix).unwrap_or(name).starts_with(prefix)
        })
    {
        Some(group)
    } else if name.ends_with(".rotary_emb.inv_freq") {
        Some("rotary frequencies, which follow from the config")
    } else if config.tied_embeddings && name == format!("{}lm_head.weight", config.prefix) {
        Some("output matrix, which is tied to the embedding")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_model::tensors;
    use std::path::Path;

    #[test]
    fn every_tensor_of_the_omni_checkpoint_is_needed_or_can_be_omitted() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let read = |path: &str| std::fs::read_to_string(fixtures.join(path)).expect(path);
        let config = Config::from_json(&read("configs/qwen2.5-omni-7b/config.json"));
        let config = config.expect("a config");
        let golden: serde_json::Value =
            serde_json::from_str(&read("golden/tensors/qwen2.5-omni-7b.json")).expect("JSON");
        let list = golden.get("tensors").unwrap_or(&golden).as_object().expect("names");
        let needed: HashSet<String> = tensors(&config).into_iter().map(|t| t.name).collect();
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        for name in list.keys().filter(|name| !needed.contains(*name)) {
            let group =
                omissible_group(&config, name).unwrap_or_else(|| panic!("{name} is left over"));
            *groups.entry(group).or_default() += 1;
        }
        assert_eq!(groups.len(), OMNI_GROUPS.len(), "{groups:?}");
        assert_eq!(omissible_group(&config, "thinker.model.extra.weight"), None);
        assert_eq!(omissible_group(&config, "thinker.other_tower.weight"), None);
    }
}
