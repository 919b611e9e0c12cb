//! The names of tensors in safetensors files. They depend on the program that wrote the files, and
//! the config does not reveal them: transformers 4 and 5 write different names under the same
//! `model_type`.
//!
//! This module converts all names that transformers loads, and no others: it initializes tensors
//! with other names at random. Source: `conversion_mapping.py` and `core_model_loading.py` of
//! transformers 5.24.

use super::merged_experts::split_merged_experts;
use super::source::{SourceFile, Tensors};
use crate::failures;
use modelgate_model::{Config, Family};
use modelgate_protocol::Failure;

/// The last part of the name of a tensor that the first layer of each supported family has. The
/// part before it identifies the names of a file.
const ANCHOR: &str = "layers.0.input_layernorm.weight";

/// The prefixes of the parts of Qwen2.5-Omni that synthesize speech. The talker has layers with the
/// same names as those of the text model.
const SPEECH: [&str; 2] = ["talker.", "token2wav."];

/// Renames tensors to the names of [`modelgate_model::tensors`], and divides merged experts.
/// Tensors with unknown names keep them.
///
/// # Errors
/// Two tensors get the same name, or merged experts have a wrong shape.
pub(super) fn expected_names(
    files: &[SourceFile],
    tensors: Tensors,
    config: &Config,
) -> Result<Tensors, Failure> {
    let rules = prefix_rules(&tensors, config);
    let mut renamed = Tensors::new();
    for (name, mut tensor) in tensors {
        let new = expected_name(&name, &rules, config);
        if new != name {
            tensor.stored_name = Some(name.clone());
        }
        let file = tensor.file;
        if let Some(earlier) = renamed.insert(new.clone(), tensor) {
            let other = earlier.stored_name.unwrap_or(new);
            let path = files.get(file).map(|file| file.path.clone()).unwrap_or_default();
            return Err(failures::corrupt(
                &path,
                format!("tensor {name} is duplicated: {other} is the same tensor of the model"),
            ));
        }
    }
    name_tied_matrix(&mut renamed, config);
    split_merged_experts(files, renamed, config)
}

/// Renames the output matrix to the embedding if both are one tensor and the files contain it only
/// as the output matrix. `save_model` of safetensors keeps the first of both names.
fn name_tied_matrix(tensors: &mut Tensors, config: &Config) {
    let embedding = format!("{}model.embed_tokens.weight", config.prefix);
    let output = format!("{}lm_head.weight", config.prefix);
    if !config.tied_embeddings || tensors.contains_key(&embedding) {
        return;
    }
    if let Some(mut tensor) = tensors.remove(&output) {
        tensor.stored_name.get_or_insert(output);
        tensors.insert(embedding, tensor);
    }
}

/// Returns whether a tensor of the first layer has the name of [`modelgate_model::tensors`].
pub(super) fn has_expected_layers(tensors: &Tensors, config: &Config) -> bool {
    tensors.contains_key(&format!("{}{ANCHOR}", expected_prefix(config)))
}

/// Returns the parts before [`ANCHOR`] in the names of tensors, at most four.
pub(super) fn anchor_prefixes<'a>(tensors: &'a Tensors, config: &Config) -> Vec<&'a str> {
    tensors
        .keys()
        .filter(|name| !is_speech(name, config))
        .filter_map(|name| name.strip_suffix(ANCHOR))
        .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
        .take(4)
        .collect()
}

/// Returns the prefix of the layers in the names of [`modelgate_model::tensors`].
fn expected_prefix(config: &Config) -> String {
    format!("{}model.", config.prefix)
}

/// Returns the prefixes to replace, each with its replacement. The first that a name begins with
/// applies.
fn prefix_rules(tensors: &Tensors, config: &Config) -> Vec<(String, String)> {
    let found = anchor_prefixes(tensors, config);
    let [found] = found.as_slice() else { return Vec::new() };
    if *found == expected_prefix(config) {
        return Vec::new();
    }
    match config.family {
        Family::Qwen25Omni => omni_rules(found, config.prefix),
        // transformers adds the prefix of the base model, or removes it
        _ if found.is_empty() => {
            vec![rule("lm_head.", "lm_head."), rule("model.", "model."), rule("", "model.")]
        }
        _ if *found == "model.model." => vec![rule("model.", "")],
        _ => Vec::new(),
    }
}

/// Returns the rules for Qwen2.5-Omni. Its thinker has the prefix `thinker.` if it was part of the
/// complete model when it was saved. transformers 5 can save the parts of the thinker below
/// `model.`. `expected` is the prefix of the names that the rules result in.
fn omni_rules(found: &str, expected: &str) -> Vec<(String, String)> {
    let nested = found.strip_suffix("model.language_model.");
    let Some(thinker) = nested.or_else(|| found.strip_suffix("model.")) else { return Vec::new() };
    if !matches!(thinker, "" | "thinker.") {
        return Vec::new();
    }
    let mut rules = Vec::new();
    if nested.is_some() {
        for (from, to) in [
            ("model.language_model.", "model."),
            ("model.audio_tower.", "audio_tower."),
            ("model.visual.", "visual."),
        ] {
            rules.push((format!("{thinker}{from}"), format!("{expected}{to}")));
        }
    }
    rules.push(rule(thinker, expected));
    rules
}

