//! The report: one value, of which every format is a function.

use crate::check::Verdict;
use crate::host::Host;
use crate::manifest::title;
use crate::measurement::Measurement;
use crate::store::ModelIdentity;
use modelgate_protocol::{Ceiling, Engine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the JSON report. A key that goes or changes its meaning raises it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything that one run on one host found out.
///
/// Integers are bytes or counts, floats are seconds unless a field says otherwise, ratios are 0
/// to 1. Readers ignore keys that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The run.
    pub run: Run,
    /// The host.
    pub host: Host,
    /// What the hardware can do at most: the highest that was measured in this run.
    pub ceilings: Vec<Ceiling>,
    /// The models of which at least one check was selected, in the manifest's order.
    pub models: Vec<ModelReport>,
}

/// A run of the tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: RunState,
    /// UTC, RFC 3339.
    pub started_at: String,
    /// UTC, RFC 3339; none while it is running.
    pub finished_at: Option<String>,
    /// modelgate's version.
    pub version: String,
    /// `release` or `debug`.
    pub profile: String,
    /// The manifest's SHA-256 in hexadecimal.
    pub manifest_sha256: String,
    /// The filter of the command line.
    pub filter: Option<String>,
    /// Checks that were selected.
    pub planned_checks: u64,
    /// Those of them that have a verdict.
    pub finished_checks: u64,
    /// For the users of reports to fill in.
    pub labels: BTreeMap<String, String>,
    /// Who loaded the models; `None` if no worker spoke.
    pub engine: Option<Engine>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Some selected check has no verdict yet.
    Running,
    /// Every selected check has its verdict.
    Finished,
    /// A signal ended it.
    Interrupted,
}

/// One model: what it is, what was seen of it, and what the checks say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelReport {
    /// What it is.
    #[serde(flatten)]
    pub identity: ModelIdentity,
    /// What was seen.
    #[serde(flatten)]
    pub measurement: Measurement,
    /// What the checks say: always all that were planned.
    pub checks: Vec<Verdict>,
}

impl ModelReport {
    /// The id, with a word where the weights are random and the id does not say so.
    pub fn title(&self) -> String {
        title(&self.identity.id, self.identity.evidence)
    }
}
