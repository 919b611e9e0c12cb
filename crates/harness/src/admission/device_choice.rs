//! Chooses the device of a model whose manifest entry names none. A pure function of the host, the
//! environment and the size of the model.

use super::refusal::Refusal;
use super::spec::LoadSpec;
use crate::settings::variables::{DEVICE, VRAM_LIMIT};
use modelgate_model::units::format_bytes;
use modelgate_model::{float_dtype, residence, tensors};
use modelgate_protocol::{DType, Device, FailureKind, Role};

/// The minimum predicted rate at which a model is placed on the CPU without being asked to, in
/// tokens per second. Below it, the answers to the two built-in questions, of at most 64 tokens each,
/// take more than two minutes.
const MIN_TOKENS_PER_S: f64 = 1.0;

/// The device memory in bytes that a worker uses before its first weight, with the CUDA context, the
/// libraries and the kernels. The largest value in `docs/benchmarks/h200` is 789 MB; smaller GPUs
/// need less.
const DEVICE_BASELINE: u64 = 800_000_000;

/// A GPU that a worker can use, as if no other process used it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedGpu {
    /// The device name, for example `cuda:0`.
    pub device: Device,
    /// The product name.
    pub name: String,
    /// The total memory in bytes.
    pub total: u64,
}

/// The devices of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceOffer {
    /// The device that the environment names. `None` if it names none.
    pub variable: Option<Device>,
    /// The GPUs that a worker can use, or the reason why there are none.
    pub gpus: Result<Vec<OfferedGpu>, String>,
    /// The maximum bytes that a worker may use on each GPU. `None` without a limit.
    pub limit: Option<u64>,
    /// The bandwidth of the host memory in bytes per second. `None` if it is unknown.
    pub host_bytes_per_s: Option<u64>,
}

/// The properties of a model that decide its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNeed {
    /// The bytes of weights, KV cache and activations on a GPU, as far as they are known.
    pub device_bytes: u64,
    /// The bytes of weights that the CPU reads for each token.
    pub token_bytes: u64,
    /// Whether the manifest sets `expect.vram`.
    pub expects_vram: bool,
}

/// A chosen device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenDevice {
    /// The device.
    pub device: Device,
    /// The reason, for the report.
    pub reason: String,
}

/// Returns the device that the environment names, whatever the size of a model. `None` if it names
/// none.
pub fn named_device(offer: &DeviceOffer) -> Option<ChosenDevice> {
    let device = offer.variable?;
    Some(ChosenDevice { device, reason: format!("{DEVICE} is {device}") })
}

/// Chooses the device of a model. The order: the device of the environment; the GPU with the most
/// memory, if the model fits on it when no other process uses it; the CPU, if it is fast enough and
/// the manifest expects no device memory.
///
/// # Errors
/// No device is suitable, with the arithmetic.
pub fn choose_device(offer: &DeviceOffer, need: DeviceNeed) -> Result<ChosenDevice, Refusal> {
    if let Some(named) = named_device(offer) {
        return Ok(named);
    }
    let needed = need.device_bytes.saturating_add(DEVICE_BASELINE);
    let (no_gpu, kind) = match &offer.gpus {
        Err(reason) => (reason.clone(), FailureKind::DeviceNotFound),
        Ok(gpus) => match largest(gpus) {
            None => ("the host has no GPU".to_owned(), FailureKind::DeviceNotFound),
            Some(gpu) => {
                let available = gpu.total.min(offer.limit.unwrap_or(u64::MAX));
                let reason = gpu_arithmetic(gpu, needed, available);
                if needed <= available {
                    return Ok(ChosenDevice { device: gpu.device, reason });
                }
                (reason, FailureKind::DeviceMemory)
            }
        },
    };
    on_cpu(offer, need, &no_gpu, kind)
}

/// Returns the GPU with the most memory; of several, the first one.
pub fn largest(gpus: &[OfferedGpu]) -> Option<&OfferedGpu> {
    gpus.iter().rev().max_by_key(|gpu| gpu.total)
}

