//! The plan: the list of cases. It uses only the values of the manifest, so that `--list` needs no
//! disk, no network and no device.

use crate::check::Check;
use crate::manifest::{Manifest, Model, Source, WeightOrigin};

/// One pair of model and check: one named test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The index of the model in the manifest.
    pub model: usize,
    /// The check that decides the verdict of the case.
    pub check: Check,
    /// The name of the test: `<model id>::<check>`.
    pub name: String,
    /// `synthetic` if the weights of the model are random and its id does not show it, otherwise
    /// empty.
    pub kind: &'static str,
    /// Whether the case runs only with `--ignored` or `--include-ignored`, because it needs a GPU
    /// or a hub repository.
    pub ignored: bool,
}

/// All cases of a manifest, grouped by model, in the order of the manifest.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The cases.
    pub cases: Vec<Case>,
}

impl Plan {
    /// Plans each check that can fail for each model.
    pub fn of(manifest: &Manifest) -> Plan {
        let cases = manifest
            .models
            .iter()
            .enumerate()
            .flat_map(|(index, model)| {
                let ignored = is_ignored(model);
                let kind = if model.title() == model.id { "" } else { "synthetic" };
                checks(model).map(move |check| Case {
                    model: index,
                    check,
                    name: format!("{}::{}", model.id, check.name()),
                    kind,
                    ignored,
                })
            })
            .collect();
        Plan { cases }
    }
}

/// Returns the checks of `model`. Random weights made in place have no `time_budget`: the time to
/// create them is not a load time.
fn checks(model: &Model) -> impl Iterator<Item = Check> {
    let in_place = model.weights == WeightOrigin::InPlace;
    Check::ALL.into_iter().filter(move |check| !(in_place && *check == Check::TimeBudget))
}

/// Returns whether the cases of `model` need a GPU or a download.
fn is_ignored(model: &Model) -> bool {
    let from_hub = matches!(model.source, Source::Hub { .. });
    model.device.needs_gpu() || (from_hub && model.weights != WeightOrigin::InPlace)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the names of the cases of a manifest, each with its `ignored` flag.
    fn planned(models: &str) -> Vec<(String, bool)> {
        let text = format!("schema = 1\n{models}");
        let manifest = Manifest::parse(&text, "test", None).expect("a manifest");
        Plan::of(&manifest).cases.into_iter().map(|case| (case.name, case.ignored)).collect()
    }

    fn entry(device: &str) -> String {
        format!(
            "[[model]]\nid = \"m@q4\"\nrepo = \"Qwen/Qwen2.5-Omni-7B\"\nquantization = \"q4_k\"\n\
             device = \"{device}\"\nsynthetic = true\n"
        )
    }

    #[test]
    fn a_synthetic_variant_follows_its_model_with_four_checks() {
        let names: Vec<String> =
            planned(&entry("cuda")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "m@q4::load",
                "m@q4::time_budget",
                "m@q4::memory_range",
                "m@q4::generation",
                "m@q4::quantization",
                "m@q4@synthetic::load",
                "m@q4@synthetic::memory_range",
                "m@q4@synthetic::generation",
                "m@q4@synthetic::quantization",
            ]
        );
    }

    #[test]
    fn a_synthetic_variant_needs_no_download_and_may_need_a_gpu() {
        assert!(planned(&entry("cuda")).iter().all(|(_, ignored)| *ignored));
        for (name, ignored) in planned(&entry("cpu")) {
            assert_eq!(ignored, !name.contains("@synthetic"), "{name}");
        }
    }

    #[test]
    fn random_weights_in_files_have_a_time_budget() {
        let names = planned(
            "[[model]]\nid = \"m\"\npath = \"x.gguf\"\nquantization = \"q4_0\"\n\
             evidence = \"synthetic\"\n",
        );
        assert_eq!(names.len(), 5);
        assert!(names.iter().all(|(_, ignored)| !ignored));
    }
}
