//! Merged experts in safetensors files. transformers 5 keeps the matrices of all experts of a layer
//! in two tensors, and can save them in this form.
//!
//! Source: `MixtralExperts` in `modeling_mixtral.py` of transformers 5.24.

use super::source::{SourceFile, SourceTensor, Tensors};
use crate::failures;
use modelgate_model::{Config, Family};
use modelgate_protocol::{Failure, FailureKind};

/// The part of the names between the layer and the merged tensor or the expert.
const EXPERTS: &str = "block_sparse_moe.experts.";

/// Divides the merged tensors of Mixtral's experts into one matrix for each expert: for each expert
/// in order, `gate_up_proj` contains the rows of w1 and then the rows of w3, and `down_proj` the
/// rows of w2. The values of each matrix are adjacent in the file.
///
/// # Errors
/// A merged tensor has a wrong shape, or a matrix is duplicated.
pub(super) fn split_merged_experts(
    files: &[SourceFile],
    mut tensors: Tensors,
    config: &Config,
) -> Result<Tensors, Failure> {
    let Some(experts) = config.experts.filter(|_| config.family == Family::Mixtral) else {
        return Ok(tensors);
    };
    let (wide, narrow) = ([config.ffn, config.hidden], [config.hidden, config.ffn]);
    let kinds = [("gate_up_proj", &["w1", "w3"][..], wide), ("down_proj", &["w2"][..], narrow)];
    for (merged, matrices, shape) in kinds {
        for layer in 0..config.layers {
            let stem = format!("{}model.layers.{layer}.{EXPERTS}", config.prefix);
            let name = format!("{stem}{merged}");
            let Some(tensor) = tensors.remove(&name) else { continue };
            let path = || files.get(tensor.file).map(|file| file.path.clone()).unwrap_or_default();
            let expected = [experts.count, matrices.len() * shape[0], shape[1]];
            if tensor.shape != expected {
                return Err(failures::load(
                    FailureKind::TensorShape,
                    format!(
                        "tensor {} in {}: expected shape {expected:?}, found {:?}",
                        tensor.stored_name.as_ref().unwrap_or(&name),
                        path().display(),
                        tensor.shape
                    ),
                    "use the config.json of the checkpoint that contains the weights",
                ));
            }
            let bytes = tensor.bytes / (experts.count * matrices.len()) as u64;
            for expert in 0..experts.count {
                for (number, matrix) in matrices.iter().enumerate() {
                    let part = SourceTensor {
                        shape: shape.to_vec(),
                        offset: tensor.offset + (expert * matrices.len() + number) as u64 * bytes,
                        bytes,
                        stored_name: tensor.stored_name.clone().or_else(|| Some(name.clone())),
                        ..tensor.clone()
                    };
                    let part_name = format!("{stem}{expert}.{matrix}.weight");
                    if tensors.insert(part_name.clone(), part).is_some() {
                        let what = format!(
                            "tensor {part_name} is duplicated: it is also a part of {name}"
                        );
                        return Err(failures::corrupt(&path(), what));
                    }
                }
            }
        }
    }
    Ok(tensors)
}
