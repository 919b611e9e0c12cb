//! The planned cases that a command line selects.
//!
//! The filter of the test runner is a plain substring; the filter of modelgate also matches ids and
//! hub repositories. The selection is therefore made here, and the runner gets exact names.

use super::cases::{Case, Plan};
use crate::manifest::{Manifest, Model, Source, WeightOrigin};
use crate::settings::CommandLine;
use modelgate_hub::nearest;

/// The cases that a command line selects.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The cases that match a filter and are not skipped, including ignored ones.
    pub matched: Vec<Case>,
    /// The matching cases that run.
    pub to_run: Vec<Case>,
    /// The filters that select no case that runs, in the order of the command line.
    pub idle: Vec<IdleFilter>,
}

/// A filter that selects no case that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleFilter {
    /// The text of the filter. `None` if the command line has no filter, which selects all cases.
    pub text: Option<String>,
    /// Why no case runs.
    pub reason: IdleReason,
}

/// Why a filter selects no case that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleReason {
    /// No case matches.
    NoMatch,
    /// This number of cases match, and `--skip` excludes all of them.
    Skipped(usize),
    /// This number of cases match, all of them are ignored by default, and no flag includes ignored
    /// cases.
    Ignored(usize),
    /// This number of cases match, none of them is ignored by default, and `--ignored` excludes
    /// such cases.
    NotIgnored(usize),
}

impl Selection {
    /// Applies the filters, the skips and the ignored flags of `command_line`.
    pub fn of(plan: &Plan, manifest: &Manifest, command_line: &CommandLine) -> Selection {
        let runner = &command_line.runner;
        let exact = runner.exact;
        let filters: Vec<Option<&str>> = match &command_line.filters[..] {
            [] => vec![None],
            filters => filters.iter().map(|filter| Some(filter.as_str())).collect(),
        };
        let is_kept = |case: &Case| {
            !runner
                .skip
                .iter()
                .any(|skip| if exact { case.name == *skip } else { contains(&case.name, skip) })
        };
        let runs = |case: &Case| {
            if runner.ignored { case.ignored } else { runner.include_ignored || !case.ignored }
        };
        let mut is_matched = vec![false; plan.cases.len()];
        let mut idle = Vec::new();
        for text in filters {
            let filter = Filter::of(text, exact, manifest);
            let (mut matching, mut kept, mut running) = (0, 0, 0);
            for (case, is_matched) in plan.cases.iter().zip(&mut is_matched) {
                if !filter.matches(case, manifest) {
                    continue;
                }
                matching += 1;
                if is_kept(case) {
                    kept += 1;
                    running += usize::from(runs(case));
                    *is_matched = true;
                }
            }
            let reason = match (matching, kept, running) {
                (0, _, _) => IdleReason::NoMatch,
                (_, 0, _) => IdleReason::Skipped(matching),
                (_, _, 0) if runner.ignored => IdleReason::NotIgnored(kept),
                (_, _, 0) => IdleReason::Ignored(kept),
                _ => continue,
            };
            idle.push(IdleFilter { text: text.map(str::to_owned), reason });
        }
        let cases = plan.cases.iter().zip(is_matched);
        let matched: Vec<Case> =
            cases.filter(|(_, is_matched)| *is_matched).map(|(case, _)| case.clone()).collect();
        let to_run = matched.iter().filter(|case| runs(case)).cloned().collect();
        Selection { matched, to_run, idle }
    }
}

/// Returns the ids of the manifest that are similar to a filter that matched nothing.
fn similar_ids(filter: &str, manifest: &Manifest) -> Vec<String> {
    let model_part = filter.split("::").next().unwrap_or(filter);
    let mut names: Vec<String> = Vec::new();
    for model in &manifest.models {
        let mut spellings = vec![model.id.as_str()];
        if let Source::Hub { repo, .. } = &model.source {
            spellings.push(repo);
        }
        if nearest(model_part, spellings).is_some() {
            names.push(model.id.clone());
        }
    }
    names.truncate(3);
    names
}

/// Returns a hint for a filter that matched nothing: similar ids, or `default_hint` if there
/// are none.
pub fn similar_ids_hint(filter: &str, manifest: &Manifest, default_hint: &str) -> String {
    let similar = similar_ids(filter, manifest);
    if similar.is_empty() {
        default_hint.to_owned()
    } else {
        format!("check the spelling; the nearest ids are {}", similar.join(", "))
    }
}

/// One filter of a command line.
struct Filter<'a> {
    /// The text of the filter. `None` selects every case.
    text: Option<&'a str>,
    /// Whether the text is a complete name of a case.
    exact: bool,
    /// The models that the text names completely.
    named: Vec<usize>,
}

