//! From the run's folder to a report.

use super::{ModelReport, Report, Run, RunState, SCHEMA_VERSION};
use crate::check::{Check, Expectation, Status, Verdict, perplexity_text};
use crate::host::Host;
use crate::manifest::{Manifest, Model, Source};
use crate::plan::Plan;
use crate::store::{RunRecord, Store};
use modelgate_protocol::{Ceiling, Failure, FailureKind, Measurement, Outcome, Stage};
use std::collections::BTreeMap;

/// Builds the report of the run in `store` as it stands now.
pub fn build(
    manifest: &Manifest,
    plan: &Plan,
    store: &Store,
    record: &RunRecord,
    host: &Host,
) -> Report {
    let models: Vec<ModelReport> = manifest
        .models
        .iter()
        .enumerate()
        .filter_map(|(index, model)| model_report(manifest, plan, index, model, store))
        .collect();
    let verdicts = || models.iter().flat_map(|model| &model.checks);
    let planned = verdicts().filter(|verdict| verdict.status != Status::NotSelected).count();
    let waiting: usize = models
        .iter()
        .filter(|model| model.measurement.outcome == Outcome::NotRun)
        .map(|model| model.checks.iter().filter(|v| v.status != Status::NotSelected).count())
        .sum();
    let state = if store.is_interrupted() {
        RunState::Interrupted
    } else if waiting > 0 {
        RunState::Running
    } else {
        RunState::Finished
    };
    Report {
        schema_version: SCHEMA_VERSION,
        run: Run {
            id: record.id.clone(),
            state,
            started_at: record.started_at.to_string(),
            finished_at: (state != RunState::Running).then(|| jiff::Timestamp::now().to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            manifest_sha256: manifest.sha256.clone(),
            filter: record.filter.clone(),
            planned_checks: planned as u64,
            finished_checks: (planned - waiting) as u64,
            labels: BTreeMap::new(),
            engine: models.iter().find_map(|model| model.measurement.engine.clone()),
        },
        host: host.clone(),
        ceilings: highest(models.iter().flat_map(|model| &model.measurement.ceilings)),
        models,
    }
}

/// The highest of each ceiling that any worker measured: what else the machine did makes one lower,
/// and nothing makes it higher than it is.
fn highest<'a>(measured: impl Iterator<Item = &'a Ceiling>) -> Vec<Ceiling> {
    let mut highest: Vec<Ceiling> = Vec::new();
    for ceiling in measured {
        let same =
            |other: &&mut Ceiling| (&other.name, &other.device) == (&ceiling.name, &ceiling.device);
        match highest.iter_mut().find(same) {
            Some(other) if other.bytes_per_s < ceiling.bytes_per_s => *other = ceiling.clone(),
            Some(_) => {}
            None => highest.push(ceiling.clone()),
        }
    }
    highest
}

/// The report of one model; none where no check of it was selected.
fn model_report(
    manifest: &Manifest,
    plan: &Plan,
    index: usize,
    model: &Model,
    store: &Store,
) -> Option<ModelReport> {
    let cases = || plan.cases.iter().filter(|case| case.model == index);
    if !cases().any(|case| store.is_selected(&case.name)) {
        return None;
    }
    let measurement = store.measurement(&model.id).unwrap_or_else(|| not_run(store));
    let checks = cases()
        .map(|case| {
            if store.is_selected(&case.name) {
                verdict(case.check, &measurement, model, manifest)
            } else {
                Verdict::not_selected(case.check)
            }
        })
        .collect();
    let (repo, path, revision) = match &model.source {
        Source::Hub { repo, revision, .. } => (Some(repo.clone()), None, Some(revision.clone())),
        Source::Local { path } => (None, Some(path.display().to_string()), None),
    };
    Some(ModelReport {
        id: model.id.clone(),
        repo,
        path,
        revision,
        quantization: model.quantization,
        evidence: model.weights.evidence(),
        measurement,
        checks,
    })
}

/// What `check` says of `measurement` under the manifest's expectation of `model`.
pub(crate) fn verdict(
    check: Check,
    measurement: &Measurement,
    model: &Model,
    manifest: &Manifest,
) -> Verdict {
    // a text that cannot be read kept the model from being measured, which the verdict then says
    let text = perplexity_text(model, manifest).ok().flatten().unwrap_or_default();
    check.verdict(measurement, &Expectation::of(model, &text, measurement))
}

fn not_run(store: &Store) -> Measurement {
    let interrupted = store.is_interrupted();
    let message = if interrupted {
        "the run was interrupted before this model's turn"
    } else {
        "this model's turn has not come yet"
    };
    let kind = FailureKind::Interrupted;
    let failure = Failure::new(Stage::Prepare, kind, message, "start the run again");
    Measurement { failure: Some(failure), ..Measurement::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::Finite;

    #[test]
    fn of_each_ceiling_the_highest_stands() {
        let ceiling = |name: &str, device: &str, rate: f64| Ceiling {
            name: name.into(),
            device: device.into(),
            bytes_per_s: Finite::new(rate).expect("finite"),
        };
        let measured = [
            ceiling("pinned_copy", "cuda:0", 50e9),
            ceiling("pinned_copy", "cuda:1", 20e9),
            ceiling("pinned_copy", "cuda:0", 55e9),
            ceiling("device_memory", "cuda:0", 4e12),
            ceiling("pinned_copy", "cuda:0", 40e9),
        ];
        let expected = [measured[2].clone(), measured[1].clone(), measured[3].clone()];
        assert_eq!(highest(measured.iter()), expected);
    }
}
