//! The phases of a worker's work.

use super::activity_ceilings::activity_ceiling;
use super::channel::Channel;
use super::file_ceilings::FileRates;
use crate::compute_device::ComputeDevice;
use crate::failures;
use crate::formats::format_of;
use crate::generate::answer;
use crate::model::Model;
use crate::perplexity::perplexity;
use crate::self_test::self_test;
use modelgate_protocol::{
    Activity, Event, Evidence, Failure, FailureKind, PhaseName, Request, Stage,
};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// The environment variables that disable quantized products in candle without a message.
const QUANTIZATION_SWITCHES: [&str; 2] = ["CANDLE_DEQUANTIZE_ALL", "CANDLE_DEQUANTIZE_ALL_F16"];

/// Executes the request, and sets `stage` to the current stage.
pub(super) fn work(
    request: &Request,
    channel: &Channel,
    stage: &Cell<Stage>,
) -> Result<(), Failure> {
    let activities = Mutex::new(Vec::new());
    let events = |event: Event| {
        if let Event::Activity(activity) = &event {
            activities.lock().unwrap_or_else(PoisonError::into_inner).push(activity.clone());
        }
        channel.send(&event);
    };
    let phase = |name| channel.send(&Event::Phase { name });
    phase(PhaseName::Device);
    refuse_quantization_switches()?;
    let device = ComputeDevice::open(&request.devices, request.device_limit)?;
    if let Some(gpu) = device.gpu() {
        phase(PhaseName::Kernels);
        gpu.load_kernels()?;
        self_test(gpu, &format_of(request.files.format).block_types(request.quantization))?;
        events(Event::Device(gpu.record()?));
    }
    let send_memory = || -> Result<(), Failure> {
        if let Some(gpu) = device.gpu() {
            events(Event::DeviceMemory(gpu.memory(Stage::Generate)?));
        }
        Ok(())
    };
    stage.set(Stage::Load);
    phase(PhaseName::Load);
    let files = FileRates::of(&request.files);
    let mut model = Model::load_to(&device, request, &events)?;
    stage.set(Stage::Generate);
    phase(PhaseName::Warmup);
    model.warm_up(&events)?;
    send_memory()?;
    phase(PhaseName::Generate);
    for generation in &request.generations {
        let answer = answer(&mut model, generation, &events)?;
        events(Event::Generation(answer));
    }
    if let Some(text) = &request.perplexity_text {
        phase(PhaseName::Perplexity);
        events(Event::Perplexity(perplexity(&mut model, text, &events)?));
    }
    model.report_traffic(&events);
    if device.gpu().is_some() && request.evidence == Evidence::Synthetic {
        phase(PhaseName::Agreement);
        if let Some(agreement) = model.agreement()? {
            events(Event::Agreement(agreement));
        }
    }
    send_memory()?;
    phase(PhaseName::Ceilings);
    drop(model);
    let mut ceilings = files.ceilings();
    if let Some(gpu) = device.gpu() {
        // a failure, for example of a full device, only omits the ceilings: the measurements of the
        // model are complete
        ceilings.extend(gpu.ceilings().unwrap_or_default());
    }
    let activities = activities.into_inner().unwrap_or_else(PoisonError::into_inner);
    for activity in activities {
        let ceiling_bytes_per_s = activity_ceiling(&activity.name, &files, &ceilings);
        channel.send(&Event::Activity(Activity { ceiling_bytes_per_s, ..activity }));
    }
    for ceiling in ceilings {
        channel.send(&Event::Ceiling(ceiling));
    }
    Ok(())
}

/// Checks that no environment variable disables quantized products.
fn refuse_quantization_switches() -> Result<(), Failure> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    match QUANTIZATION_SWITCHES.iter().find(|name| is_set(name)) {
        None => Ok(()),
        Some(name) => Err(failures::start(
            FailureKind::Unsupported,
            format!("{name}: the variable is set, and disables quantized products"),
            format!("unset {name}"),
        )),
    }
}
