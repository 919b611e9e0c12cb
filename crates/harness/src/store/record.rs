//! The record that all processes of a run share. The first process writes it.

use crate::check::{Check, Expectation};
use crate::host::Host;
use modelgate_protocol::{Evidence, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The record of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The id of the run.
    pub id: String,
    /// The time of the start, in UTC.
    pub started_at: jiff::Timestamp,
    /// The path of the JSON report of the run. `None` before the first report.
    pub report: Option<PathBuf>,
    /// The filters of the command line, separated by spaces. `None` if there were none.
    pub filter: Option<String>,
    /// The SHA-256 of the manifest, in hexadecimal.
    pub manifest_sha256: String,
    /// The host of the run.
    pub host: Host,
    /// The models of the manifest, in the order of the manifest.
    pub models: Vec<ModelRecord>,
}

/// A model of a run, with the values that its checks compare.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The identity of the model.
    pub identity: ModelIdentity,
    /// Whether the model is embedded in the program.
    pub is_bundled: bool,
    /// The planned checks, with the names of their cases.
    pub cases: Vec<(Check, String)>,
    /// The values with which the checks compare the measurement.
    pub expectation: Expectation,
}

/// The identity of a model, from its manifest entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelIdentity {
    /// The id in the manifest.
    pub id: String,
    /// The hub repository, as `owner/name`. `None` if the model is local.
    pub repo: Option<String>,
    /// The local path. `None` if the model comes from a hub repository.
    pub path: Option<String>,
    /// The requested revision of the hub repository. `None` if the model is local.
    pub revision: Option<String>,
    /// The requested quantization.
    pub quantization: Scheme,
    /// Whether the weights are trained or random.
    pub evidence: Evidence,
}
