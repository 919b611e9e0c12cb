//! What every process of a run agrees on; the first one writes it.

use crate::check::{Check, Expectation};
use crate::host::Host;
use modelgate_protocol::{Evidence, Scheme};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run's id.
    pub id: String,
    /// When it started, in UTC.
    pub started_at: jiff::Timestamp,
    /// Its JSON report; `None` until the first one was written.
    pub report: Option<PathBuf>,
    /// The positional filter, if there was one.
    pub filter: Option<String>,
    /// The SHA-256 of the manifest, in hexadecimal.
    pub manifest_sha256: String,
    /// The host.
    pub host: Host,
    /// The models of the manifest, in its order.
    pub models: Vec<ModelRecord>,
}

/// A model of a run: what it is, and what its checks compare the measurement with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelRecord {
    /// What it is.
    pub identity: ModelIdentity,
    /// Whether it is embedded in the program.
    pub is_bundled: bool,
    /// The checks that are planned, with the names of their cases.
    pub cases: Vec<(Check, String)>,
    /// What the checks compare the measurement with.
    pub expectation: Expectation,
}

/// What a model is, as its entry in the manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelIdentity {
    /// Its id in the manifest.
    pub id: String,
    /// Its hub repository, if it has one.
    pub repo: Option<String>,
    /// Its local path, if it has one.
    pub path: Option<String>,
    /// The revision that was asked for.
    pub revision: Option<String>,
    /// The quantization that was asked for.
    pub quantization: Scheme,
    /// Whether its weights are the model's own.
    pub evidence: Evidence,
}