fn rule(from: &str, to: &str) -> (String, String) {
    (from.to_owned(), to.to_owned())
}

/// Returns the name of [`modelgate_model::tensors`] for a name in a file.
fn expected_name(name: &str, rules: &[(String, String)], config: &Config) -> String {
    let applied = rules
        .iter()
        .filter(|_| !is_speech(name, config))
        .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from.as_str())?)));
    let name = applied.unwrap_or_else(|| name.to_owned());
    match config.family {
        Family::Mixtral => name.replacen(".mlp.", ".block_sparse_moe.", 1),
        _ => name,
    }
}

/// Returns whether a tensor belongs to the synthesis of speech.
fn is_speech(name: &str, config: &Config) -> bool {
    config.family == Family::Qwen25Omni && SPEECH.iter().any(|part| name.starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::source::SourceTensor;
    use modelgate_protocol::DType;

    fn config(model_type: &str) -> Config {
        let text = r#"{"model_type": "T", "num_hidden_layers": 1, "hidden_size": 8,
            "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 8,
            "vocab_size": 8, "num_local_experts": 2}"#;
        let text = match model_type {
            "qwen2_5_omni" => format!(
                r#"{{"model_type": "qwen2_5_omni", "thinker_config": {{"text_config": {text}}}}}"#
            ),
            "qwen2_5_omni_thinker" => {
                format!(r#"{{"model_type": "qwen2_5_omni_thinker", "text_config": {text}}}"#)
            }
            other => text.replace("\"T\"", &format!("\"{other}\"")),
        };
        Config::from_json(&text).expect("a config")
    }

    fn renamed(model_type: &str, names: &[&str]) -> Vec<String> {
        let tensor = SourceTensor {
            file: 0,
            shape: vec![8],
            dtype: DType::F32,
            offset: 0,
            bytes: 32,
            stored_name: None,
        };
        let tensors = names.iter().map(|name| ((*name).to_owned(), tensor.clone())).collect();
        let renamed = expected_names(&[], tensors, &config(model_type)).expect("distinct names");
        renamed.into_keys().collect()
    }

    #[test]
    fn names_that_transformers_loads_are_renamed() {
        // `{}` is the prefix of the layers
        let anchor = |prefix: &str| format!("{prefix}{ANCHOR}");
        let cases: [(&str, &[&str], &[&str]); 9] = [
            ("llama", &["", "lm_head.weight"], &["lm_head.weight", "model."]),
            ("llama", &["model.", "lm_head.weight"], &["lm_head.weight", "model."]),
            ("llama", &["model.model.", "model.lm_head.weight"], &["lm_head.weight", "model."]),
            (
                "qwen2_5_omni_thinker",
                &["thinker.model.", "thinker.lm_head.weight", "thinker.visual.x", "talker.model."],
                &["lm_head.weight", "model.", "talker.model.", "visual.x"],
            ),
            (
                "qwen2_5_omni_thinker",
                &[
                    "model.language_model.",
                    "lm_head.weight",
                    "model.visual.x",
                    "model.audio_tower.x",
                ],
                &["audio_tower.x", "lm_head.weight", "model.", "visual.x"],
            ),
            (
                "qwen2_5_omni",
                &["model.", "lm_head.weight", "visual.x", "token2wav.x"],
                &["thinker.lm_head.weight", "thinker.model.", "thinker.visual.x", "token2wav.x"],
            ),
            (
                "qwen2_5_omni",
                &["thinker.model.language_model.", "thinker.model.visual.x", "talker.model."],
                &["talker.model.", "thinker.model.", "thinker.visual.x"],
            ),
            (
                "mixtral",
                &["model.", "model.layers.0.mlp.gate.weight"],
                &["model.layers.0.block_sparse_moe.gate.weight", "model."],
            ),
            // transformers does not load these names
            ("llama", &["module.model.", "lm_head.weight"], &["lm_head.weight", "module.model."]),
        ];
        for (model_type, names, expected) in cases {
            let complete = |names: &[&str]| -> Vec<String> {
                let complete = |name: &&str| match name.is_empty() || name.ends_with("model.") {
                    true => anchor(name),
                    false => (*name).to_owned(),
                };
                names.iter().map(complete).collect()
            };
            let names = complete(names);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut expected = complete(expected);
            expected.sort();
            assert_eq!(renamed(model_type, &names), expected, "{model_type}");
        }
    }
}
