//! The part of the summary about time, with the fraction of its ceiling that each activity reached.

use super::text::{line, seconds};
use crate::measurement::Measurement;
use modelgate_model::units::format_bytes;
use modelgate_protocol::{Finite, PhaseName};
use std::fmt::Write;

/// Writes the phases of the run, the load time and the activities.
pub(super) fn write(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    if measurement.phases.is_empty() {
        return Ok(());
    }
    let kernels = kernels_note(measurement);
    let phases: Vec<String> = measurement
        .phases
        .iter()
        .map(|phase| {
            let took = seconds(phase.end_s.get() - phase.start_s.get());
            let note = if phase.name == PhaseName::Kernels { kernels } else { "" };
            format!("{} {took}{note}", line(phase.name.name()))
        })
        .collect();
    writeln!(out, "\nPhases: {}.", phases.join(", "))?;
    if let Some(load) = measurement.load_s {
        writeln!(out, "Loaded {} after the start.", seconds(load.get()))?;
    }
    write_activities(out, measurement)
}

/// Returns a note on whether the driver compiled the kernels in this run.
fn kernels_note(measurement: &Measurement) -> &'static str {
    let cached: Vec<_> =
        measurement.opened_devices.iter().filter_map(|d| d.kernels_cached).collect();
    match cached.as_slice() {
        [] => "",
        all if all.iter().all(|cached| *cached) => " (cached)",
        _ => " (compiled)",
    }
}

fn write_activities(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    if measurement.activities.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n### Activities\n\n| activity | bytes | busy | rate | ceiling | reached |\n\
         | --- | --- | --- | --- | --- | --- |"
    )?;
    for activity in &measurement.activities {
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            line(activity.name.name()),
            format_bytes(activity.bytes),
            seconds(activity.busy_s.get()),
            rate(activity.bytes_per_s()),
            rate(activity.ceiling_bytes_per_s),
            activity.ceiling_fraction().map_or(String::new(), percent)
        )?;
    }
    Ok(())
}

fn rate(rate: Option<Finite>) -> String {
    rate.map_or("not measured".into(), |rate| format!("{}/s", format_bytes(rate.get() as u64)))
}

fn percent(fraction: Finite) -> String {
    let percent = 100.0 * fraction.get();
    if percent < 10.0 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}
