//! The planned cases that a command line selects.
//!
//! The filter of the test runner is a plain substring; the filter of modelgate also matches ids and
//! hub repositories. The selection is therefore made here, and the runner gets exact names.

use super::cases::{Case, Plan};
use crate::manifest::{Manifest, Model, Source, WeightOrigin};
use libtest_mimic::Arguments;
use modelgate_hub::nearest;

/// The cases that a command line selects.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The cases that match the filter, including ignored ones.
    pub matched: Vec<Case>,
    /// The matching cases that run.
    pub to_run: Vec<Case>,
}

impl Selection {
    /// Applies the filter, the skips and the ignored flags of `arguments`.
    pub fn of(plan: &Plan, manifest: &Manifest, arguments: &Arguments) -> Selection {
        let filter = Filter::of(arguments, manifest);
        let matched: Vec<Case> =
            plan.cases.iter().filter(|case| filter.matches(case, manifest)).cloned().collect();
        let to_run = matched
            .iter()
            .filter(|case| match (arguments.ignored, arguments.include_ignored) {
                (true, _) => case.ignored,
                (false, true) => true,
                (false, false) => !case.ignored,
            })
            .cloned()
            .collect();
        Selection { matched, to_run }
    }

    /// Returns whether some cases match, but all of them are ignored.
    pub fn only_ignored(&self) -> bool {
        self.to_run.is_empty() && self.matched.iter().any(|case| case.ignored)
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

/// The filter of a command line.
struct Filter<'a> {
    arguments: &'a Arguments,
    /// The models that the positional filter names completely.
    named: Vec<usize>,
}

impl<'a> Filter<'a> {
    fn of(arguments: &'a Arguments, manifest: &Manifest) -> Filter<'a> {
        let named = match &arguments.filter {
            Some(filter) if !arguments.exact => named_models(filter, manifest),
            _ => Vec::new(),
        };
        Filter { arguments, named }
    }

    fn matches(&self, case: &Case, manifest: &Manifest) -> bool {
        let selected = match &self.arguments.filter {
            None => true,
            Some(filter) if self.arguments.exact => case.name == *filter,
            Some(_) if !self.named.is_empty() => self.named.contains(&case.model),
            Some(filter) => {
                contains(&case.name, filter) || repo_contains(&manifest.models[case.model], filter)
            }
        };
        selected
            && !self.arguments.skip.iter().any(|skip| {
                if self.arguments.exact { case.name == *skip } else { contains(&case.name, skip) }
            })
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

    const MODELS: &str = "schema = 1\n\
        [[model]]\nid = \"llama-3.1-70b-instruct\"\nquantization = \"q4_k\"\nsynthetic = true\n\
        repo = \"meta-llama/Llama-3.1-70B-Instruct\"\n\
        [[model]]\nid = \"omni@q8_0\"\nquantization = \"q8_0\"\nsynthetic = true\n\
        repo = \"Qwen/Qwen2.5-Omni-7B\"\n";

    /// Returns the models with a case that `filter` selects.
    fn selected(filter: &str) -> Vec<String> {
        let manifest = Manifest::parse(MODELS, "test", None).expect("a manifest");
        let arguments = Arguments { filter: Some(filter.to_owned()), ..Arguments::default() };
        let selection = Selection::of(&Plan::of(&manifest), &manifest, &arguments);
        let mut ids: Vec<String> =
            selection.matched.iter().map(|case| manifest.models[case.model].id.clone()).collect();
        ids.dedup();
        ids
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
}
