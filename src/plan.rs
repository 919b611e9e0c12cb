//! The plan: which cases there are. Pure: reads the manifest's values and nothing else, so that
//! `--list` needs no disk, no network and no device.

use crate::check::Check;
use crate::manifest::{Manifest, Model, Source};

/// One (model, check) pair: one named test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Index of the model in the manifest.
    pub model: usize,
    /// What is checked.
    pub check: Check,
    /// `<model id>::<check>`.
    pub name: String,
    /// Whether it runs only when ignored tests are asked for: it needs a GPU or a hub repository.
    pub ignored: bool,
}

/// All cases of a manifest, grouped by model, in the manifest's order.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cases.
    pub cases: Vec<Case>,
}

impl Plan {
    /// Plans every check of every model.
    pub fn of(manifest: &Manifest) -> Plan {
        let cases = manifest
            .models
            .iter()
            .enumerate()
            .flat_map(|(index, model)| {
                let ignored = is_ignored(model);
                Check::ALL.into_iter().map(move |check| Case {
                    model: index,
                    check,
                    name: format!("{}::{}", model.id, check.name()),
                    ignored,
                })
            })
            .collect();
        Plan { cases }
    }
}

fn is_ignored(model: &Model) -> bool {
    model.device.needs_gpu() || matches!(model.source, Source::Hub { .. })
}