fn gpu_arithmetic(gpu: &OfferedGpu, needed: u64, available: u64) -> String {
    let OfferedGpu { device, name, total } = gpu;
    let limit = if available < *total {
        format!(", of which {VRAM_LIMIT} allows {}", format_bytes(available))
    } else {
        String::new()
    };
    format!(
        "the model needs {} of device memory ({} of it for the worker), and {device} ({name}) has \
         {}{limit}",
        format_bytes(needed),
        format_bytes(DEVICE_BASELINE),
        format_bytes(*total)
    )
}

/// Chooses the CPU, because no GPU is suitable for the reason `no_gpu`.
///
/// # Errors
/// The manifest expects device memory, or the CPU is too slow. The refusal has the kind `kind`.
fn on_cpu(
    offer: &DeviceOffer,
    need: DeviceNeed,
    no_gpu: &str,
    kind: FailureKind,
) -> Result<ChosenDevice, Refusal> {
    let other_gpu = match kind {
        FailureKind::DeviceMemory => "use a GPU with more memory",
        _ => "run on a host with an NVIDIA GPU and its driver",
    };
    if need.expects_vram {
        return Err(Refusal {
            kind,
            message: format!(
                "the model needs a GPU, because the manifest sets expect.vram: {no_gpu}"
            ),
            hint: format!("{other_gpu}; or remove `expect.vram`, so that the CPU may be used"),
        });
    }
    let chosen =
        |rate: &str| ChosenDevice { device: Device::Cpu, reason: format!("{no_gpu}; {rate}") };
    let Some(bandwidth) = offer.host_bytes_per_s else {
        return Ok(chosen("the rate on the CPU is unknown"));
    };
    let rate = bandwidth as f64 / need.token_bytes.max(1) as f64;
    let arithmetic = format!(
        "{rate:.2} tokens/s: {}/s of host memory bandwidth, {} of weights for each token",
        format_bytes(bandwidth),
        format_bytes(need.token_bytes)
    );
    if rate >= MIN_TOKENS_PER_S {
        return Ok(chosen(&format!("the predicted rate on the CPU is {arithmetic}")));
    }
    Err(Refusal {
        kind,
        message: format!(
            "the model needs a GPU: {no_gpu}; the predicted rate on the CPU is {arithmetic}; \
             expected at least {MIN_TOKENS_PER_S:.0} token/s"
        ),
        hint: format!(
            "{other_gpu}; or set `quantization` to fewer bits; or set `device = \"cpu\"` to accept \
             the rate of the CPU"
        ),
    })
}

/// Returns the need of a load, from its shapes. The devices of `spec` are ignored.
pub fn device_need(spec: &LoadSpec, expects_vram: bool) -> DeviceNeed {
    let bytes = spec.bytes(true);
    let device_bytes =
        bytes.weights.saturating_add(bytes.kv_cache).saturating_add(bytes.activations);
    DeviceNeed { device_bytes, token_bytes: token_bytes(spec), expects_vram }
}

/// Returns the bytes of the weights that the CPU reads for each token: those of all tensors, but only
/// of the selected experts, and without an embedding of which a token reads one row.
fn token_bytes(spec: &LoadSpec) -> u64 {
    let config = &spec.config;
    let mut bytes = TokenBytes::new(
        config.experts.map(|experts| (experts.per_token as u64, experts.count as u64)),
        config.tied_embeddings,
    );
    for tensor in tensors(config) {
        let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
        let placement = residence(&tensor.name, &shape, spec.quantization);
        let float = || float_dtype(placement.role, &DType::Bf16, false);
        let dtype = placement.quantized.clone().unwrap_or_else(float);
        bytes.add(placement.role, dtype.bytes(tensor.elements()).unwrap_or(0));
    }
    bytes.sum
}

/// The sum of the bytes that are read for each token.
#[derive(Debug, Clone)]
pub struct TokenBytes {
    /// The number of selected experts, and of all experts. `None` for a dense model.
    experts: Option<(u64, u64)>,
    /// Whether the output matrix is the embedding.
    tied: bool,
    /// The sum so far.
    pub sum: u64,
}

