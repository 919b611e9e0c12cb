//! Builds the report from the store of a run.

use super::report::{ModelReport, Report, Run, RunState, SCHEMA_VERSION};
use crate::check::{Status, Verdict};
use crate::measurement::{Measurement, Outcome, Unmeasured};
use crate::store::{ModelRecord, RunRecord, Store};
use modelgate_protocol::Ceiling;
use std::collections::BTreeMap;

/// Builds the report of the run `record` from the current state of `store`.
pub fn build(store: &Store, record: &RunRecord) -> Report {
    let models: Vec<ModelReport> =
        record.models.iter().filter_map(|model| model_report(store, model)).collect();
    let verdicts = || models.iter().flat_map(|model| &model.checks);
    let planned = verdicts().filter(|verdict| verdict.status != Status::NotSelected).count();
    let unfinished: usize = models
        .iter()
        .filter(|model| model.measurement.outcome == Outcome::NotRun)
        .map(|model| {
            model.checks.iter().filter(|verdict| verdict.status != Status::NotSelected).count()
        })
        .sum();
    let state = if store.is_interrupted() {
        RunState::Interrupted
    } else if unfinished > 0 {
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
            manifest_sha256: record.manifest_sha256.clone(),
            filter: record.filter.clone(),
            planned_checks: planned as u64,
            finished_checks: (planned - unfinished) as u64,
            labels: BTreeMap::new(),
            engine: models.iter().find_map(|model| model.measurement.engine.clone()),
        },
        host: record.host.clone(),
        ceilings: highest_ceilings(models.iter().flat_map(|model| &model.measurement.ceilings)),
        models,
    }
}

/// Returns the highest value of each ceiling that a worker measured: other load on the host lowers
/// a value, and nothing raises it.
fn highest_ceilings<'a>(measured: impl Iterator<Item = &'a Ceiling>) -> Vec<Ceiling> {
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

/// Returns the report of one model. `None` if none of its checks was selected.
fn model_report(store: &Store, model: &ModelRecord) -> Option<ModelReport> {
    if !model.cases.iter().any(|(_, name)| store.is_selected(name)) {
        return None;
    }
    let measurement = store.measurement(&model.identity.id).unwrap_or_else(|| not_run(store));
    let checks = model.cases.iter().map(|(check, name)| {
        if store.is_selected(name) {
            check.verdict(&measurement, &model.expectation)
        } else {
            Verdict::not_selected(*check)
        }
    });
    Some(ModelReport { identity: model.identity.clone(), checks: checks.collect(), measurement })
}

/// Returns the measurement of a model that was not measured yet.
fn not_run(store: &Store) -> Measurement {
    let reason = if store.is_interrupted() { Unmeasured::Interrupted } else { Unmeasured::Waiting };
    reason.measurement()
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::{CeilingName, Device, Finite, Location};

    #[test]
    fn the_highest_value_of_each_ceiling_is_reported() {
        let ceiling = |name: CeilingName, device: u32, rate: f64| Ceiling {
            name,
            device: Location::Device(Device::Cuda(device)),
            bytes_per_s: Finite::new(rate).expect("finite"),
        };
        let measured = [
            ceiling(CeilingName::PinnedCopy, 0, 50e9),
            ceiling(CeilingName::PinnedCopy, 1, 20e9),
            ceiling(CeilingName::PinnedCopy, 0, 55e9),
            ceiling(CeilingName::DeviceMemory, 0, 4e12),
            ceiling(CeilingName::PinnedCopy, 0, 40e9),
        ];
        let expected = [measured[2].clone(), measured[1].clone(), measured[3].clone()];
        assert_eq!(highest_ceilings(measured.iter()), expected);
    }
}
