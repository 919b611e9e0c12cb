//! `memory_range`: the peaks of device memory and private host memory are within their ranges, and
//! the device memory is released.

use super::expectation::{Expectation, ExpectedValue};
use super::verdict::{Verdict, without_evidence};
use crate::admission::{ByteRange, Prediction};
use crate::measurement::{
    DeviceMemory, ForeignProcess, Measurement, Outcome, PeakSource, UNLOAD_TOLERANCE,
};
use modelgate_model::units::{format_bytes, format_duration};
use modelgate_protocol::{Device, FailureKind, Finite, Stage};
use std::time::Duration;

/// Compares both peaks with their ranges, and the devices with their state before the load.
///
/// A measurement that did not complete blocks the check, because the peak could have come later.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let prediction = measurement.memory.prediction.as_ref();
    let vram = expectation.vram_range(prediction);
    let ram = expectation.ram_range(prediction);
    let on_device = !measurement.memory.devices.is_empty()
        || prediction.is_some_and(|prediction| prediction.device_peak > 0)
        || devices_of(measurement).any(Device::is_cuda);
    let vram = vram.filter(|range| on_device || !range.derived);
    let expected = [("VRAM", vram), ("RAM", ram)]
        .into_iter()
        .filter_map(|(name, range)| range.map(|range| format!("{name} {}", range.value)))
        .collect::<Vec<_>>()
        .join(", ");
    let host = measurement.memory.host.as_ref();
    let (Outcome::Measured, Some(host)) = (measurement.outcome, host) else {
        // a worker that does not end well may not have released its memory
        let subject = measurement.failure.as_ref().is_some_and(|failure| {
            failure.kind == FailureKind::ExpectationUnreachable || failure.stage == Stage::Unload
        });
        return without_evidence(measurement, expected, subject);
    };
    let device_peak =
        measurement.memory.devices.iter().fold(0u64, |sum, device| sum.saturating_add(device.peak));
    let mut observed = format!("RAM {}", format_bytes(host.peak_private));
    if on_device {
        let devices = &measurement.memory.devices;
        let (unseen_note, others_note) = (unseen_use_note(devices), other_processes_note(devices));
        observed =
            format!("VRAM {}{unseen_note}, {observed}{others_note}", format_bytes(device_peak));
    }
    let derived = [vram, ram].iter().flatten().all(|range| range.derived);
    let verdict = Verdict::passed(expected, observed, derived);
    let missing = [
        ("device", "expect.vram", on_device && vram.is_none()),
        ("host", "expect.ram", ram.is_none()),
    ];
    if let Some((name, key, _)) = missing.into_iter().find(|(_, _, is_missing)| *is_missing) {
        return verdict.failed(
            format!(
                "no expected range of {name} memory: the shapes of the model are not known, and \
                 the manifest has no {key}"
            ),
            format!("set {key} in the manifest"),
        );
    }
    if vram.is_some() && !on_device {
        return verdict.failed(
            format!(
                "device memory was not measured: the manifest expects it, but the model was on {}",
                joined(&measurement.devices)
            ),
            "set `device` to a GPU, or remove expect.vram",
        );
    }
    if let Some(message) = unmeasured_device(measurement, on_device) {
        return verdict.failed(message, "report this defect of modelgate, or of its worker");
    }
    if let Some((message, hint)) = measurement.memory.devices.iter().find_map(unusable_figures) {
        return verdict.failed(message, hint);
    }
    let mut devices = measurement.memory.devices.iter();
    if let Some(message) = devices.find_map(|device| unaccounted_tensors(device, measurement)) {
        return verdict.failed(
            message,
            "report this defect of the worker: its tensors are not on the reported device, or its \
             allocator reports wrong figures",
        );
    }
    let out_of_range = [("VRAM", vram, device_peak), ("RAM", ram, host.peak_private)]
        .into_iter()
        .find_map(|(name, range, peak)| range_error(name, range?, peak, prediction));
    match out_of_range {
        None => verdict,
        Some(message) => verdict.failed(
            message,
            "compare the timeline with the parts of the prediction in the report; or set `expect.vram` or \
             `expect.ram` if the peak is right for this host",
        ),
    }
}

/// Returns the devices of the model: the requested ones, and those that the worker reported.
fn devices_of(measurement: &Measurement) -> impl Iterator<Item = Device> {
    measurement.requested_devices.iter().chain(&measurement.devices).copied()
}

