//! Safetensors files in which all names have a prefix of the object that wrapped the model when it
//! was saved. transformers does not load such tensors: it initializes the model at random instead.

use super::checkpoint_names::{anchor_prefixes, expected_names};
use super::source::{Source, SourceFile, Tensors};
use crate::failures;
use modelgate_model::{Config, tensors as needed_tensors};
use modelgate_protocol::{Failure, FailureKind};

/// The way to save a model whose adapter is merged into the weights.
const MERGE_HINT: &str = "save the model with `model.merge_and_unload().save_pretrained(...)`";

/// The prefixes of known wrappers, with the wrapper and the way to save the model without it.
const WRAPPERS: [(&str, &str, &str); 3] = [
    ("_orig_mod.", "torch.compile", "save the model with `model._orig_mod.save_pretrained(...)`"),
    ("module.", "DataParallel", "save the model with `model.module.save_pretrained(...)`"),
    ("base_model.model.", "PEFT", MERGE_HINT),
];

/// Refuses files whose tensors are complete, but have names with a prefix, and files with an
/// adapter of PEFT that is not merged into the weights.
///
/// # Errors
/// The message names the prefix, the expected name and the found name.
pub(super) fn refuse_wrapped_names(source: &Source, config: &Config) -> Result<(), Failure> {
    let Source { files, tensors, .. } = source;
    let file_of = |name: &str| tensors.get(name).map_or("", |tensor| source.file_name(tensor));
    let is_adapter = |name: &&String| name.contains(".lora_A.") || name.contains(".lora_B.");
    if let Some(name) = tensors.keys().find(is_adapter) {
        return Err(failures::load(
            FailureKind::Unsupported,
            format!(
                "{}: the file contains a LoRA adapter of PEFT: expected merged weights, found \
                 tensor {name}",
                file_of(name)
            ),
            MERGE_HINT,
        ));
    }
    let known = WRAPPERS.iter().map(|(prefix, wrapper, hint)| {
        (*prefix, format!("\"{prefix}\", the prefix of {wrapper}"), (*hint).to_owned())
    });
    let anchors = anchor_prefixes(tensors, config);
    let unknown = anchors.iter().filter_map(|found| {
        let prefix = found.strip_suffix("model.").filter(|prefix| !prefix.is_empty())?;
        let hint = format!("remove \"{prefix}\" from the names of the tensors");
        Some((prefix, format!("the unknown prefix \"{prefix}\""), hint))
    });
    for (prefix, description, hint) in known.chain(unknown) {
        let Some(found) = tensors.keys().find(|name| name.contains(prefix)) else { continue };
        if is_complete_without(prefix, files, tensors, config) {
            return Err(failures::load(
                FailureKind::Unsupported,
                format!(
                    "{}: the names of the tensors contain {description}, with which transformers \
                     does not load them: expected {}, found {found}",
                    file_of(found),
                    without(found, prefix)
                ),
                hint,
            ));
        }
    }
    Ok(())
}

/// Returns whether the files contain all tensors of the config if `prefix` is removed from their
/// names.
fn is_complete_without(
    prefix: &str,
    files: &[SourceFile],
    tensors: &Tensors,
    config: &Config,
) -> bool {
    // the list of the tensors of a config with more layers could exceed the memory
    if config.layers > tensors.len() {
        return false;
    }
    let stripped = tensors.iter().map(|(name, tensor)| (without(name, prefix), tensor.clone()));
    let Ok(renamed) = expected_names(files, stripped.collect(), config) else { return false };
    needed_tensors(config).iter().all(|needed| renamed.contains_key(&needed.name))
}

/// Removes `prefix` from the parts of a name. torch.compile can wrap any module, so its prefix can
/// be anywhere in a name.
fn without(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix) {
        Some(rest) => rest.replace(&format!(".{prefix}"), "."),
        None => name.replace(&format!(".{prefix}"), "."),
    }
}
