//! `generation` of a synthetic model: finite logits, identical tokens in two runs, and on a device
//! a prefix of the model that agrees with the CPU. The generated text is not judged.

use super::fixed_run::FixedRun;
use super::generation::{invalid_values, is_complete, repetition_error};
use super::verdict::{Verdict, without_evidence};
use crate::measurement::Measurement;
use modelgate_model::{COMPARED_LAYERS, Config};
use modelgate_protocol::{Device, FinishReason, Finite, Generation, GenerationRequest};

const HINT: &str = "report this defect of the engine, or check the device: the results of random \
                    weights must be finite and the same in two runs";

/// The maximum relative error of the logits (norm of the difference divided by the norm) from the
/// arithmetic of a device: its products of quantized weights quantize activations to 8 bits, and
/// other values have a mantissa of 8 bits.
const MAX_ERROR: f64 = 0.05;

/// Compares the answer with the request, and the agreement with its limit.
pub(super) fn check(measurement: &Measurement, fixed_run: &FixedRun) -> Verdict {
    let config = measurement.config.as_deref().and_then(|text| Config::from_json(text).ok());
    verdict(measurement, &fixed_run.request(config.as_ref()))
}

fn verdict(measurement: &Measurement, request: &GenerationRequest) -> Verdict {
    let on_device = on_device(measurement);
    let mut expected = format!(
        "synthetic: {} tokens after {} fixed prompt tokens, finite logits, identical tokens in \
         two runs",
        request.max_tokens,
        request.tokens.len()
    );
    if on_device {
        expected.push_str(&format!(
            "; logits of the first {COMPARED_LAYERS} layers within a relative error of {MAX_ERROR} \
             of the CPU"
        ));
    }
    if !is_complete(measurement) {
        return without_evidence(measurement, expected, measurement.load_s.is_some());
    }
    let verdict = Verdict::passed(expected, observed(measurement), true);
    let wrong = match measurement.generations.as_slice() {
        [generation] if generation.name == request.name => wrong_generation(generation, request),
        other => Some(format!(
            "expected one generation named \"{}\", found {}",
            request.name,
            other.len()
        )),
    };
    let wrong = wrong.or_else(|| on_device.then(|| wrong_agreement(measurement)).flatten());
    match wrong {
        None => verdict,
        Some(message) => verdict.failed(message, HINT),
    }
}

/// Returns whether a part of the model was planned on a device other than the CPU, or was there
/// according to the worker. The report of the worker alone cannot remove a device.
fn on_device(measurement: &Measurement) -> bool {
    let devices = measurement.requested_devices.iter().chain(&measurement.devices);
    devices.into_iter().any(|device| *device != Device::Cpu)
}

fn observed(measurement: &Measurement) -> String {
    let mut parts: Vec<String> = measurement
        .generations
        .iter()
        .map(|g| format!("{}: {} tokens after {}", g.name, g.tokens.len(), g.prompt_tokens.len()))
        .collect();
    if let Some(agreement) = &measurement.agreement {
        parts.push(format!(
            "{} layers differ from the CPU by {}",
            agreement.layers,
            agreement.relative_error.map_or("NaN".into(), |e| format!("{:.1e}", e.get()))
        ));
    }
    parts.join("; ")
}

fn wrong_generation(generation: &Generation, request: &GenerationRequest) -> Option<String> {
    let name = &generation.name;
    if generation.prompt_tokens != request.tokens {
        return Some(format!(
            "{name}: the prompt has {} tokens, which are not the {} requested ones",
            generation.prompt_tokens.len(),
            request.tokens.len()
        ));
    }
    if let Some(wrong) = invalid_values(generation) {
        return Some(wrong);
    }
    let (count, expected) = (generation.tokens.len(), request.max_tokens as usize);
    // a worker that stops early was not timed as requested: random weights do not stop
    let stop = match generation.finish_reason {
        FinishReason::Length => "",
        FinishReason::Stop => " and a stop",
    };
    if count != expected || !stop.is_empty() {
        return Some(format!("{name}: {count} tokens{stop} were generated, expected {expected}"));
    }
    repetition_error(generation)
}