impl TokenBytes {
    /// Starts with 0 bytes. `experts` are the numbers of selected and of all experts.
    pub fn new(experts: Option<(u64, u64)>, tied: bool) -> TokenBytes {
        TokenBytes { experts, tied, sum: 0 }
    }

    /// Adds a tensor of `bytes` bytes.
    pub fn add(&mut self, role: Role, bytes: u64) {
        let read = match (role, self.experts) {
            (Role::Embedding, _) if !self.tied => 0,
            (Role::Expert, Some((selected, all))) => {
                (u128::from(bytes) * u128::from(selected) / u128::from(all.max(1))) as u64
            }
            _ => bytes,
        };
        self.sum = self.sum.saturating_add(read);
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::tests::llama_70b;
    use super::*;
    use crate::embedded::known;
    use modelgate_protocol::Scheme;

    const GB: u64 = 1_000_000_000;

    fn gpu(ordinal: u32, gigabytes: u64) -> OfferedGpu {
        OfferedGpu { device: Device::Cuda(ordinal), name: "GPU".into(), total: gigabytes * GB }
    }

    /// A host with this GPU memory in GB, and with a host memory bandwidth of 20 GB/s.
    fn host(gigabytes: &[u64]) -> DeviceOffer {
        let gpus = (0..).zip(gigabytes).map(|(ordinal, total)| gpu(ordinal, *total)).collect();
        let gpus = if gigabytes.is_empty() { Err("no NVIDIA driver".into()) } else { Ok(gpus) };
        DeviceOffer { variable: None, gpus, limit: None, host_bytes_per_s: Some(20 * GB) }
    }

    /// A model with this device memory and these bytes for each token, in GB.
    fn need(device: u64, token: u64) -> DeviceNeed {
        let (device_bytes, token_bytes) = (device * GB, token * GB);
        DeviceNeed { device_bytes, token_bytes, expects_vram: false }
    }

    fn vram(need: DeviceNeed) -> DeviceNeed {
        DeviceNeed { expects_vram: true, ..need }
    }

    fn named(device: Device, offer: DeviceOffer) -> DeviceOffer {
        DeviceOffer { variable: Some(device), ..offer }
    }

    #[test]
    fn the_device_follows_from_environment_memory_and_rate() {
        let (cpu, first, second) = (Device::Cpu, Device::Cuda(0), Device::Cuda(1));
        let on_first = "the model needs 40.8 GB of device memory (800 MB of it for the worker), and \
                        cuda:0 (GPU) has 80.0 GB";
        let limited = DeviceOffer { limit: Some(30 * GB), ..host(&[80]) };
        let unmeasured = DeviceOffer { host_bytes_per_s: None, ..host(&[]) };
        let rows = [
            // the environment decides, whatever the size
            (named(cpu, host(&[80])), need(1, 1), cpu, "MODELGATE_DEVICE is cpu"),
            (named(second, host(&[])), need(500, 500), second, "MODELGATE_DEVICE is cuda:1"),
            (named(cpu, host(&[])), vram(need(500, 500)), cpu, "MODELGATE_DEVICE is cpu"),
            // the largest GPU, and the first of equal ones
            (host(&[80]), need(40, 40), first, on_first),
            (host(&[80]), vram(need(40, 40)), first, on_first),
            (host(&[80, 80]), need(40, 40), first, on_first),
            (host(&[24, 80]), need(20, 20), second, "cuda:1 (GPU) has 80.0 GB"),
            // the CPU, with the reason against the GPU and the rate
            (
                host(&[]),
                need(10, 10),
                cpu,
                "no NVIDIA driver; the predicted rate on the CPU is 2.00",
            ),
            (
                host(&[]),
                need(40, 20),
                cpu,
                "1.00 tokens/s: 20.0 GB/s of host memory bandwidth, 20.0",
            ),
            (host(&[8]), need(10, 10), cpu, "needs 10.8 GB of device memory"),
            (host(&[40]), need(40, 10), cpu, "cuda:0 (GPU) has 40.0 GB; the predicted rate"),
            (limited, need(40, 10), cpu, "of which MODELGATE_VRAM_LIMIT allows 30.0 GB"),
            (unmeasured, need(500, 500), cpu, "the rate on the CPU is unknown"),
        ];
        for (offer, need, device, reason) in rows {
            let chosen = choose_device(&offer, need).expect("a device");
            assert_eq!(chosen.device, device, "{offer:?} {need:?}");
            assert!(chosen.reason.contains(reason), "expected {reason:?} in {}", chosen.reason);
        }
        assert_eq!(named_device(&host(&[80])), None);
    }

    #[test]
    fn a_model_without_a_suitable_device_is_refused_with_the_arithmetic() {
        let no_device = FailureKind::DeviceNotFound;
        let too_small = FailureKind::DeviceMemory;
        let rows = [
            (
                host(&[]),
                need(40, 40),
                no_device,
                "the model needs a GPU: no NVIDIA driver; the predicted rate on the CPU is 0.50 \
                 tokens/s: 20.0 GB/s of host memory bandwidth, 40.0 GB of weights for each token; \
                 expected at least 1 token/s",
                "set `device = \"cpu\"` to accept",
            ),
            (
                host(&[24]),
                need(40, 40),
                too_small,
                "the model needs a GPU: the model needs 40.8 GB of device memory (800 MB of it for \
                 the worker), and cuda:0 (GPU) has 24.0 GB; the predicted rate",
                "use a GPU with more memory; or",
            ),
            (
                host(&[]),
                vram(need(1, 1)),
                no_device,
                "because the manifest sets expect.vram: no NVIDIA driver",
                "remove `expect.vram`",
            ),
            (
                host(&[24]),
                vram(need(40, 1)),
                too_small,
                "because the manifest sets expect.vram: the model needs 40.8 GB",
                "remove `expect.vram`",
            ),
        ];
        for (offer, need, kind, message, hint) in rows {
            let refusal = choose_device(&offer, need).expect_err("refused");
            assert_eq!(refusal.kind, kind);
            assert!(refusal.message.contains(message), "expected {message:?} in {refusal}");
            assert!(refusal.hint.contains(hint), "expected {hint:?} in {}", refusal.hint);
        }
    }

    #[test]
    fn a_dense_model_reads_all_weights_except_the_embedding_for_each_token() {
        // 70,553,706,496 weights without the 128,256 x 8,192 of the embedding, in 4.5 bits, and
        // 161 norms of 8,192 weights in f32 instead
        let matrices = 70_553_706_496u64 - 128_256 * 8_192 - 161 * 8_192;
        let expected = matrices / 256 * 144 + 161 * 8_192 * 4;
        assert_eq!(token_bytes(&llama_70b("q4_k")), expected);
    }

    #[test]
    fn a_mixture_of_experts_reads_only_the_selected_experts_for_each_token() {
        let config = known::config("mistralai/Mixtral-8x22B-Instruct-v0.1");
        let spec = LoadSpec {
            config: config.expect("embedded").expect("a valid config"),
            quantization: Scheme::Q4K,
            ..llama_70b("q4_k")
        };
        // 56 layers with 8 experts of 3 x 16,384 x 6,144 weights, of which 2 are selected
        let expert = 3 * 16_384 * 6_144 / 256 * 144u64;
        let all = device_need(&spec, false);
        let active = all.token_bytes;
        let weights = spec.bytes(false).weights;
        let embedding = 32_768 * 6_144 / 256 * 144;
        assert_eq!(active, weights - embedding - 56 * 6 * expert);
        assert!(all.device_bytes > 79 * GB && active < 23 * GB, "{all:?}");
    }

    #[test]
    fn a_tied_embedding_is_read_completely() {
        for (tied, expected) in [(false, 10), (true, 110)] {
            let mut bytes = TokenBytes::new(None, tied);
            bytes.add(Role::Embedding, 100);
            bytes.add(Role::Linear, 10);
            assert_eq!(bytes.sum, expected);
        }
    }
}
