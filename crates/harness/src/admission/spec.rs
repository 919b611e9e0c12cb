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
    #[test]
    fn the_context_is_that_of_the_manifest_or_the_default() {
        for (context, expected) in [(None, 4096), (Some(1), 1), (Some(9000), 9000)] {
            assert_eq!(LoadSpec { context, ..llama_70b("q4_k") }.context(), expected);
        }
    }

    #[test]
    fn the_devices_decide_where_a_part_may_be() {
        let (cpu, gpu) = (Device::Cpu, Device::Cuda(1));
        for (devices, uses_gpu, uses_host) in [
            (vec![cpu], false, true),
            (vec![gpu], true, false),
            (vec![cpu, gpu], true, true),
            (vec![gpu, Device::Cuda(2)], true, false),
        ] {
            let spec = LoadSpec { devices, ..llama_70b("q4_k") };
            assert_eq!((spec.uses_gpu(), spec.uses_host()), (uses_gpu, uses_host), "{spec:?}");
        }
    }

    #[test]
    fn the_size_of_the_files_counts_only_for_mixes() {
        for (quantization, file_bytes, weights) in [
            ("q4_k", None, 39_690_993_664),
            ("q4_k", Some(7), 39_690_993_664),
            ("q4_k_m", None, 39_690_993_664),
            ("q4_k_m", Some(7), 7),
        ] {
            let spec = LoadSpec { file_bytes, ..llama_70b(quantization) };
            let on_gpu = spec.bytes(true);
            assert_eq!((on_gpu.weights, on_gpu.kv_cache), (weights, 1_342_177_280));
            assert_eq!(spec.bytes(false).kv_cache, 2_684_354_560);
        }
    }

    #[test]
    fn a_smaller_model_is_known_for_a_known_repository() {
        assert_eq!(llama_70b("q4_k").smaller(), None);
        for (repo, smaller) in [
            ("meta-llama/Llama-3.1-70B-Instruct", Some("meta-llama/Llama-3.1-8B-Instruct")),
            ("owner/name", None),
        ] {
            let spec = LoadSpec { repo: Some(repo.into()), ..llama_70b("q4_k") };
            assert_eq!(spec.smaller().map(|smaller| smaller.repo), smaller);
        }
    }
}
