//! The summary: verdict, table of checks, and a section for each model.

use super::text::{cell, line, seconds};
use super::{files, memory, time};
use crate::check::{Check, Status, Verdict};
use crate::measurement::{Measurement, Outcome};
use crate::report::report::{ModelReport, Report, RunState};
use modelgate_model::units::{format_bytes, grouped};
use modelgate_protocol::{Device, Evidence, Generation};
use std::fmt::Write;

/// Returns the summary of a report in Markdown.
pub fn summary(report: &Report) -> String {
    let mut text = String::new();
    // writing to a string cannot fail
    let _ = write_summary(&mut text, report);
    text
}

fn write_summary(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "{}\n", headline(report))?;
    let run = &report.run;
    writeln!(
        out,
        "A pass covers this host, these files and this engine: {}, {}, {} cores, {}{}; {}; \
         modelgate {} ({}), run {}, started {}.\n",
        report.host.hostname,
        report.host.cpu,
        report.host.cores,
        format_bytes(report.host.ram_bytes),
        gpus(report),
        run.engine.as_ref().map_or("no engine".into(), |engine| format!(
            "engine {} {} ({})",
            engine.name, engine.version, engine.build
        )),
        run.version,
        run.profile,
        run.id,
        run.started_at,
    )?;
    write_table(out, report)?;
    for model in &report.models {
        write_model(out, model)?;
    }
    Ok(())
}

fn has_passed(verdict: &Verdict) -> bool {
    verdict.status == Status::Passed
}

/// Returns the verdict in one line. A model is validated if all planned checks passed.
fn headline(report: &Report) -> String {
    let total = report.models.len();
    let with = |test: &dyn Fn(&ModelReport) -> bool| -> Vec<&ModelReport> {
        report.models.iter().filter(|model| test(model)).collect()
    };
    let names = |models: &[&ModelReport]| {
        models.iter().map(|model| model.title()).collect::<Vec<_>>().join(", ")
    };
    let has = |model: &ModelReport, statuses: &[Status]| {
        model.checks.iter().any(|verdict| statuses.contains(&verdict.status))
    };
    let is_waiting = |model: &ModelReport| {
        matches!(model.measurement.outcome, Outcome::NotRun | Outcome::Interrupted)
    };
    let failed =
        with(&|model| !is_waiting(model) && has(model, &[Status::Failed, Status::Blocked]));
    let partial = with(&|model| {
        is_waiting(model)
            || (!has(model, &[Status::Failed, Status::Blocked])
                && has(model, &[Status::NotSelected]))
    });
    let validated = with(&|model| !is_waiting(model) && model.checks.iter().all(has_passed));
    let mut counted = format!("{} of {total} models validated", validated.len());
    match validated.iter().filter(|model| model.identity.evidence == Evidence::Synthetic).count() {
        0 => {}
        synthetic => counted.push_str(&format!(", {synthetic} of them synthetic")),
    }
    let mut parts = Vec::new();
    if !failed.is_empty() {
        parts.push(format!("FAILED: {}", names(&failed)));
    }
    if !partial.is_empty() || report.run.state != RunState::Finished {
        let which = if partial.is_empty() { "the run".into() } else { names(&partial) };
        parts.push(format!("INCOMPLETE: {which}"));
    }
    if parts.is_empty() { counted } else { format!("{} ({counted})", parts.join("; ")) }
}

fn gpus(report: &Report) -> String {
    let readable = report.host.gpus.iter().map(|gpu| {
        let memory = if gpu.unified_memory { ", the memory of the host" } else { "" };
        format!(", {} ({}{memory})", gpu.name, format_bytes(gpu.vram_bytes))
    });
    let unreadable = report.host.unreadable_gpus.iter();
    let unreadable = unreadable.map(|gpu| format!(", unusable {}", line(&gpu.to_string())));
    readable.chain(unreadable).collect()
}

fn write_table(out: &mut String, report: &Report) -> std::fmt::Result {
    let names: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
    writeln!(out, "| model | {} |", names.join(" | "))?;
    writeln!(out, "| --- |{}", " --- |".repeat(names.len()))?;
    for model in &report.models {
        let cells: Vec<&str> = Check::ALL
            .iter()
            .map(|check| {
                let verdict = model.checks.iter().find(|verdict| verdict.check == *check);
                verdict.map_or("not planned", |verdict| status_word(verdict.status))
            })
            .collect();
        writeln!(out, "| {} | {} |", model.title(), cells.join(" | "))?;
    }
    writeln!(out)
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Passed => "passed",
        Status::Failed => "**FAILED**",
        Status::Blocked => "**blocked**",
        Status::NotSelected => "not selected",
    }
}

