//! What becomes of one tensor of the files.

use super::source_names::file_list;
use crate::failures;
use crate::formats::{Conversion, Source, SourceTensor};
use modelgate_model::{Placement, TensorShape, float_dtype, residence};
use modelgate_protocol::{DType, Failure, FailureKind, Scheme};

/// What becomes of one tensor of the files.
pub(super) struct Job<'a> {
    /// The names that the decoder uses: one, or those of all the experts that the tensor holds.
    pub(super) needed: Vec<String>,
    /// The name in the file.
    pub(super) name: String,
    pub(super) tensor: &'a SourceTensor,
    pub(super) placement: Placement,
    pub(super) form: Form,
}

/// The form in which a tensor becomes resident.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// A float type, from any.
    Float(DType),
    /// Blocks, quantized from any float type.
    Quantize(DType),
    /// The blocks of the file as they are.
    Keep,
    /// Random values or blocks of the tensor's type, made in place.
    Make,
}

/// What decides the form of a tensor, besides the tensor itself.
#[derive(Clone, Copy)]
pub(super) struct FormRule {
    pub(super) conversion: Conversion,
    pub(super) scheme: Scheme,
    pub(super) on_device: bool,
}

impl<'a> Job<'a> {
    /// Creates the job that makes the tensor `needed` of the stored one.
    ///
    /// # Errors
    /// The stored tensor is missing, has another shape, or a type that is not supported.
    pub(super) fn new(
        source: &'a Source,
        needed: String,
        stored: TensorShape,
        rule: FormRule,
    ) -> Result<Job<'a>, Failure> {
        let TensorShape { name, shape: expected } = stored;
        let tensor = source.tensors.get(&name).ok_or_else(|| {
            failures::load(
                FailureKind::TensorMissing,
                format!(
                    "tensor {name} of shape {expected:?} is missing; searched {}",
                    file_list(source)
                ),
                "download the model again: config and weights are not of the same model, or a \
                 file is missing",
            )
        })?;
        if tensor.shape != expected {
            return Err(failures::load(
                FailureKind::TensorShape,
                format!(
                    "tensor {name} in {}: expected shape {expected:?}, found {:?}",
                    source.file_name(tensor),
                    tensor.shape
                ),
                "download the model again: config and weights are not of the same model",
            ));
        }
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let placement = residence(&name, &shape, rule.scheme);
        let form = form(source, &name, tensor, &placement, rule)?;
        Ok(Job { needed: vec![needed], name, tensor, placement, form })
    }

    /// Returns the type that the tensor will have in memory.
    pub(super) fn dtype(&self) -> &DType {
        match &self.form {
            Form::Float(dtype) | Form::Quantize(dtype) => dtype,
            Form::Keep | Form::Make => &self.tensor.dtype,
        }
    }
}

/// Decides the form of a tensor. Blocks of a file are kept, whatever the scheme says: to quantize them
/// again would hide that the file is not what was requested.
fn form(
    source: &Source,
    name: &str,
    tensor: &SourceTensor,
    placement: &Placement,
    rule: FormRule,
) -> Result<Form, Failure> {
    if rule.conversion == Conversion::Make {
        return Ok(Form::Make);
    }
    if tensor.dtype.block().is_none() {
        return Err(failures::load(
            FailureKind::Unsupported,
            format!(
                "tensor {name} in {} has type {}, which is not supported",
                source.file_name(tensor),
                tensor.dtype
            ),
            "use a checkpoint in bf16, f16 or f32, or a GGUF file",
        ));
    }
    if tensor.dtype.is_quantized() && !placement.role.is_quantizable() {
        return Err(failures::load(
            FailureKind::Unsupported,
            format!(
                "tensor {name} in {} has type {}; a {} tensor is expected to be f32, f16 or bf16",
                source.file_name(tensor),
                tensor.dtype,
                placement.role.name()
            ),
            "use a file that the converter of llama.cpp has written",
        ));
    }
    Ok(match (&placement.quantized, rule.conversion) {
        _ if tensor.dtype.is_quantized() => Form::Keep,
        (Some(dtype), Conversion::Quantize) => Form::Quantize(dtype.clone()),
        _ => Form::Float(float_dtype(placement.role, &tensor.dtype, rule.on_device)),
    })
}