/// Returns an error if the model was on a GPU whose memory was not measured.
fn unmeasured_device(measurement: &Measurement, on_device: bool) -> Option<String> {
    let measured = &measurement.memory.devices;
    let is_measured = |device: &Device| measured.iter().any(|memory| memory.device == *device);
    match devices_of(measurement).find(|device| device.is_cuda() && !is_measured(device)) {
        Some(device) => Some(format!("the memory of {device} was not measured")),
        None if on_device && measured.is_empty() => {
            Some("device memory was not measured: the prediction contains device memory".into())
        }
        None => None,
    }
}

fn joined(devices: &[Device]) -> String {
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns a note on how short an unseen use of the devices may be. Empty if no device was
/// measured.
fn unseen_use_note(devices: &[DeviceMemory]) -> String {
    let longest = |gap_of: fn(&DeviceMemory) -> Option<Finite>| {
        let gaps = devices.iter().filter_map(gap_of).map(Finite::get);
        gaps.max_by(f64::total_cmp)
            .and_then(|gap| Duration::try_from_secs_f64(gap).ok())
            .map_or("an unknown time".to_owned(), format_duration)
    };
    if devices.is_empty() {
        String::new()
    } else if devices.iter().any(|device| device.peak_source == PeakSource::Samples) {
        let gap = longest(|device| device.longest_gap_s);
        format!(" (sampled: a use shorter than {gap} can be missed)")
    } else {
        let gap = longest(|device| device.outside_allocator_gap_s);
        format!(" (a use outside the allocator shorter than {gap} can be missed)")
    }
}

/// Returns a note on the memory that other processes used on the devices.
fn other_processes_note(devices: &[DeviceMemory]) -> String {
    let reported =
        devices.iter().filter(|device| !device.foreign_processes.is_empty()).map(|device| {
            let processes: Vec<String> = device
                .foreign_processes
                .iter()
                .map(|process| format!("{} {}", process_name(process), format_bytes(process.bytes)))
                .collect();
            format!(
                "; used on {} by other processes, not counted: {}",
                device.device,
                processes.join(", ")
            )
        });
    let not_separated = devices.iter().filter(|device| !device.per_process).map(|device| {
        format!(
            "; the driver does not show which process is the worker: its memory on {} is the \
             growth of the memory in use",
            device.device
        )
    });
    reported.chain(not_separated).collect()
}

fn process_name(process: &ForeignProcess) -> String {
    format!("{} (process {})", process.name.as_deref().unwrap_or("a process"), process.pid)
}

/// Returns an error if less memory of `device` was used than the reported tensors need.
fn unaccounted_tensors(device: &DeviceMemory, measurement: &Measurement) -> Option<String> {
    let tensors = measurement.tensors.list.iter().filter(|tensor| tensor.device == device.device);
    let tensor_bytes = tensors.map(|tensor| tensor.bytes).fold(0, u64::saturating_add);
    (device.peak < tensor_bytes).then(|| {
        format!(
            "the worker reports {} of tensors on {}, more than the measured peak of {}",
            format_bytes(tensor_bytes),
            device.device,
            format_bytes(device.peak)
        )
    })
}

/// Returns why the figures of a device are not usable, or that memory was not released, with a
/// hint.
fn unusable_figures(device: &DeviceMemory) -> Option<(String, &'static str)> {
    let name = &device.device;
    if let Some(reason) = &device.attribution_problem {
        let message = format!(
            "the memory of the worker on {name} cannot be separated from that of other processes: \
             {reason}"
        );
        let hint = "run again while no other process uses the GPU; or, in a container, share the \
                    process IDs of the host (`--pid=host`)";
        return Some((message, hint));
    }
    if device.samples == 0 {
        let message = format!("the memory of {name} was not read while the worker ran");
        return Some((message, "check that `nvidia-smi` always shows the memory of the GPU"));
    }
    let Some(after) = device.after_unload else {
        let message = format!("the memory of {name} could not be read after the end of the worker");
        return Some((message, "check that `nvidia-smi` shows the memory of the GPU"));
    };
    let left = after.saturating_sub(device.before);
    if left <= UNLOAD_TOLERANCE {
        return None;
    }
    let holders = if device.foreign_processes.is_empty() {
        "the driver shows no process that uses it".to_owned()
    } else {
        let others: Vec<String> = device.foreign_processes.iter().map(process_name).collect();
        format!("possibly used by {}", others.join(", "))
    };
    let message = format!(
        "{} of {name} were not released: {} in use before the worker, {} after its end; {holders}",
        format_bytes(left),
        format_bytes(device.before),
        format_bytes(after),
    );
    Some((
        message,
        "run `nvidia-smi` and `fuser -v /dev/nvidia*` to see the processes that use the GPU: a \
         process that the worker started may still run",
    ))
}

/// Returns the error if `peak` is not in `range`.
fn range_error(
    name: &str,
    range: ExpectedValue<ByteRange>,
    peak: u64,
    prediction: Option<&Prediction>,
) -> Option<String> {
    if range.value.contains(peak) {
        return None;
    }
    let side = if peak > range.value.max { "above" } else { "below" };
    let mut message = format!(
        "peak {name} is {}, {side} the range: expected {}",
        format_bytes(peak),
        range.value
    );
    if let Some(prediction) = prediction {
        message.push_str(&prediction_parts(prediction, name == "VRAM"));
    }
    Some(message)
}

/// Returns the parts of the predicted peak, of the devices or of the host.
fn prediction_parts(prediction: &Prediction, of_devices: bool) -> String {
    let process = format_bytes(prediction.baseline);
    let last_part = match (of_devices, prediction.device_peak > 0, prediction.device_baseline) {
        (false, true, _) => {
            return format!(
                "; predicted: {}, including {process} for the worker process",
                format_bytes(prediction.host_peak)
            );
        }
        (false, false, _) => format!("{process} for the worker process"),
        (true, _, Some(baseline)) => {
            format!("{} before the first weight is loaded", format_bytes(baseline))
        }
        (true, _, None) => "an unknown amount before the first weight is loaded".to_owned(),
    };
    format!(
        "; predicted: {} of weights, {} of KV cache, {} of activations and {last_part}",
        format_bytes(prediction.weights),
        format_bytes(prediction.kv_cache),
        format_bytes(prediction.activations),
    )
}

#[cfg(test)]
mod tests {
    use super::super::expectation::tests::expectation;
    use super::super::kind::Check;
    use super::super::verdict::Status;
    use super::*;
    use crate::admission::MemoryBounds;
    use crate::measurement::HostMemory;
    use modelgate_protocol::{DType, Role, Tensor};

    const GB: u64 = 1_000_000_000;

    fn device() -> DeviceMemory {
        DeviceMemory {
            device: Device::Cuda(0),
            uuid: "GPU-1".into(),
            before: GB,
            after_load: 40 * GB,
            peak_load: 41 * GB,
            peak: 41_200_000_000,
            peak_source: PeakSource::HighWaterMark,
            after_unload: Some(GB),
            predicted_peak: None,
            foreign_peak: 0,
            foreign_processes: Vec::new(),
            per_process: true,
            attribution_problem: None,
            outside_allocator_gap_s: Finite::new(0.003),
            samples: 1000,
            longest_gap_s: Finite::new(0.007),
        }
    }

    /// Returns a healthy measurement of these devices.
    fn measured(devices: Vec<DeviceMemory>) -> Measurement {
        let mut measurement = Measurement::empty();
        measurement.outcome = Outcome::Measured;
        measurement.requested_devices = match devices.as_slice() {
            [] => vec![Device::Cpu],
            devices => devices.iter().map(|memory| memory.device).collect(),
        };
        measurement.devices = measurement.requested_devices.clone();
        measurement.memory.devices = devices;
        measurement.memory.host = Some(HostMemory {
            before: 0,
            after_load: None,
            peak_private: 300_000_000,
            peak_source: PeakSource::Samples,
            peak_rss: 0,
            predicted_peak: None,
            cgroup_peak: None,
            samples: 10,
            longest_gap_s: Finite::seconds(Duration::ZERO),
        });
        measurement
    }

    fn verdict(measurement: &Measurement, vram: Option<ByteRange>) -> Verdict {
        let ram = Some(ByteRange { min: 0, max: GB });
        let memory = MemoryBounds { vram, ram };
        let expectation = Expectation { memory, ..expectation("q4_k") };
        Check::MemoryRange.verdict(measurement, &expectation)
    }

    const RANGE: Option<ByteRange> = Some(ByteRange { min: 38 * GB, max: 45 * GB });

    fn assert_fails(device: DeviceMemory, message_part: &str) {
        let verdict = verdict(&measured(vec![device]), RANGE);
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.unwrap_or_default();
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
        assert!(verdict.hint.is_some_and(|hint| !hint.is_empty()));
    }

    #[test]
    fn a_healthy_load_passes_and_reports_the_unseen_interval() {
        let passed = verdict(&measured(vec![device()]), RANGE);
        assert_eq!(passed.status, Status::Passed, "{passed:?}");
        assert_eq!(
            passed.observed,
            "VRAM 41.2 GB (a use outside the allocator shorter than 3 ms can be missed), RAM 300 MB"
        );
        let sampled = DeviceMemory { peak_source: PeakSource::Samples, ..device() };
        let passed = verdict(&measured(vec![sampled]), RANGE);
        let expected = "VRAM 41.2 GB (sampled: a use shorter than 7 ms can be missed)";
        assert!(passed.observed.starts_with(expected), "{}", passed.observed);
        let within = DeviceMemory { after_unload: Some(GB + UNLOAD_TOLERANCE), ..device() };
        assert_eq!(verdict(&measured(vec![within]), RANGE).status, Status::Passed);
    }

    #[test]
    fn a_peak_outside_the_range_fails() {
        assert_fails(
            DeviceMemory { peak: 46 * GB, ..device() },
            "peak VRAM is 46.0 GB, above the range: expected 38.0 GB to",
        );
        assert_fails(DeviceMemory { peak: GB, ..device() }, "peak VRAM is 1.00 GB, below");
    }

    #[test]
    fn peaks_of_several_devices_are_summed() {
        let half = DeviceMemory { peak: 21 * GB, ..device() };
        let other = DeviceMemory { device: Device::Cuda(1), ..half.clone() };
        let two = verdict(&measured(vec![half.clone(), other.clone()]), RANGE);
        assert_eq!(two.status, Status::Passed, "{two:?}");
        assert!(two.observed.starts_with("VRAM 42.0 GB"), "{}", two.observed);
        let above = DeviceMemory { peak: 25 * GB, ..other };
        assert_eq!(verdict(&measured(vec![half, above]), RANGE).status, Status::Failed, "46 GB");
    }

    #[test]
    fn a_peak_above_the_derived_range_fails_with_the_parts_of_the_prediction() {
        let mut measurement = measured(vec![DeviceMemory { peak: 60 * GB, ..device() }]);
        measurement.memory.prediction = Some(prediction());
        let failed = verdict(&measurement, None);
        assert_eq!(failed.status, Status::Failed, "derived from the prediction");
        assert_eq!(
            failed.message.as_deref(),
            Some(
                "peak VRAM is 60.0 GB, above the range: expected 40.4 GB to 44.6 GB; predicted: \
                 40.0 GB of weights, 1.00 GB of KV cache, 1.00 GB of activations and 500 MB before \
                 the first weight is loaded"
            )
        );
    }

    /// Returns the prediction of a model on a GPU.
    fn prediction() -> Prediction {
        Prediction {
            weights: 40 * GB,
            kv_cache: GB,
            activations: GB,
            baseline: 250_000_000,
            device_baseline: Some(500_000_000),
            host_peak: 350_000_000,
            device_peak: 42_500_000_000,
            thread_buffers: None,
            disk: 0,
        }
    }

    /// Returns the prediction of a model on the CPU.
    fn prediction_on_the_cpu() -> Prediction {
        Prediction {
            weights: 4 * GB,
            device_baseline: None,
            host_peak: 6_250_000_000,
            device_peak: 0,
            ..prediction()
        }
    }

    /// Returns a healthy measurement on the CPU with this peak.
    fn on_the_cpu(peak_private: u64, prediction: Option<Prediction>) -> Measurement {
        let mut measurement = measured(Vec::new());
        measurement.memory.host.as_mut().expect("host memory").peak_private = peak_private;
        measurement.memory.prediction = prediction;
        measurement
    }

    /// Returns the verdict with these ranges of the manifest.
    fn verdict_within(measurement: &Measurement, memory: MemoryBounds) -> Verdict {
        let expectation = Expectation { memory, ..expectation("q4_k") };
        Check::MemoryRange.verdict(measurement, &expectation)
    }

    #[test]
    fn the_bounds_of_a_range_are_inclusive() {
        let range = |min, max| Some(ByteRange { min, max });
        let loose = range(0, u64::MAX);
        let (min, max) = (2 * GB, 3 * GB);
        for (peak, status) in [
            (min - 1, Status::Failed),
            (min, Status::Passed),
            (2_500_000_000, Status::Passed),
            (max, Status::Passed),
            (max + 1, Status::Failed),
        ] {
            let of_host = on_the_cpu(peak, None);
            let bounds = MemoryBounds { vram: None, ram: range(min, max) };
            assert_eq!(verdict_within(&of_host, bounds).status, status, "RAM {peak}");
            let mut of_device = measured(vec![DeviceMemory { peak, ..device() }]);
            let bounds = MemoryBounds { vram: range(min, max), ram: loose };
            assert_eq!(verdict_within(&of_device, bounds).status, status, "VRAM {peak}");
            // each range is compared with its own peak
            of_device.memory.host.as_mut().expect("host memory").peak_private = peak;
            let bounds = MemoryBounds { vram: loose, ram: range(min, max) };
            assert_eq!(verdict_within(&of_device, bounds).status, status, "RAM with VRAM {peak}");
        }
        let verdict = verdict_within(
            &on_the_cpu(max + 1_000_000_000, None),
            MemoryBounds { vram: None, ram: range(min, max) },
        );
        assert_eq!(
            verdict.message.as_deref(),
            Some("peak RAM is 4.00 GB, above the range: expected 2.00 GB to 3.00 GB")
        );
        let verdict = verdict_within(
            &on_the_cpu(GB, None),
            MemoryBounds { vram: None, ram: range(min, max) },
        );
        assert_eq!(
            verdict.message.as_deref(),
            Some("peak RAM is 1.00 GB, below the range: expected 2.00 GB to 3.00 GB")
        );
    }

    #[test]
    fn the_bounds_of_a_derived_range_are_inclusive() {
        // 5 % of 6.25 GB are 312.5 MB
        for (peak, status) in [
            (5_937_499_999, Status::Failed),
            (5_937_500_000, Status::Passed),
            (6_562_500_000, Status::Passed),
            (6_562_500_001, Status::Failed),
        ] {
            let measurement = on_the_cpu(peak, Some(prediction_on_the_cpu()));
            let verdict = verdict_within(&measurement, MemoryBounds::default());
            assert_eq!(verdict.status, status, "{verdict:?}");
            assert!(verdict.derived);
            assert_eq!(verdict.expected, "RAM 5.94 GB to 6.56 GB", "no VRAM on the CPU");
        }
        // 5 % of 42.5 GB are 2.125 GB
        for (peak, status) in [
            (40_374_999_999, Status::Failed),
            (40_375_000_000, Status::Passed),
            (44_625_000_000, Status::Passed),
            (44_625_000_001, Status::Failed),
        ] {
            let mut measurement = measured(vec![DeviceMemory { peak, ..device() }]);
            measurement.memory.prediction = Some(prediction());
            let verdict = verdict_within(&measurement, MemoryBounds::default());
            assert_eq!(verdict.status, status, "{verdict:?}");
            assert_eq!(verdict.expected, "VRAM 40.4 GB to 44.6 GB, RAM 250 MB to 450 MB");
        }
    }

    #[test]
    fn a_range_is_derived_only_if_the_manifest_gives_none() {
        let given = Some(ByteRange { min: 0, max: 50 * GB });
        let mut measurement = measured(vec![device()]);
        measurement.memory.prediction = Some(prediction());
        for (vram, ram, derived) in
            [(None, None, true), (given, None, false), (None, given, false), (given, given, false)]
        {
            let verdict = verdict_within(&measurement, MemoryBounds { vram, ram });
            assert_eq!((verdict.status, verdict.derived), (Status::Passed, derived), "{verdict:?}");
        }
    }

    #[test]
    fn the_parts_of_the_host_memory_depend_on_the_device() {
        let verdict =
            verdict_within(&on_the_cpu(GB, Some(prediction_on_the_cpu())), MemoryBounds::default());
        assert_eq!(
            verdict.message.as_deref(),
            Some(
                "peak RAM is 1.00 GB, below the range: expected 5.94 GB to 6.56 GB; predicted: \
                 4.00 GB of weights, 1.00 GB of KV cache, 1.00 GB of activations and 250 MB for \
                 the worker process"
            )
        );
        let mut measurement = measured(vec![device()]);
        measurement.memory.host.as_mut().expect("host memory").peak_private = GB;
        measurement.memory.prediction = Some(prediction());
        assert_eq!(
            verdict_within(&measurement, MemoryBounds::default()).message.as_deref(),
            Some(
                "peak RAM is 1.00 GB, above the range: expected 250 MB to 450 MB; predicted: 350 \
                 MB, including 250 MB for the worker process"
            )
        );
        let unknown = Prediction { device_baseline: None, ..prediction() };
        measurement.memory.devices[0].peak = GB;
        measurement.memory.prediction = Some(unknown);
        let message = verdict_within(&measurement, MemoryBounds::default()).message;
        let expected = "and an unknown amount before the first weight is loaded";
        assert!(message.as_deref().is_some_and(|m| m.ends_with(expected)), "{message:?}");
    }

    #[test]
    fn a_model_on_a_gpu_without_measured_device_memory_fails() {
        let loose = Some(ByteRange { min: 0, max: u64::MAX });
        let on_gpu = Some(Device::Cuda(0));
        let cases = [
            // requested, reported, predicted, expect.vram
            (on_gpu, on_gpu, None, loose),
            (on_gpu, None, None, loose),
            (None, on_gpu, None, loose),
            (on_gpu, on_gpu, Some(prediction()), None),
            (on_gpu, on_gpu, Some(prediction()), loose),
            (on_gpu, None, Some(prediction_on_the_cpu()), None),
            (None, None, Some(prediction()), None),
        ];
        for (requested, reported, predicted, vram) in cases {
            let measurement = Measurement {
                requested_devices: vec![requested.unwrap_or(Device::Cpu)],
                devices: vec![reported.unwrap_or(Device::Cpu)],
                ..on_the_cpu(GB, predicted)
            };
            let verdict = verdict_within(&measurement, MemoryBounds { vram, ram: loose });
            assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
            let message = match requested.or(reported) {
                Some(_) => "the memory of cuda:0 was not measured",
                None => "device memory was not measured: the prediction contains device memory",
            };
            assert_eq!(verdict.message.as_deref(), Some(message));
        }
        // one of two GPUs was not measured
        let two = vec![Device::Cuda(0), Device::Cuda(1)];
        let measurement = Measurement { requested_devices: two, ..measured(vec![device()]) };
        assert_eq!(
            verdict(&measurement, RANGE).message.as_deref(),
            Some("the memory of cuda:1 was not measured")
        );
    }

    #[test]
    fn a_range_that_is_not_known_fails() {
        let loose = Some(ByteRange { min: 0, max: u64::MAX });
        let message = |measurement: &Measurement, vram, ram| {
            let verdict = verdict_within(measurement, MemoryBounds { vram, ram });
            assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
            verdict.message.unwrap_or_default()
        };
        let (cpu, gpu) = (on_the_cpu(GB, None), measured(vec![device()]));
        for (measurement, vram, ram, name) in [
            (&cpu, None, None, "host memory"),
            (&gpu, None, None, "device memory"),
            (&gpu, None, loose, "device memory"),
            (&gpu, loose, None, "host memory"),
        ] {
            let message = message(measurement, vram, ram);
            let expected = format!("no expected range of {name}: the shapes");
            assert!(message.starts_with(&expected), "{message}");
        }
        let passed = verdict_within(&cpu, MemoryBounds { vram: None, ram: loose });
        assert_eq!(passed.status, Status::Passed, "a model on the CPU needs no range of VRAM");
    }

    #[test]
    fn a_range_of_device_memory_cannot_be_met_on_the_cpu() {
        let verdict = verdict(&on_the_cpu(GB, Some(prediction_on_the_cpu())), RANGE);
        assert_eq!(
            verdict.message.as_deref(),
            Some(
                "device memory was not measured: the manifest expects it, but the model was on cpu"
            )
        );
    }

    #[test]
    fn an_incomplete_measurement_is_blocked_unless_memory_is_its_subject() {
        use modelgate_protocol::Failure;
        let with_failure = |stage, kind| {
            let failure = Failure::new(stage, kind, "a message", "a hint");
            let outcome = Outcome::Failed;
            Measurement { outcome, failure: Some(failure), ..measured(vec![device()]) }
        };
        for (stage, kind, status) in [
            (Stage::Load, FailureKind::Corrupt, Status::Blocked),
            (Stage::Generate, FailureKind::Internal, Status::Blocked),
            (Stage::Prepare, FailureKind::ExpectationUnreachable, Status::Failed),
            (Stage::Unload, FailureKind::Crashed, Status::Failed),
            (Stage::Unload, FailureKind::ExpectationUnreachable, Status::Failed),
        ] {
            assert_eq!(verdict(&with_failure(stage, kind), RANGE).status, status, "{kind:?}");
        }
        let mut without_host = measured(vec![device()]);
        without_host.memory.host = None;
        assert_eq!(verdict(&without_host, RANGE).status, Status::Blocked);
        let crashed = Measurement { outcome: Outcome::Crashed, ..measured(vec![device()]) };
        assert_eq!(verdict(&crashed, RANGE).status, Status::Blocked, "without a failure");
    }

    #[test]
    fn memory_that_is_not_released_fails() {
        let left = DeviceMemory { after_unload: Some(GB + UNLOAD_TOLERANCE + 1), ..device() };
        assert_fails(left.clone(), "67.1 MB of cuda:0 were not released: 1.00 GB in use before");
        assert_fails(left, "the driver shows no process that uses it");
        let foreign_processes =
            vec![ForeignProcess { pid: 7, name: Some("python".into()), bytes: GB }];
        let used = DeviceMemory { after_unload: Some(3 * GB), foreign_processes, ..device() };
        assert_fails(used, "possibly used by python (process 7)");
        assert_fails(DeviceMemory { after_unload: None, ..device() }, "could not be read after");
    }

    #[test]
    fn memory_of_other_processes_is_reported_and_fails_if_inseparable() {
        let foreign_processes =
            vec![ForeignProcess { pid: 77, name: Some("python".into()), bytes: 2_147_483_648 }];
        let passed =
            verdict(&measured(vec![DeviceMemory { foreign_processes, ..device() }]), RANGE);
        assert_eq!(passed.status, Status::Passed);
        let expected =
            "used on cuda:0 by other processes, not counted: python (process 77) 2.15 GB";
        assert!(passed.observed.contains(expected), "{}", passed.observed);
        let unseen = DeviceMemory { per_process: false, ..device() };
        let passed = verdict(&measured(vec![unseen.clone()]), RANGE);
        assert_eq!(passed.status, Status::Passed);
        assert!(passed.observed.contains("does not show which process"), "{}", passed.observed);
        let attribution_problem = Some("two processes started: 7, 8".to_owned());
        assert_fails(
            DeviceMemory { attribution_problem, ..unseen },
            "on cuda:0 cannot be separated from that of other processes: two processes started",
        );
    }

    #[test]
    fn tensors_larger_than_the_used_memory_fail() {
        let mut measurement = measured(vec![device()]);
        let tensor = |bytes| Tensor {
            name: "t".into(),
            file: "f".into(),
            shape: vec![2, 2],
            source_dtype: DType::F32,
            dtype: DType::F32,
            bytes,
            device: Device::Cuda(0),
            nmse: None,
            worst_nmse: None,
            non_finite: 0,
            role: Role::Linear,
            reason: None,
        };
        measurement.tensors.list = vec![tensor(20 * GB), tensor(21 * GB)];
        assert_eq!(verdict(&measurement, RANGE).status, Status::Passed);
        measurement.tensors.list.push(tensor(200_000_000));
        assert_eq!(verdict(&measurement, RANGE).status, Status::Passed, "exactly the peak");
        // tensors elsewhere are not in the memory of this device
        let elsewhere = Tensor { device: Device::Cpu, ..tensor(90 * GB) };
        measurement.tensors.list.push(elsewhere);
        assert_eq!(verdict(&measurement, RANGE).status, Status::Passed, "on the CPU");
        measurement.tensors.list.push(tensor(1));
        assert_eq!(verdict(&measurement, RANGE).status, Status::Failed, "one byte more");
        measurement.tensors.list.push(tensor(799_999_999));
        let failed = verdict(&measurement, RANGE);
        assert_eq!(failed.status, Status::Failed, "{failed:?}");
        let message = failed.message.unwrap_or_default();
        let expected = "42.0 GB of tensors on cuda:0, more than the measured peak of 41.2 GB";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_device_without_readings_fails() {
        assert_fails(DeviceMemory { samples: 0, ..device() }, "the memory of cuda:0 was not read");
    }

    #[test]
    fn a_device_without_measurement_does_not_pass() {
        let verdict = verdict(&measured(Vec::new()), RANGE);
        assert_eq!(verdict.status, Status::Failed);
        assert!(verdict.message.is_some_and(|message| message.contains("was not measured")));
    }
}
