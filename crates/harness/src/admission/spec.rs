//! What is to be loaded, as far as memory goes.

use crate::embedded::known::{self, Smaller};
use modelgate_model::{Config, PredictedBytes, mix};
use modelgate_protocol::{DType, Device, Evidence, Scheme};

/// What is to be loaded, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSpec {
    /// The model's shapes.
    pub config: Config,
    /// The quantization to load it with.
    pub quantization: Scheme,
    /// Whether the weights are the model's own. Some layers of a synthetic model on a device are
    /// evaluated on the host too.
    pub evidence: Evidence,
    /// Whether the weights are made in place, without files.
    pub in_place: bool,
    /// Positions of the KV cache, if the manifest gives them.
    pub context: Option<u32>,
    /// The devices that the model is to live on.
    pub devices: Vec<Device>,
    /// Bytes of GGUF files, whose blocks stay as they are: they say more of a mix than its name does.
    pub file_bytes: Option<u64>,
    /// The hub repository, by which the next smaller model of the family is known.
    pub repo: Option<String>,
}

impl LoadSpec {
    /// Returns the positions of the KV cache: what the manifest asks for, else the default of the model.
    pub(super) fn context(&self) -> u32 {
        self.context.unwrap_or_else(|| self.config.default_context())
    }

    /// Returns whether a part of the model may live on a GPU.
    pub(super) fn uses_gpu(&self) -> bool {
        self.devices.iter().any(|device| device.is_cuda())
    }

    /// Returns whether a part of the model may live in host memory.
    pub(super) fn uses_host(&self) -> bool {
        self.devices.contains(&Device::Cpu)
    }

    /// Returns what the model takes. On the CPU all that is not quantized is f32; on a GPU weights keep
    /// 16 bits, and so do keys and values.
    pub(super) fn bytes(&self, on_gpu: bool) -> PredictedBytes {
        let bytes = self.bytes_with(self.quantization, self.context() as usize, on_gpu);
        match (self.file_bytes, mix(self.quantization)) {
            (Some(weights), Some(_)) => PredictedBytes { weights, ..bytes },
            _ => bytes,
        }
    }

    /// Returns what the model would take with another quantization and context.
    pub(super) fn bytes_with(
        &self,
        quantization: Scheme,
        context: usize,
        on_gpu: bool,
    ) -> PredictedBytes {
        modelgate_model::predict(&self.config, quantization, &DType::Bf16, context, on_gpu)
    }

    /// Returns the next smaller model of the family, if it is known.
    pub(super) fn smaller(&self) -> Option<Smaller> {
        self.repo.as_deref().and_then(known::smaller)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Llama 3.1 70B on the first GPU, with a context of 4096.
    pub(in crate::admission) fn llama_70b(quantization: &str) -> LoadSpec {
        let config = known::config("meta-llama/Llama-3.1-70B-Instruct");
        LoadSpec {
            config: config.expect("embedded").expect("sound"),
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
