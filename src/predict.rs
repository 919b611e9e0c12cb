//! What a model will take in memory, and whether an expectation could be met at all.
//!
//! Pure: shapes and the manifest in, bytes and arithmetic out.

use crate::known;
use crate::manifest::{ByteRange, Expect, Model, Weights, format_bytes};
use modelgate_model::{COMPARED_LAYERS, Config, PredictedBytes, mix};
use modelgate_protocol::{DType, Device, Evidence, Prediction, Scheme};

/// What the engine's process takes on the host beside what the shapes say: runtime, tokenizer,
/// thread stacks, staging buffers, and freed memory that the allocator keeps. With it the prediction
/// for 270 million weights on 2 cores is within 3 % or 30 MB of the measured peak, at none and q4_k,
/// with contexts of 256, 1024 and 2048.
const HOST_BASELINE: u64 = 32_000_000;

/// The same where the model lives on GPUs: the driver's part of the process, libraries, and the
/// page-locked buffers through which weights are read. On one host with 16 cores and a GPU of compute
/// capability 9.0 the peaks of eight models are then within 60 MB of the prediction, and 100 MB above
/// it where the driver had to compile the kernels.
const GPU_HOST_BASELINE: u64 = 300_000_000;
const GPU_STAGING: u64 = 100_000_000;

/// Schemes that are proposed where a model is too large, most bits first.
const PROPOSED: [Scheme; 6] =
    [Scheme::None, Scheme::Q8_0, Scheme::Q6K, Scheme::Q5K, Scheme::Q4K, Scheme::Q4_0];

/// The shortest context that is proposed.
const SHORTEST_CONTEXT: usize = 256;

/// An expectation that no load of the model could satisfy, or a GPU or host that is too small for
/// it.
pub struct Impossible {
    /// The arithmetic.
    pub message: String,
    /// What could be asked for instead.
    pub hint: String,
}

/// Positions of the key/value cache: what the manifest asks for, else what the model gets unasked.
fn context(model: &Model, config: &Config) -> u32 {
    model.context.unwrap_or_else(|| config.default_context())
}

/// Predicted peaks of `model` on `devices`. `file_bytes` are those of GGUF files, whose blocks stay
/// what they are: they say more of a mix than its name.
pub fn predict(
    config: &Config,
    model: &Model,
    devices: &[Device],
    file_bytes: Option<u64>,
) -> Prediction {
    let on_host = devices.iter().all(|device| *device == Device::Cpu);
    let bytes = predicted_bytes(config, model, on_host, file_bytes);
    let sum = bytes.weights.saturating_add(bytes.kv_cache).saturating_add(bytes.activations);
    let (baseline, on_top) = if on_host {
        (HOST_BASELINE, sum)
    } else {
        (GPU_HOST_BASELINE, GPU_STAGING.saturating_add(compared_bytes(config, model)))
    };
    Prediction {
        weights: bytes.weights,
        kv_cache: bytes.kv_cache,
        activations: bytes.activations,
        baseline,
        device_baseline: None,
        host_peak: baseline.saturating_add(on_top),
        device_peak: if on_host { 0 } else { sum },
        disk: match (model.weights, file_bytes) {
            (Weights::InPlace, _) => 0,
            (_, Some(files)) => files,
            // of safetensors every parameter has 16 bits in nearly all repositories
            (_, None) => bytes.parameters.saturating_mul(2),
        },
    }
}

/// Weights in host memory of the layers of a synthetic model that are held against the device's.
fn compared_bytes(config: &Config, model: &Model) -> u64 {
    if model.weights.evidence() != Evidence::Synthetic {
        return 0;
    }
    let prefix = Config { layers: config.layers.min(COMPARED_LAYERS), ..config.clone() };
    modelgate_model::predict(&prefix, model.quantization, &DType::Bf16, 1, false).weights
}

/// `prediction` with what the worker itself has measured that it takes on its devices before the
/// first weight.
pub fn on_devices(prediction: Prediction, baseline: u64) -> Prediction {
    let old = prediction.device_baseline.unwrap_or(0);
    let device_peak = prediction.device_peak.saturating_sub(old).saturating_add(baseline);
    Prediction { device_baseline: Some(baseline), device_peak, ..prediction }
}