fn write_model(out: &mut String, model: &ModelReport) -> std::fmt::Result {
    let measurement = &model.measurement;
    writeln!(out, "## {}\n", model.title())?;
    let source =
        model.identity.repo.as_deref().or(model.identity.path.as_deref()).unwrap_or_default();
    let revision = measurement.commit.as_deref().or(model.identity.revision.as_deref());
    writeln!(
        out,
        "{source}{}, quantization {}, {}, outcome {}.\n",
        revision.map_or(String::new(), |revision| format!(" at {revision}")),
        model.identity.quantization,
        devices(&measurement.devices),
        measurement.outcome.name(),
    )?;
    if model.identity.evidence == Evidence::Synthetic {
        writeln!(
            out,
            "Evidence: synthetic. The weights are random, with the shapes of the model: types, \
             memory and speed are those of the model, its answers are not.\n"
        )?;
    }
    if let Some(reason) = &measurement.device_reason {
        let requested = devices(&measurement.requested_devices);
        writeln!(out, "Device: {requested} ({}).\n", line(reason))?;
    }
    files::write(out, measurement)?;
    write_failure(out, measurement)?;
    writeln!(out, "| check | status | expected | observed |\n| --- | --- | --- | --- |")?;
    for verdict in &model.checks {
        write_verdict(out, verdict)?;
    }
    writeln!(out)?;
    for verdict in &model.checks {
        if verdict.status == Status::Failed
            && let Some(message) = &verdict.message
        {
            writeln!(out, "- **{}**: {}", verdict.check.name(), line(message))?;
            if let Some(hint) = verdict.hint.as_deref().filter(|hint| !hint.is_empty()) {
                writeln!(out, "  Remedy: {}.", line(hint))?;
            }
        }
    }
    time::write(out, measurement)?;
    memory::write(out, measurement)?;
    write_tensors(out, measurement)?;
    write_answers(out, measurement)
}

fn devices(devices: &[Device]) -> String {
    match devices {
        [] => "no device".to_owned(),
        devices => devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn write_failure(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    let Some(failure) = &measurement.failure else {
        return Ok(());
    };
    writeln!(
        out,
        "**{}** in stage {}: {}\n",
        failure.kind.name(),
        failure.stage.name(),
        line(&failure.message)
    )?;
    match failure.hint.is_empty() {
        true => Ok(()),
        false => writeln!(out, "Remedy: {}.\n", line(&failure.hint)),
    }
}

fn write_verdict(out: &mut String, verdict: &Verdict) -> std::fmt::Result {
    let derived = if verdict.derived { " (derived)" } else { "" };
    writeln!(
        out,
        "| {} | {} | {}{derived} | {} |",
        verdict.check.name(),
        status_word(verdict.status),
        cell(&verdict.expected),
        cell(&verdict.observed)
    )
}

fn write_tensors(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    let tensors = &measurement.tensors;
    if tensors.list.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n{} tensors, {} parameters{}.\n\n| type | tensors | bytes |\n| --- | --- | --- |",
        tensors.list.len(),
        measurement.parameters.map_or("unknown".into(), grouped),
        tensors
            .bits_per_weight
            .map_or(String::new(), |bits| format!(", {:.2} bits per weight", bits.get())),
    )?;
    for (name, bytes) in &tensors.by_type {
        let count = tensors.list.iter().filter(|tensor| tensor.dtype.name() == name).count();
        writeln!(out, "| {name} | {count} | {} |", format_bytes(*bytes))?;
    }
    if measurement.is_partial() {
        writeln!(out, "\nParts: {}.", measurement.parts.join(", "))?;
    }
    for omitted in &tensors.omitted {
        writeln!(
            out,
            "\nOmitted: {} ({} tensors, {}).",
            omitted.group,
            omitted.tensors,
            format_bytes(omitted.bytes)
        )?;
    }
    Ok(())
}

fn write_answers(out: &mut String, measurement: &Measurement) -> std::fmt::Result {
    for generation in &measurement.generations {
        writeln!(
            out,
            "\n{} ({} prompt tokens, {} generated{})",
            generation.name,
            generation.prompt_tokens.len(),
            generation.tokens.len(),
            speed(generation),
        )?;
        // a synthetic model has no text
        let text = line(&generation.text);
        if !text.is_empty() {
            writeln!(out, "\n> {text}")?;
        }
    }
    if let Some(perplexity) = &measurement.perplexity {
        let value = perplexity.value.map_or("not finite".into(), |v| format!("{:.3}", v.get()));
        writeln!(out, "\nPerplexity {value} over {} tokens.", perplexity.tokens)?;
    }
    if let Some(agreement) = &measurement.agreement {
        writeln!(
            out,
            "\nAgreement with the CPU: the logits of the first {} layers differ by {} of their \
             norm ({} tokens).",
            agreement.layers,
            agreement.relative_error.map_or("NaN".into(), |error| format!("{:.2e}", error.get())),
            agreement.tokens
        )?;
    }
    writeln!(out)
}

/// Returns the speed of reading the prompt and of generating the answer.
fn speed(generation: &Generation) -> String {
    let mut text = String::new();
    if let Some(first) = generation.time_to_first_token_s {
        text.push_str(&format!(", first token after {}", seconds(first.get())));
        let prefill = generation.prompt_tokens.len() as f64 / first.get();
        if prefill.is_finite() {
            text.push_str(&format!(": {prefill:.1} tokens/s of prefill"));
        }
    }
    if let Some(rate) = generation.decode_tokens_per_s {
        text.push_str(&format!(", then {:.1} tokens/s of decode", rate.get()));
    }
    text
}
