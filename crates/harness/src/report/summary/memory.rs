//! The part of the summary about memory, compared with the prediction.

use super::text::{line, seconds};
use crate::measurement::{DeviceMemory, ForeignProcess, HostMemory, Measurement, PeakSource};
use modelgate_model::units::format_bytes;
use modelgate_protocol::DeviceRecord;
use std::fmt::Write;

/// Writes the table of memory, the prediction and the limitations of the figures.
pub(super) fn write(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    let memory = &measurement.memory;
    if memory.host.is_none() && memory.prediction.is_none() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### Memory\n\n\
         | memory | before | baseline | after load | peak | predicted | difference \
         | after unload |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for device in &memory.devices {
        let opened =
            measurement.opened_devices.iter().find(|opened| opened.device == device.device);
        write_device(out, device, opened)?;
    }
    if let Some(host) = &memory.host {
        write_host(out, host)?;
    }
    if let Some(predicted) = &memory.prediction {
        writeln!(
            out,
            "\nPredicted: weights {}, KV cache {}, activations {}, process {}.",
            format_bytes(predicted.weights),
            format_bytes(predicted.kv_cache),
            format_bytes(predicted.activations),
            format_bytes(predicted.baseline)
        )?;
    }
    for device in &memory.devices {
        write_limitations(out, device)?;
    }
    Ok(())
}

fn write_device(
    out: &mut String,
    device: &DeviceMemory,
    opened: Option<&DeviceRecord>,
) -> std::fmt::Result {
    writeln!(
        out,
        "| {} | {} | {} | {} | {} ({}) | {} | {} | {} |",
        device.device,
        format_bytes(device.before),
        opened.map_or("unknown".into(), |opened| format_bytes(opened.own_baseline(device.before))),
        format_bytes(device.after_load),
        format_bytes(device.peak),
        source(device.peak_source),
        device.predicted_peak.map_or("unknown".into(), format_bytes),
        difference(device.peak, device.predicted_peak),
        device.after_unload.map_or("unknown".into(), format_bytes),
    )
}

fn write_host(out: &mut String, host: &HostMemory) -> std::fmt::Result {
    writeln!(
        out,
        "| host, private | {} | | {} | {} ({}) | {} | {} | |",
        format_bytes(host.before),
        host.after_load.map_or("not loaded".into(), format_bytes),
        format_bytes(host.peak_private),
        source(host.peak_source),
        host.predicted_peak.map_or("unknown".into(), format_bytes),
        difference(host.peak_private, host.predicted_peak),
    )?;
    writeln!(out, "| host, resident | | | | {} (mark) | | | |", format_bytes(host.peak_rss))
}

/// Returns the source of a peak: exact marks, or samples.
fn source(source: PeakSource) -> &'static str {
    match source {
        PeakSource::HighWaterMark => "mark",
        PeakSource::Samples => "samples",
    }
}

/// Returns the difference between `peak` and the prediction.
fn difference(peak: u64, predicted: Option<u64>) -> String {
    let percent = predicted.map(|predicted| 100.0 * (peak as f64 / predicted as f64 - 1.0));
    match percent.filter(|percent| percent.is_finite()) {
        Some(percent) => format!("{percent:+.1} %"),
        None => String::new(),
    }
}

/// Writes the limitations of the figures of a device: memory that they may miss, and memory of
/// other processes.
fn write_limitations(out: &mut String, device: &DeviceMemory) -> std::fmt::Result {
    let name = device.device;
    if let Some(gap) = device.outside_allocator_gap_s {
        writeln!(
            out,
            "\n{name}: memory from the allocator is measured exactly; other memory that was in \
             use for less than {} can be missing.",
            seconds(gap.get())
        )?;
    }
    if let Some(reason) = &device.attribution_problem {
        writeln!(
            out,
            "\n**{name}: the figures may contain memory of other processes**: {}.",
            line(reason)
        )?;
    }
    if device.foreign_peak > 0 || !device.foreign_processes.is_empty() {
        writeln!(
            out,
            "\n**{name}: other processes used up to {}** while the worker ran{}. The figures \
             above do not contain it.",
            format_bytes(device.foreign_peak),
            foreign(&device.foreign_processes)
        )?;
    }
    Ok(())
}

fn foreign(processes: &[ForeignProcess]) -> String {
    if processes.is_empty() {
        return String::new();
    }
    let list: Vec<String> = processes
        .iter()
        .map(|process| {
            let name = process.name.as_deref().map_or("a process".into(), line);
            format!("{name} ({}) {}", process.pid, format_bytes(process.bytes))
        })
        .collect();
    format!(": {}", list.join(", "))
}