fn wrong_agreement(measurement: &Measurement) -> Option<String> {
    let Some(agreement) = &measurement.agreement else {
        return Some("no prefix of the model was compared with the CPU".into());
    };
    let config = measurement.config.as_deref().map(Config::from_json);
    let Some(Ok(config)) = config else {
        return Some(
            "the number of layers to compare with the CPU is not known: the measurement has no \
             valid config"
                .into(),
        );
    };
    let layers = config.layers.min(COMPARED_LAYERS);
    if agreement.layers as usize != layers || agreement.tokens == 0 {
        return Some(format!(
            "{} layers were compared with the CPU on {} tokens, expected {layers} layers on at \
             least 1 token",
            agreement.layers, agreement.tokens
        ));
    }
    let error = agreement.relative_error.map(Finite::get);
    let within = error.is_some_and(|error| (0.0..=MAX_ERROR).contains(&error));
    (!within).then(|| {
        format!(
            "the logits of the first {layers} layers differ from those of the CPU by {} of their \
             norm, expected at most {MAX_ERROR}",
            error.map_or("NaN or infinity".into(), |error| format!("{error:.3}"))
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::verdict::Status;
    use crate::measurement::Outcome;
    use modelgate_protocol::{Agreement, Failure, FailureKind, Stage};

    const CONFIG: &str = r#"{
        "model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "vocab_size": 96,
        "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 64
    }"#;

    fn request() -> GenerationRequest {
        GenerationRequest {
            name: "fixed".into(),
            messages: Vec::new(),
            tokens: vec![5, 6, 7],
            max_tokens: 2,
        }
    }

    fn finite(value: f64) -> Option<Finite> {
        Finite::new(value)
    }

    fn measured_on(device: &str) -> Measurement {
        Measurement {
            outcome: Outcome::Measured,
            config: Some(CONFIG.into()),
            requested_devices: vec![device.parse().expect("a device")],
            devices: vec![device.parse().expect("a device")],
            load_s: finite(1.0),
            generations: vec![Generation {
                name: "fixed".into(),
                inputs: Vec::new(),
                prompt_tokens: vec![5, 6, 7],
                tokens: vec![1, 2],
                text: String::new(),
                logprobs: vec![finite(-3.0), finite(-4.0)],
                non_finite_logits: 0,
                time_to_first_token_s: None,
                decode_tokens_per_s: None,
                finish_reason: FinishReason::Length,
                repeated_identically: true,
            }],
            ..Measurement::empty()
        }
    }

    fn on_gpu(error: Option<Finite>) -> Measurement {
        let agreement = Agreement { layers: 2, tokens: 16, relative_error: error };
        Measurement { agreement: Some(agreement), ..measured_on("cuda:0") }
    }

    fn assert_passes(measurement: &Measurement) {
        let verdict = verdict(measurement, &request());
        assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    }

    fn assert_fails(measurement: &Measurement, message_part: &str) {
        let verdict = verdict(measurement, &request());
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.unwrap_or_default();
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    }

    /// Returns a measurement on the CPU with a changed answer.
    fn changed(change: impl FnOnce(&mut Generation)) -> Measurement {
        let mut measurement = measured_on("cpu");
        change(&mut measurement.generations[0]);
        measurement
    }

    #[test]
    fn a_measurement_on_the_cpu_needs_no_comparison() {
        assert_passes(&measured_on("cpu"));
        assert_fails(&measured_on("cuda:0"), "no prefix of the model was compared");
        assert_passes(&on_gpu(finite(0.01)));
    }

    #[test]
    fn a_prefix_that_differs_from_the_cpu_fails() {
        assert_passes(&on_gpu(finite(0.05)));
        assert_fails(&on_gpu(finite(0.2)), "differ from those of the CPU by 0.200");
        assert_fails(&on_gpu(finite(-0.01)), "differ");
        assert_fails(&on_gpu(None), "NaN or infinity");
    }

    #[test]
    fn a_prefix_that_is_too_short_fails() {
        let short = |layers, tokens| {
            let agreement = Agreement { layers, tokens, relative_error: finite(0.01) };
            Measurement { agreement: Some(agreement), ..measured_on("cuda:0") }
        };
        assert_fails(&short(1, 16), "1 layers were compared");
        assert_fails(&short(2, 0), "on 0 tokens");
        let one = CONFIG.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1");
        assert_passes(&Measurement { config: Some(one), ..short(1, 16) });
        assert_fails(&Measurement { config: None, ..short(2, 16) }, "no valid config");
    }

    #[test]
    fn a_worker_cannot_avoid_the_comparison_by_reporting_the_cpu() {
        assert_fails(
            &Measurement { devices: vec![Device::Cpu], ..measured_on("cuda:0") },
            "no prefix",
        );
        assert_fails(
            &Measurement { devices: vec![Device::Cuda(0)], ..measured_on("cpu") },
            "no prefix",
        );
    }

    #[test]
    fn non_finite_numbers_fail() {
        assert_fails(&changed(|g| g.non_finite_logits = 1), "1 logits are NaN or infinite");
        assert_fails(&changed(|g| g.logprobs[1] = None), "finite log-probability");
        assert_fails(
            &changed(|g| g.repeated_identically = false),
            "different tokens in the second run",
        );
    }

    #[test]
    fn a_different_prompt_or_length_fails() {
        assert_fails(&changed(|g| g.prompt_tokens[2] = 8), "are not the 3 requested ones");
        let cut = |g: &mut Generation, length: usize| {
            g.tokens.truncate(length);
            g.logprobs.truncate(length);
        };
        assert_fails(&changed(|g| cut(g, 0)), "no tokens");
        assert_fails(&changed(|g| cut(g, 1)), "1 tokens were generated, expected 2");
        let stopped = |length| {
            changed(|g| {
                cut(g, length);
                g.finish_reason = FinishReason::Stop;
            })
        };
        assert_fails(&stopped(1), "1 tokens and a stop were generated, expected 2");
        assert_fails(&stopped(2), "2 tokens and a stop were generated, expected 2");
    }

    #[test]
    fn a_different_number_of_answers_fails() {
        let mut measurement = measured_on("cpu");
        measurement.generations.clear();
        assert_fails(&measurement, "expected one generation named \"fixed\", found 0");
        let mut measurement = measured_on("cpu");
        measurement.generations.push(measurement.generations[0].clone());
        assert_fails(&measurement, "expected one generation named \"fixed\", found 2");
        assert_fails(&changed(|g| g.name = "other".into()), "named \"fixed\"");
    }

    #[test]
    fn missing_measurements_are_blocked_or_failed() {
        let failure = Failure::new(Stage::Load, FailureKind::DeviceMemory, "no room", "less");
        let lost = Measurement {
            outcome: Outcome::Failed,
            failure: Some(failure),
            load_s: None,
            ..measured_on("cpu")
        };
        assert_eq!(verdict(&lost, &request()).status, Status::Blocked);
        let loaded = Measurement { load_s: finite(1.0), ..lost };
        assert_eq!(verdict(&loaded, &request()).status, Status::Failed);
    }
    #[test]
    fn the_limit_of_the_difference_is_inclusive() {
        assert_passes(&on_gpu(finite(0.0)));
        assert_passes(&on_gpu(finite(MAX_ERROR)));
        assert_fails(&on_gpu(finite(0.050_001)), "by 0.050 of their norm, expected at most 0.05");
        assert_fails(&on_gpu(finite(-0.000_001)), "differ from those of the CPU");
    }

    #[test]
    fn a_prefix_of_the_wrong_length_fails() {
        let compared = |layers, tokens| {
            let agreement = Agreement { layers, tokens, relative_error: finite(0.01) };
            Measurement { agreement: Some(agreement), ..measured_on("cuda:0") }
        };
        assert_passes(&compared(2, 1));
        for (layers, tokens) in [(0, 16), (1, 16), (3, 16), (u32::MAX, 16), (2, 0), (0, 0)] {
            let message = format!(
                "{layers} layers were compared with the CPU on {tokens} tokens, expected 2 layers \
                 on at least 1 token"
            );
            assert_fails(&compared(layers, tokens), &message);
        }
    }

    #[test]
    fn a_prefix_is_compared_also_if_only_a_part_is_on_a_device() {
        let devices = vec![Device::Cpu, Device::Cuda(1)];
        let requested = Measurement { requested_devices: devices.clone(), ..measured_on("cpu") };
        assert_fails(&requested, "no prefix of the model was compared");
        assert_fails(&Measurement { devices, ..measured_on("cpu") }, "no prefix of the model");
        // a wrong answer is reported before a missing comparison
        let mut wrong = measured_on("cuda:0");
        wrong.generations[0].non_finite_logits = 1;
        assert_fails(&wrong, "1 logits are NaN or infinite");
    }

    #[test]
    fn the_verdict_describes_the_request_and_the_answer() {
        let on_cpu = verdict(&measured_on("cpu"), &request());
        let expected = "synthetic: 2 tokens after 3 fixed prompt tokens, finite logits, identical \
                        tokens in two runs";
        assert_eq!((on_cpu.expected.as_str(), on_cpu.derived), (expected, true));
        assert_eq!(on_cpu.observed, "fixed: 2 tokens after 3");
        let on_device = verdict(&on_gpu(finite(0.01)), &request());
        let comparison =
            "; logits of the first 2 layers within a relative error of 0.05 of the CPU";
        assert_eq!(on_device.expected, format!("{expected}{comparison}"));
        assert_eq!(
            on_device.observed,
            "fixed: 2 tokens after 3; 2 layers differ from the CPU by 1.0e-2"
        );
        let broken = verdict(&on_gpu(None), &request());
        assert_eq!(broken.observed, "fixed: 2 tokens after 3; 2 layers differ from the CPU by NaN");
    }
}
