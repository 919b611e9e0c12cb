//! The input of all memory predictions: a model, its quantization and its devices.

use crate::embedded::known::{self, SmallerModel};
use modelgate_model::{Config, PredictedBytes};
use modelgate_protocol::{DType, Device, Evidence, Scheme};

/// The specification of one load: the model, the quantization and the devices.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSpec {
    /// The shapes of the model.
    pub config: Config,
    /// The quantization of the load.
    pub quantization: Scheme,
    /// Whether the weights are trained or random. Some layers of a synthetic model on a device are
    /// also evaluated on the host.
    pub evidence: Evidence,
    /// Whether the weights are made in place, without files.
    pub in_place: bool,
    /// The number of positions of the KV cache. `None` for the default of the model.
    pub context: Option<u32>,
    /// The devices of the model.
    pub devices: Vec<Device>,
    /// The bytes of GGUF files. Their blocks are not converted, so that the size is more exact than
    /// the name of a mix. `None` for a model with a `config.json`.
    pub file_bytes: Option<u64>,
    /// The hub repository, from which the next smaller model of the family is known.
    pub repo: Option<String>,
}

impl LoadSpec {
    /// Returns the positions of the KV cache: the number in the manifest, otherwise the default of
    /// the model.
    pub(super) fn context(&self) -> u32 {
        self.context.unwrap_or_else(|| self.config.default_context())
    }

    /// Returns whether a part of the model may be on a GPU.
    pub(super) fn uses_gpu(&self) -> bool {
        self.devices.iter().any(|device| device.is_cuda())
    }

    /// Returns whether a part of the model may be in host memory.
    pub(super) fn uses_host(&self) -> bool {
        self.devices.contains(&Device::Cpu)
    }

    /// Returns the predicted bytes. On the CPU, values that are not quantized are f32; on a GPU,
    /// weights, keys and values have 16 bits.
    pub(super) fn bytes(&self, on_gpu: bool) -> PredictedBytes {
        let bytes = self.bytes_with(self.quantization, self.context() as usize, on_gpu);
        match self.file_bytes {
            Some(weights) if self.quantization.is_mix() => PredictedBytes { weights, ..bytes },
            _ => bytes,
        }
    }

    /// Returns the predicted bytes for a different quantization and context.
    pub(super) fn bytes_with(
        &self,
        quantization: Scheme,
        context: usize,
        on_gpu: bool,
    ) -> PredictedBytes {
        modelgate_model::predict(&self.config, quantization, &DType::Bf16, context, on_gpu)
    }

    /// Returns the next smaller model of the family. `None` if it is not known.
    pub(super) fn smaller(&self) -> Option<SmallerModel> {
        self.repo.as_deref().and_then(known::smaller)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a load of Llama 3.1 70B on the first GPU, with a context of 4096.
    pub(in crate::admission) fn llama_70b(quantization: &str) -> LoadSpec {
        let config = known::config("meta-llama/Llama-3.1-70B-Instruct");
        LoadSpec {
            config: config.expect("embedded").expect("a valid config"),
            quantization: Scheme::from_name(quantization).expect("a scheme"),
            evidence: Evidence::Real,
            in_place: false,
            context: Some(4096),
            devices: vec![Device::Cuda(0)],
            file_bytes: None,
            repo: None,
        }
    }
}
