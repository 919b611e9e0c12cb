//! Models without weight files: every tensor of the config is generated during loading.

use super::config_json::read_config;
use super::format::{Conversion, Format, OpenedModel};
use super::source::{Source, SourceTensor};
use modelgate_model::{Config, TensorShape, float_dtype, residence, tensors};
use modelgate_protocol::{DType, Failure, ModelFiles, Scheme};

/// The format of models without weight files.
pub(super) struct SyntheticFormat;

impl Format for SyntheticFormat {
    fn open(
        &self,
        files: &ModelFiles,
        scheme: Scheme,
        on_device: bool,
    ) -> Result<OpenedModel, Failure> {
        let config = read_config(files)?;
        let source = synthetic_source(&config, scheme, on_device);
        Ok(OpenedModel::from_config(config, source))
    }

    fn conversion(&self) -> Conversion {
        Conversion::Random
    }
}

/// Returns every tensor that `config` requires, without a file. The types are those of `scheme`;
/// tensors that are not quantized have the types of a checkpoint in bf16.
fn synthetic_source(config: &Config, scheme: Scheme, on_device: bool) -> Source {
    let tensor = |needed: TensorShape| {
        let shape: Vec<u64> = needed.shape.iter().map(|size| *size as u64).collect();
        let placement = residence(&needed.name, &shape, scheme);
        let float = || float_dtype(placement.role, &DType::Bf16, on_device);
        let dtype = placement.quantized.clone().unwrap_or_else(float);
        let bytes = dtype.bytes(needed.elements()).unwrap_or(0);
        let tensor = SourceTensor {
            file: 0,
            shape: needed.shape,
            dtype,
            offset: 0,
            bytes,
            stored_name: None,
        };
        (needed.name, tensor)
    };
    Source { tensors: tensors(config).into_iter().map(tensor).collect(), ..Source::new() }
}