/// What there is to be had of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its memory.
    pub total: u64,
    /// In use by others.
    pub others: u64,
    /// What a worker may take of it.
    pub limit: Option<u64>,
    /// What the worker takes of it before the first weight; none where that is not known yet.
    pub baseline: Option<u64>,
}

impl Room {
    /// What a worker can take.
    fn free(&self) -> u64 {
        self.total.saturating_sub(self.others).min(self.limit.unwrap_or(u64::MAX))
    }
}

/// Whether the model is too large for the GPUs that it is to live on, each with what there is to be
/// had of it. Before the workers' baselines are known, weights and key/value cache alone have to
/// fit; then the whole predicted peak. A model that may live in host memory too always fits here.
pub fn too_large(
    config: &Config,
    model: &Model,
    devices: &[Device],
    file_bytes: Option<u64>,
    rooms: &[Room],
) -> Option<Impossible> {
    if rooms.is_empty() || devices.contains(&Device::Cpu) {
        return None;
    }
    let sum = |of: &dyn Fn(&Room) -> u64| rooms.iter().map(of).fold(0, u64::saturating_add);
    let free = sum(&Room::free);
    let baseline = rooms.iter().map(|room| room.baseline).sum::<Option<u64>>();
    let needed = |bytes: &PredictedBytes| {
        let fixed = bytes.weights.saturating_add(bytes.kv_cache);
        match baseline {
            Some(baseline) => fixed.saturating_add(bytes.activations).saturating_add(baseline),
            None => fixed,
        }
    };
    let context = context(model, config);
    let bytes = predicted_bytes(config, model, false, file_bytes);
    let needs = needed(&bytes);
    if needs <= free {
        return None;
    }
    let on_top = baseline.map_or(String::new(), |baseline| {
        format!(
            ", {} of activations and {} before the first weight",
            format_bytes(bytes.activations),
            format_bytes(baseline)
        )
    });
    let limit: Vec<String> = rooms.iter().filter_map(|room| room.limit).map(format_bytes).collect();
    let limited = limit.first().map_or(String::new(), |limit| {
        format!(", {} allows {limit} of each", crate::env::VRAM_LIMIT)
    });
    let gpus = if rooms.len() == 1 { "the GPU".into() } else { format!("{} GPUs", rooms.len()) };
    let message = format!(
        "the model does not fit on {gpus}: {} parameters in {} take {}, the key/value cache for a \
         context of {context} {}{on_top}: {} in all; of {} others use {}{limited}: {} are to be had",
        grouped(bytes.parameters),
        model.quantization,
        format_bytes(bytes.weights),
        format_bytes(bytes.kv_cache),
        format_bytes(needs),
        format_bytes(sum(&|room| room.total)),
        format_bytes(sum(&|room| room.others)),
        format_bytes(free),
    );
    let with = |scheme, context: usize| {
        needed(&modelgate_model::predict(config, scheme, &DType::Bf16, context, true))
    };
    let mut ways = Vec::new();
    // the blocks of a file stay what they are
    let scheme = PROPOSED.iter().find(|scheme| with(**scheme, context as usize) <= free);
    match (file_bytes, scheme) {
        (None, Some(scheme)) => ways.push(format!(
            "quantization = \"{scheme}\" would fit ({})",
            format_bytes(with(*scheme, context as usize))
        )),
        (None, None) => ways.push("no quantization would fit with this context".into()),
        (Some(_), _) => ways.push("a file of fewer bits".into()),
    }
    let shorter = std::iter::successors(Some(context as usize / 2), |context| Some(context / 2))
        .take_while(|context| *context >= SHORTEST_CONTEXT)
        .find(|context| {
            let saved = bytes
                .kv_cache
                .saturating_sub(modelgate_model::kv_cache_bytes(config, *context, true));
            needs.saturating_sub(saved) <= free
        });
    if let Some(context) = shorter {
        ways.push(format!("context = {context} would fit"));
    }
    let smaller = smaller(model, &bytes).into_iter();
    ways.extend(smaller.filter(|(_, bytes)| *bytes < free).map(|(way, _)| way));
    ways.push(format!("a GPU with {} free", format_bytes(needs)));
    Some(Impossible { message, hint: ways.join("; ") })
}

