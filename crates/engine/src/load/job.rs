//! The plan for one tensor of the files.

use super::source_names::file_list;
use crate::failures;
use crate::formats::{Conversion, Source, SourceTensor};
use modelgate_model::{Placement, TensorShape, float_dtype, residence};
use modelgate_protocol::{DType, Failure, FailureKind, Scheme};

/// The plan for one tensor of the files: its place, and the form in which it is loaded.
pub(super) struct Job<'a> {
    /// The names that the decoder uses: one name, or one for each expert in a merged tensor.
    pub(super) needed: Vec<String>,
    /// The name in the file.
    pub(super) name: String,
    pub(super) tensor: &'a SourceTensor,
    /// The role of the tensor, and the type that the scheme gives it.
    pub(super) placement: Placement,
    pub(super) form: Form,
}

/// The form in which a tensor is loaded into memory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Values of a float type, converted from any float type.
    Float(DType),
    /// Blocks of a type, quantized from any float type.
    Quantize(DType),
    /// The blocks of the file, unchanged.
    Keep,
    /// Random values or blocks of the type of the tensor, generated in memory.
    Random,
}

/// The inputs that decide the form of a tensor, in addition to the tensor itself.
#[derive(Clone, Copy)]
pub(super) struct FormRule {
    pub(super) conversion: Conversion,
    pub(super) scheme: Scheme,
    pub(super) on_device: bool,
}

impl<'a> Job<'a> {
    /// Creates the job that loads the tensor `needed` of the architecture from the tensor `stored`
    /// in the files.
    ///
    /// # Errors
    /// The stored tensor is missing, has a wrong shape, or has a type that is not supported.
    pub(super) fn new(
        source: &'a Source,
        needed: String,
        stored: TensorShape,
        rule: FormRule,
    ) -> Result<Job<'a>, Failure> {
        let TensorShape { name, shape: expected } = stored;
        let tensor = source.tensors.get(&name).ok_or_else(|| {
            let mut message = format!(
                "tensor {name} of shape {expected:?} is missing: searched {}",
                file_list(source)
            );
            // without an index, nothing shows whether the tensor was lost or never existed
            let mut hint = String::new();
            if let Some((index, shard)) = source.indexed_shard(&name) {
                message += &format!("; {} places it in {shard}", index.display());
                hint = format!("download {shard} and the index from the same commit");
            }
            failures::load(FailureKind::TensorMissing, message, hint)
        })?;
        if tensor.shape != expected {
            return Err(failures::load(
                FailureKind::TensorShape,
                format!(
                    "tensor {} in {}: expected shape {expected:?}, found {:?}",
                    tensor.label(&name),
                    source.file_name(tensor),
                    tensor.shape
                ),
                "use the config of the checkpoint that contains the weights",
            ));
        }
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let placement = residence(&name, &shape, rule.scheme);
        let form = form(source, &name, tensor, &placement, rule)?;
        Ok(Job { needed: vec![needed], name, tensor, placement, form })
    }

    /// Returns the type that the tensor has in memory after loading.
    pub(super) fn dtype(&self) -> &DType {
        match &self.form {
            Form::Float(dtype) | Form::Quantize(dtype) => dtype,
            Form::Keep | Form::Random => &self.tensor.dtype,
        }
    }
}

/// Decides the form of a tensor. Blocks in a file are kept regardless of the scheme: quantizing
/// them again would hide that the file does not contain the requested type.
///
/// # Errors
/// The type of the tensor is not supported.
fn form(
    source: &Source,
    name: &str,
    tensor: &SourceTensor,
    placement: &Placement,
    rule: FormRule,
) -> Result<Form, Failure> {
    if rule.conversion == Conversion::Random {
        return Ok(Form::Random);
    }
    if tensor.dtype.block().is_none() {
        return Err(failures::load(
            FailureKind::Unsupported,
            format!(
                "tensor {} in {}: type {} is not supported",
                tensor.label(name),
                source.file_name(tensor),
                tensor.dtype
            ),
            "use a checkpoint in bf16, f16 or f32; or use a GGUF file",
        ));
    }
    if tensor.dtype.is_quantized() && !placement.role.is_quantizable() {
        return Err(failures::load(
            FailureKind::Unsupported,
            format!(
                "tensor {} in {}: expected f32, f16 or bf16 for role \"{}\", found {}",
                tensor.label(name),
                source.file_name(tensor),
                placement.role.name(),
                tensor.dtype
            ),
            "use a file that was written by the converter of llama.cpp",
        ));
    }
    Ok(match (&placement.quantized, rule.conversion) {
        _ if tensor.dtype.is_quantized() => Form::Keep,
        (Some(dtype), Conversion::Quantize) => Form::Quantize(dtype.clone()),
        _ => Form::Float(float_dtype(placement.role, &tensor.dtype, rule.on_device)),
    })
}