impl<'a> Filter<'a> {
    fn of(text: Option<&'a str>, exact: bool, manifest: &Manifest) -> Filter<'a> {
        let named = match text {
            Some(text) if !exact => named_models(text, manifest),
            _ => Vec::new(),
        };
        Filter { text, exact, named }
    }

    fn matches(&self, case: &Case, manifest: &Manifest) -> bool {
        match self.text {
            None => true,
            Some(text) if self.exact => case.name == text,
            Some(_) if !self.named.is_empty() => self.named.contains(&case.model),
            Some(text) => {
                contains(&case.name, text) || repo_contains(&manifest.models[case.model], text)
            }
        }
    }
}

/// Returns the models that `filter` selects, by the same rule as for their tests.
pub fn models(filter: &str, manifest: &Manifest) -> Vec<usize> {
    let named = named_models(filter, manifest);
    if !named.is_empty() {
        return named;
    }
    let matches = |model: &Model| contains(&model.id, filter) || repo_contains(model, filter);
    let models = manifest.models.iter().enumerate();
    models.filter(|(_, model)| matches(model)).map(|(index, _)| index).collect()
}

/// Returns the models whose id is the filter; otherwise the models whose hub repository it is,
/// without their variants.
fn named_models(filter: &str, manifest: &Manifest) -> Vec<usize> {
    let find = |test: &dyn Fn(&Model) -> bool| -> Vec<usize> {
        let models = manifest.models.iter().enumerate();
        models.filter(|(_, model)| test(model)).map(|(index, _)| index).collect()
    };
    let by_id = find(&|model| model.id.eq_ignore_ascii_case(filter));
    if !by_id.is_empty() {
        return by_id;
    }
    let is_repo = |model: &Model| match &model.source {
        Source::Hub { repo, .. } => {
            model.weights != WeightOrigin::InPlace && repo.eq_ignore_ascii_case(filter)
        }
        Source::Local { .. } => false,
    };
    let plain = find(&|model| is_repo(model) && !model.id.contains('@'));
    // a manifest may contain only variants of a repository
    if plain.is_empty() { find(&|model| is_repo(model)) } else { plain }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

fn repo_contains(model: &Model, filter: &str) -> bool {
    model.source.repo().is_some_and(|repo| contains(repo, filter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Invocation;

    const MODELS: &str = "schema = 1\n\
        [[model]]\nid = \"llama-3.1-70b-instruct\"\nquantization = \"q4_k\"\nsynthetic = true\n\
        repo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
        [[model]]\nid = \"omni@q8_0\"\nquantization = \"q8_0\"\nsynthetic = true\n\
        repo = \"Qwen/Qwen2.5-Omni-7B\"\n";

    /// Returns the models with a case that a filter selects.
    fn selected_by(filters: &[&str]) -> Vec<String> {
        let manifest = Manifest::parse(MODELS, "test", None).expect("a manifest");
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let command_line = CommandLine { filters, ..CommandLine::default() };
        let selection = Selection::of(&Plan::of(&manifest), &manifest, &command_line);
        let mut ids: Vec<String> =
            selection.matched.iter().map(|case| manifest.models[case.model].id.clone()).collect();
        ids.dedup();
        ids
    }

    fn selected(filter: &str) -> Vec<String> {
        selected_by(&[filter])
    }

    #[test]
    fn the_name_of_a_model_does_not_select_its_synthetic_variant() {
        for filter in ["llama-3.1-70b-instruct", "META-llama/Llama-3.1-70B-Instruct"] {
            assert_eq!(selected(filter), ["llama-3.1-70b-instruct"], "{filter}");
        }
        for filter in ["omni@q8_0", "Qwen/Qwen2.5-Omni-7B"] {
            assert_eq!(selected(filter), ["omni@q8_0"], "{filter}");
        }
    }

    #[test]
    fn synthetic_variants_are_selected_by_id_or_suffix() {
        assert_eq!(selected("omni@q8_0@synthetic"), ["omni@q8_0@synthetic"]);
        assert_eq!(
            selected("@synthetic"),
            ["llama-3.1-70b-instruct@synthetic", "omni@q8_0@synthetic"]
        );
    }

    #[test]
    fn several_filters_select_the_union_in_the_order_of_the_manifest() {
        assert_eq!(
            selected_by(&["omni@q8_0", "@synthetic", "no-such"]),
            ["llama-3.1-70b-instruct@synthetic", "omni@q8_0", "omni@q8_0@synthetic"]
        );
    }

    #[test]
    fn a_filter_that_selects_no_case_is_returned_with_its_reason() {
        let models = "schema = 1\n\
            [[model]]\nid = \"local\"\nquantization = \"q4_k\"\npath = \"m\"\n\
            [[model]]\nid = \"remote\"\nquantization = \"q8_0\"\nrepo = \"owner/name\"\n";
        let manifest = Manifest::parse(models, "test", None).expect("a manifest");
        let plan = Plan::of(&manifest);
        let idle = |text: &str, reason| IdleFilter { text: Some(text.to_owned()), reason };
        let all_skipped = IdleFilter { text: None, reason: IdleReason::Skipped(10) };
        for (line, expected) in [
            ("", vec![]),
            ("local", vec![]),
            ("--skip ::", vec![all_skipped]),
            ("local --ignored", vec![idle("local", IdleReason::NotIgnored(5))]),
            ("local --exact", vec![idle("local", IdleReason::NoMatch)]),
            ("local::load --exact", vec![]),
            ("local --skip generation", vec![]),
            ("local --skip loc", vec![idle("local", IdleReason::Skipped(5))]),
            ("remote", vec![idle("remote", IdleReason::Ignored(5))]),
            ("owner/name --include-ignored", vec![]),
            ("local remote", vec![idle("remote", IdleReason::Ignored(5))]),
            ("locla local", vec![idle("locla", IdleReason::NoMatch)]),
        ] {
            let arguments = line.split_whitespace().map(Into::into);
            let Ok(Invocation::Run(command_line)) = CommandLine::parse(arguments) else {
                panic!("{line}")
            };
            assert_eq!(Selection::of(&plan, &manifest, &command_line).idle, expected, "{line}");
        }
    }
}