/// The next smaller model of the family, where it is known, with what its weights take about: as
/// many bits each as `bytes` has for this one.
fn smaller(model: &Model, bytes: &PredictedBytes) -> Option<(String, u64)> {
    let smaller = known::smaller(model.source.repo()?)?;
    let share = smaller.parameters as f64 / bytes.parameters as f64;
    let weights = (bytes.weights as f64 * share) as u64;
    let way = format!(
        "{} of the same family has {:.1} billion parameters, about {} in {}",
        smaller.repo,
        smaller.parameters as f64 / 1e9,
        format_bytes(weights),
        model.quantization
    );
    Some((way, weights))
}

/// Whether the host, with `memory` bytes, is too small for the predicted peak; 0 where its memory
/// is not known.
pub fn beyond_host(prediction: &Prediction, model: &Model, memory: u64) -> Option<Impossible> {
    if memory == 0 || prediction.host_peak <= memory {
        return None;
    }
    let process = format_bytes(prediction.baseline);
    let on_gpu = prediction.device_peak > 0;
    let parts = if on_gpu {
        format!("{process} of it for the process")
    } else {
        format!(
            "{} of weights in {}, {} of key/value cache, {} of activations and {process} for the \
             process",
            format_bytes(prediction.weights),
            model.quantization,
            format_bytes(prediction.kv_cache),
            format_bytes(prediction.activations),
        )
    };
    let message = format!(
        "the model does not fit in the host's memory: it takes {} ({parts}), and there are {}",
        format_bytes(prediction.host_peak),
        format_bytes(memory),
    );
    let hint = if on_gpu {
        "a host with more memory".to_owned()
    } else {
        let smaller = model.source.repo().and_then(known::smaller);
        let smaller = smaller.map_or(String::new(), |smaller| {
            format!(", a smaller model of the family ({})", smaller.repo)
        });
        format!(
            "fewer bits (`quantization`), a shorter `context`{smaller}, or a GPU (`device = \
             \"cuda\"`)"
        )
    };
    Some(Impossible { message, hint })
}

/// On the CPU everything that is not quantized is f32; on a GPU weights keep 16 bits and so do
/// keys and values.
fn predicted_bytes(
    config: &Config,
    model: &Model,
    on_host: bool,
    file_bytes: Option<u64>,
) -> PredictedBytes {
    let context = context(model, config) as usize;
    let bytes =
        modelgate_model::predict(config, model.quantization, &DType::Bf16, context, !on_host);
    match (file_bytes, mix(model.quantization)) {
        (Some(weights), Some(_)) => PredictedBytes { weights, ..bytes },
        _ => bytes,
    }
}

/// Whether the expectation's ranges leave no room for the weights and the key/value cache.
///
/// Weights on several devices, or on GPU and host together, count against the sum of both ranges.
pub fn impossible(
    config: &Config,
    model: &Model,
    expect: &Expect,
    devices: &[Device],
    file_bytes: Option<u64>,
) -> Option<Impossible> {
    let on_gpu = devices.iter().any(|device| matches!(device, Device::Cuda(_)));
    let on_cpu = devices.contains(&Device::Cpu);
    let bytes = predicted_bytes(config, model, !on_gpu, file_bytes);
    let needed = bytes.weights.saturating_add(bytes.kv_cache);
    let most = |range: Option<ByteRange>| range.map_or(u64::MAX, |range| range.max);
    let (name, room) = match (on_gpu, on_cpu) {
        (true, false) => ("expect.vram", most(expect.vram)),
        (false, _) => ("expect.ram", most(expect.ram)),
        (true, true) => (
            "expect.vram and expect.ram together",
            most(expect.vram).saturating_add(most(expect.ram)),
        ),
    };
    (needed > room).then(|| Impossible {
        message: format!(
            "{name} allows at most {}, which no load of this model can satisfy: {} parameters in \
             {} take {} ({:.2} bits per weight), and the key/value cache for a context of {} \
             takes {}: {} in all",
            format_bytes(room),
            grouped(bytes.parameters),
            model.quantization,
            format_bytes(bytes.weights),
            bytes.weights as f64 * 8.0 / bytes.parameters as f64,
            context(model, config),
            format_bytes(bytes.kv_cache),
            format_bytes(needed),
        ),
        hint: format!(
            "allow at least {}, or ask for fewer bits or a shorter context",
            format_bytes(needed)
        ),
    })
}

