//! `generation` of a synthetic model: finite logits, identical tokens in two runs, and on a device
//! a prefix of the model that agrees with the CPU. The generated text is not judged.

use super::fixed_run::FixedRun;
use super::generation::{is_complete, not_repeated, wrong_numbers};
use super::verdict::{Verdict, without_evidence};
use crate::measurement::Measurement;
use modelgate_model::{COMPARED_LAYERS, Config};
use modelgate_protocol::{Device, FinishReason, Finite, Generation, GenerationRequest};

const LOOK: &str = "report this defect of the engine, or check the device: the results of random \
                    weights must be finite and the same in two runs";

/// The maximum relative error of the logits from the arithmetic of a device: its products of
/// quantized weights quantize activations to 8 bits, and other values have a mantissa of 8 bits.
const MAX_ERROR: f64 = 0.05;

/// Compares the answer with the request, and the agreement with its limit.
pub(super) fn check(measurement: &Measurement, fixed_run: &FixedRun) -> Verdict {
    let config = measurement.config.as_deref().and_then(|text| Config::from_json(text).ok());
    judge(measurement, &fixed_run.request(config.as_ref()))
}

fn judge(measurement: &Measurement, asked: &GenerationRequest) -> Verdict {
    let on_device = on_device(measurement);
    let mut expected = format!(
        "synthetic: {} tokens after {} fixed ones, finite logits, the same tokens twice",
        asked.max_tokens,
        asked.tokens.len()
    );
    if on_device {
        expected.push_str(&format!(
            "; a prefix of {COMPARED_LAYERS} layers within {MAX_ERROR} of the CPU"
        ));
    }
    if !is_complete(measurement) {
        return without_evidence(measurement, expected, measurement.load_s.is_some());
    }
    let verdict = Verdict::passed(expected, observed(measurement), true);
    let wrong = match measurement.generations.as_slice() {
        [generation] if generation.name == asked.name => wrong_generation(generation, asked),
        other => Some(format!("expected one run named \"{}\", found {}", asked.name, other.len())),
    };
    let wrong = wrong.or_else(|| on_device.then(|| wrong_agreement(measurement)).flatten());
    match wrong {
        None => verdict,
        Some(message) => verdict.failed(message, LOOK),
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

fn wrong_generation(generation: &Generation, asked: &GenerationRequest) -> Option<String> {
    let name = &generation.name;
    if generation.prompt_tokens != asked.tokens {
        return Some(format!(
            "{name}: the prompt was {} tokens, which are not the {} requested ones",
            generation.prompt_tokens.len(),
            asked.tokens.len()
        ));
    }
    if let Some(wrong) = wrong_numbers(generation) {
        return Some(wrong);
    }
    let (count, most) = (generation.tokens.len(), asked.max_tokens as usize);
    // a worker that stops early was not timed as requested: random weights do not stop
    let stop = match generation.finish_reason {
        FinishReason::Length => "",
        FinishReason::Stop => " and a stop",
    };
    if count != most || !stop.is_empty() {
        return Some(format!("{name}: {count} tokens{stop} were generated, expected {most}"));
    }
    not_repeated(generation)
}

fn wrong_agreement(measurement: &Measurement) -> Option<String> {
    let Some(agreement) = &measurement.agreement else {
        return Some("no prefix of the model was compared with the CPU".into());
    };
    let config = measurement.config.as_deref().map(Config::from_json);
    let Some(Ok(config)) = config else {
        return Some(
            "there is no config that says how many layers are compared with the \
                     CPU"
            .into(),
        );
    };
    let layers = config.layers.min(COMPARED_LAYERS);
    if agreement.layers as usize != layers || agreement.tokens == 0 {
        return Some(format!(
            "{} layers were compared with the CPU on {} tokens, expected {layers} layers",
            agreement.layers, agreement.tokens
        ));
    }
    let error = agreement.relative_error.map(Finite::get);
    let within = error.is_some_and(|error| (0.0..=MAX_ERROR).contains(&error));
    (!within).then(|| {
        format!(
            "the logits of the first {layers} layers differ from the CPU's by {} of their norm, \
             expected at most {MAX_ERROR}",
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

    fn asked() -> GenerationRequest {
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

    fn on(device: &str) -> Measurement {
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
                nonfinite_logits: 0,
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
        Measurement { agreement: Some(agreement), ..on("cuda:0") }
    }

    fn passes(measurement: &Measurement) {
        let verdict = judge(measurement, &asked());
        assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    }

    fn fails(measurement: &Measurement, says: &str) {
        let verdict = judge(measurement, &asked());
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.unwrap_or_default();
        assert!(message.contains(says), "expected {says:?} in {message}");
    }

    /// Returns a measurement with a changed answer.
    fn changed(change: impl FnOnce(&mut Generation)) -> Measurement {
        let mut measurement = on("cpu");
        change(&mut measurement.generations[0]);
        measurement
    }

    #[test]
    fn on_the_cpu_no_comparison_is_needed() {
        passes(&on("cpu"));
        fails(&on("cuda:0"), "no prefix of the model was compared");
        passes(&on_gpu(finite(0.01)));
    }

    #[test]
    fn a_prefix_that_differs_from_the_cpu_fails() {
        passes(&on_gpu(finite(0.05)));
        fails(&on_gpu(finite(0.2)), "differ from the CPU's by 0.200");
        fails(&on_gpu(finite(-0.01)), "differ");
        fails(&on_gpu(None), "NaN or infinity");
    }

    #[test]
    fn a_prefix_that_is_too_short_fails() {
        let short = |layers, tokens| {
            let agreement = Agreement { layers, tokens, relative_error: finite(0.01) };
            Measurement { agreement: Some(agreement), ..on("cuda:0") }
        };
        fails(&short(1, 16), "1 layers were compared");
        fails(&short(2, 0), "on 0 tokens");
        let one = CONFIG.replace("\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1");
        passes(&Measurement { config: Some(one), ..short(1, 16) });
        fails(&Measurement { config: None, ..short(2, 16) }, "no config");
    }

    #[test]
    fn a_worker_cannot_avoid_the_comparison_by_reporting_the_cpu() {
        fails(&Measurement { devices: vec![Device::Cpu], ..on("cuda:0") }, "no prefix");
        fails(&Measurement { devices: vec![Device::Cuda(0)], ..on("cpu") }, "no prefix");
    }

    #[test]
    fn non_finite_numbers_fail() {
        fails(&changed(|g| g.nonfinite_logits = 1), "1 logits are NaN or infinite");
        fails(&changed(|g| g.logprobs[1] = None), "finite log-probability");
        fails(&changed(|g| g.repeated_identically = false), "different tokens in the second run");
    }

    #[test]
    fn a_different_prompt_or_length_fails() {
        fails(&changed(|g| g.prompt_tokens[2] = 8), "not the 3 requested ones");
        let cut = |g: &mut Generation, length: usize| {
            g.tokens.truncate(length);
            g.logprobs.truncate(length);
        };
        fails(&changed(|g| cut(g, 0)), "no tokens");
        fails(&changed(|g| cut(g, 1)), "1 tokens were generated, expected 2");
        let stopped = |length| {
            changed(|g| {
                cut(g, length);
                g.finish_reason = FinishReason::Stop;
            })
        };
        fails(&stopped(1), "1 tokens and a stop were generated, expected 2");
        fails(&stopped(2), "2 tokens and a stop were generated, expected 2");
    }

    #[test]
    fn a_different_number_of_answers_fails() {
        let mut measurement = on("cpu");
        measurement.generations.clear();
        fails(&measurement, "expected one run named \"fixed\", found 0");
        let mut measurement = on("cpu");
        measurement.generations.push(measurement.generations[0].clone());
        fails(&measurement, "expected one run named \"fixed\", found 2");
        fails(&changed(|g| g.name = "other".into()), "named \"fixed\"");
    }

    #[test]
    fn missing_measurements_are_blocked_or_failed() {
        let failure = Failure::new(Stage::Load, FailureKind::DeviceMemory, "no room", "less");
        let lost = Measurement {
            outcome: Outcome::Failed,
            failure: Some(failure),
            load_s: None,
            ..on("cpu")
        };
        assert_eq!(judge(&lost, &asked()).status, Status::Blocked);
        let loaded = Measurement { load_s: finite(1.0), ..lost };
        assert_eq!(judge(&loaded, &asked()).status, Status::Failed);
    }
}
