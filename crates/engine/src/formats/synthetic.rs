//! Models without weight files: every tensor that the config calls for, made when it is loaded.

use super::config_json::read_config;
use super::format::{Conversion, Format, Opened};
use super::source::{Source, SourceTensor};
use modelgate_model::{Config, TensorShape, float_dtype, residence, tensors};
use modelgate_protocol::{DType, Failure, ModelFiles, Scheme};

/// The format of models without weight files.
pub(super) struct SyntheticFormat;

impl Format for SyntheticFormat {
    fn open(&self, files: &ModelFiles, scheme: Scheme, on_device: bool) -> Result<Opened, Failure> {
        let config = read_config(files)?;
        let source = source(&config, scheme, on_device);
        Ok(Opened::described_by_config(config, source))
    }

    fn conversion(&self) -> Conversion {
        Conversion::Make
    }
}

/// Returns every tensor that `config` calls for, in no file. They have the types that `scheme` gives
/// them, and if it leaves them floats those of a checkpoint in bf16.
fn source(config: &Config, scheme: Scheme, on_device: bool) -> Source {
    let tensor = |needed: TensorShape| {
        let shape: Vec<u64> = needed.shape.iter().map(|size| *size as u64).collect();
        let placed = residence(&needed.name, &shape, scheme);
        let float = || float_dtype(placed.role, &DType::Bf16, on_device);
        let dtype = placed.quantized.clone().unwrap_or_else(float);
        let bytes = dtype.bytes(needed.elements()).unwrap_or(0);
        (needed.name, SourceTensor { file: 0, shape: needed.shape, dtype, offset: 0, bytes })
    };
    Source { tensors: tensors(config).into_iter().map(tensor).collect(), ..Source::new() }
}