/// 70553706496 as 70,553,706,496.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (index + 3 - first).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Manifest, Weights};

    const GB: u64 = 1_000_000_000;

    fn llama_70b() -> Config {
        let config = crate::known::config("meta-llama/Llama-3.1-70B-Instruct");
        config.expect("embedded").expect("sound")
    }

    fn model(quantization: &str) -> Model {
        let text = format!(
            "schema = 1\n[[model]]\nid = \"m\"\npath = \"/m\"\ndevice = \"cuda\"\n\
             context = 4096\nquantization = \"{quantization}\"\n"
        );
        Manifest::parse(&text, "m.toml", None).expect("sound").models.remove(0)
    }

    fn refusal(quantization: &str, file_bytes: Option<u64>, room: Room) -> Option<Impossible> {
        let devices = [Device::Cuda(0)];
        too_large(&llama_70b(), &model(quantization), &devices, file_bytes, &[room])
    }

    fn room(total: u64) -> Room {
        Room { total: total * GB, others: 0, limit: None, baseline: Some(GB / 2) }
    }

    #[test]
    fn a_smaller_model_of_the_family_is_named_where_it_would_fit() {
        let text = "schema = 1\n[[model]]\nid = \"m\"\ndevice = \"cuda\"\nquantization = \"q4_k\"\n\
                    repo = \"meta-llama/Llama-3.1-70B-Instruct\"\n";
        let model = Manifest::parse(text, "m.toml", None).expect("sound").models.remove(0);
        let hint = |total| {
            let rooms = [room(total)];
            let refused = too_large(&llama_70b(), &model, &[Device::Cuda(0)], None, &rooms);
            refused.expect("refused").hint
        };
        assert!(hint(24).contains("meta-llama/Llama-3.1-8B-Instruct"), "{}", hint(24));
        assert!(hint(24).contains("8.0 billion parameters, about 4.5"), "{}", hint(24));
        assert!(!hint(4).contains("8B"), "{}", hint(4));
        let prediction = predict(&llama_70b(), &model, &[Device::Cpu], None);
        let refused = beyond_host(&prediction, &model, 8 * GB).expect("refused");
        assert!(refused.hint.contains("meta-llama/Llama-3.1-8B-Instruct"), "{}", refused.hint);
    }

    #[test]
    fn a_model_that_fits_is_not_refused() {
        assert!(refusal("q4_k", None, room(48)).is_none());
        assert!(refusal("none", None, room(150)).is_none());
        let both = [Device::Cuda(0), Device::Cpu];
        let fits = too_large(&llama_70b(), &model("none"), &both, None, &[room(24)]);
        assert!(fits.is_none(), "host memory takes the rest");
        let two = [Device::Cuda(0), Device::Cuda(1)];
        let fits = too_large(&llama_70b(), &model("none"), &two, None, &[room(80), room(80)]);
        assert!(fits.is_none(), "two GPUs together");
    }

    #[test]
    fn one_that_does_not_is_refused_with_the_arithmetic_and_what_would_fit() {
        let refused = refusal("none", None, room(48)).expect("refused");
        for part in [
            "70,553,706,496 parameters in none take 141 GB",
            "a context of 4096 1.34 GB",
            "500 MB before the first weight",
            "of 48.0 GB others use 0 B: 48.0 GB are to be had",
        ] {
            assert!(refused.message.contains(part), "expected {part:?} in {}", refused.message);
        }
        assert!(refused.hint.contains("quantization = \"q4_k\" would fit"), "{}", refused.hint);
        assert!(refused.hint.contains("a GPU with 14"), "{}", refused.hint);

        let tiny = refusal("q4_k", None, room(8)).expect("refused");
        assert!(tiny.hint.contains("no quantization would fit"), "{}", tiny.hint);
        let file = refusal("q4_0", Some(39_700_000_000), room(40)).expect("refused");
        assert!(file.message.contains("take 39.7 GB") || file.message.contains("q4_0"));
        assert!(file.hint.contains("a file of fewer bits"), "{}", file.hint);
    }

    #[test]
    fn what_others_use_and_a_limit_make_a_gpu_smaller() {
        let shared = Room { others: 60 * GB, ..room(85) };
        let refused = refusal("q4_k", None, shared).expect("refused");
        assert!(refused.message.contains("of 85.0 GB others use 60.0 GB: 25.0 GB are to be had"));
        let limited = Room { limit: Some(20 * GB), ..room(150) };
        let refused = refusal("q4_k", None, limited).expect("refused");
        let says = "MODELGATE_VRAM_LIMIT allows 20.0 GB of each: 20.0 GB are to be had";
        assert!(refused.message.contains(says), "{}", refused.message);
        let high = Room { limit: Some(900 * GB), ..room(48) };
        assert!(refusal("q4_k", None, high).is_none(), "a limit above the memory is none");
    }

    #[test]
    fn a_shorter_context_is_proposed_where_the_cache_is_what_does_not_fit() {
        let bytes = predicted_bytes(&llama_70b(), &model("q4_k"), false, None);
        let free = bytes.weights + bytes.kv_cache / 2;
        let tight = Room { total: free, others: 0, limit: None, baseline: None };
        let refused = refusal("q4_k", None, tight).expect("refused");
        assert!(refused.hint.contains("context = 2048 would fit"), "{}", refused.hint);
        assert!(!refused.message.contains("before the first weight"), "{}", refused.message);
    }

    #[test]
    fn the_layers_that_the_cpu_evaluates_too_are_on_the_host() {
        let peak = |model: &Model, device| predict(&llama_70b(), model, &[device], None).host_peak;
        let (real, mut synthetic) = (model("q4_k"), model("q4_k"));
        synthetic.weights = Weights::InPlace;
        // embedding, output and two layers of 856 million weights in 4.5 bits
        let more = peak(&synthetic, Device::Cuda(0)) - peak(&real, Device::Cuda(0));
        assert!((2_140_000_000..2_150_000_000).contains(&more), "{more}");
        assert_eq!(peak(&synthetic, Device::Cpu), peak(&real, Device::Cpu));
    }

    /// The engine uses the first device of a list alone.
    #[test]
    fn what_the_engine_does_not_do_is_no_remedy() {
        let mut model = model("q4_k");
        model.expect.vram = Some(ByteRange { min: 0, max: GB });
        let devices = [Device::Cuda(0)];
        let refused = impossible(&llama_70b(), &model, &model.expect, &devices, None);
        let hint = refused.expect("refused").hint;
        assert!(hint.starts_with("allow at least 41") && !hint.contains("device"), "{hint}");
    }

    #[test]
    fn a_host_that_is_too_small_is_told_with_the_arithmetic() {
        let model = model("q4_k");
        let on_cpu = predict(&llama_70b(), &model, &[Device::Cpu], None);
        let refused = beyond_host(&on_cpu, &model, on_cpu.host_peak - 1).expect("refused");
        for part in ["39.7 GB of weights in q4_k", "2.68 GB of key/value cache", "32.0 MB for"] {
            assert!(refused.message.contains(part), "expected {part:?} in {}", refused.message);
        }
        assert!(refused.hint.contains("device = \"cuda\""), "{}", refused.hint);
        assert!(beyond_host(&on_cpu, &model, on_cpu.host_peak).is_none());
        assert!(beyond_host(&on_cpu, &model, 0).is_none(), "not known");
        let on_gpu = predict(&llama_70b(), &model, &[Device::Cuda(0)], None);
        assert!(beyond_host(&on_gpu, &model, GB).is_none());
        let refused = beyond_host(&on_gpu, &model, GB / 10).expect("refused");
        assert!(!refused.hint.contains("cuda"), "{}", refused.hint);
    }

    #[test]
    fn a_baseline_completes_the_prediction() {
        let devices = [Device::Cuda(0)];
        let rough = predict(&llama_70b(), &model("q4_k"), &devices, None);
        assert_eq!(rough.device_baseline, None);
        assert_eq!(rough.device_peak, rough.weights + rough.kv_cache + rough.activations);
        assert_eq!(rough.disk, 2 * 70_553_706_496);
        let whole = on_devices(on_devices(rough.clone(), GB), GB / 2);
        assert_eq!(whole.device_baseline, Some(GB / 2));
        assert_eq!(whole.device_peak, rough.device_peak + GB / 2);
    }
}
