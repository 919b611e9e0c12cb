//! The content of a report. Every format is a function of it.

use crate::check::Verdict;
use crate::host::Host;
use crate::manifest::title;
use crate::measurement::Measurement;
use crate::store::ModelIdentity;
use modelgate_protocol::{Ceiling, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the JSON report. Removing or redefining a key increments it. Keys and values of older
/// versions are read as aliases of the current ones.
pub const SCHEMA_VERSION: u32 = 2;

/// The results of one run on one host.
///
/// Integers are bytes or counts, floats are seconds unless a field says otherwise, ratios are 0 to
/// 1. Readers ignore keys that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this format: [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The identity and the progress of the run.
    pub run: Run,
    /// The hardware and the operating system of the host.
    pub host: Host,
    /// The limits of the hardware: the highest values that were measured in this run.
    pub ceilings: Vec<Ceiling>,
    /// The models with at least one selected check, in the order of the manifest.
    pub models: Vec<ModelReport>,
}

/// A run of the tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// The id of the run: its start time and a process id, or a hash of the nextest run id.
    pub id: String,
    /// The state of the run.
    pub state: RunState,
    /// The time of the start in UTC, RFC 3339.
    pub started_at: String,
    /// The time of the end in UTC, RFC 3339. `None` while the run is running.
    pub finished_at: Option<String>,
    /// The version of modelgate.
    pub version: String,
    /// The build profile: `release` or `debug`.
    pub profile: String,
    /// The SHA-256 of the manifest in hexadecimal.
    pub manifest_sha256: String,
    /// The filters of the command line, separated by spaces. `None` if there are none.
    pub filter: Option<String>,
    /// The number of selected checks.
    pub planned_checks: u64,
    /// The number of selected checks with a verdict.
    pub finished_checks: u64,
    /// Labels that users of reports may add.
    pub labels: BTreeMap<String, String>,
    /// The engine that loaded the models. `None` if no worker reported one.
    pub engine: Option<Engine>,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// At least one selected check has no verdict yet.
    Running,
    /// Every selected check has a verdict.
    Finished,
    /// A signal ended the run.
    Interrupted,
}

/// One model: its identity, its measurement and its verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelReport {
    /// The identity of the model.
    #[serde(flatten)]
    pub identity: ModelIdentity,
    /// The measurement of the model.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// The verdicts of all planned checks.
    pub checks: Vec<Verdict>,
}

impl ModelReport {
    /// Returns the id, with the word `synthetic` if the weights are random and the id does not show
    /// it.
    pub fn title(&self) -> String {
        title(&self.identity.id, self.identity.evidence)
    }
}
