//! Filters that select no case: their messages, and whether they fail the run.
//!
//! Cargo passes a filter to every test target, so that a filter for a test of another target must not
//! fail the run. It fails if it can only be meant for models.

use crate::manifest::Manifest;
use crate::plan::{IdleFilter, IdleReason, Plan, Selection, models, similar_ids_hint};
use crate::settings::CommandLine;
use libtest_mimic::Arguments;

/// The separators of the parts of case names, hub repositories and variants.
const SEPARATORS: [&str; 3] = ["::", "/", "@"];

/// Prints a message for each filter in `idle`. Returns whether one of them fails the run.
pub(super) fn report(
    idle: &[IdleFilter],
    command_line: &CommandLine,
    ci: bool,
    plan: &Plan,
    manifest: &Manifest,
) -> bool {
    let mut fails = false;
    for filter in idle {
        let is_failure = is_failure(filter, &command_line.runner, ci);
        let level = if is_failure { "error" } else { "warning" };
        let hint = hint(filter, command_line, plan, manifest);
        eprintln!("{level}: {}\nhint: {hint}", message(filter));
        fails |= is_failure;
    }
    fails
}

/// Returns whether a filter without cases fails the run: in CI, where a warning has no effect, and
/// if a flag or the filter shows that models are meant.
fn is_failure(filter: &IdleFilter, runner: &Arguments, ci: bool) -> bool {
    let text = filter.text.as_deref().unwrap_or_default();
    let is_for_models = SEPARATORS.iter().any(|separator| text.contains(separator));
    let selects_models = runner.ignored || runner.include_ignored || runner.exact;
    ci || selects_models || is_for_models || matches!(filter.reason, IdleReason::Ignored(_))
}

fn message(filter: &IdleFilter) -> String {
    let text = filter.text.as_deref().unwrap_or_default();
    let cases = |count: usize| match &filter.text {
        Some(text) => format!("all {count} cases that \"{text}\" selects"),
        None => format!("all {count} cases"),
    };
    match filter.reason {
        IdleReason::NoMatch => format!("no model or case matches \"{text}\""),
        IdleReason::Skipped(count) => format!("{} are excluded by --skip", cases(count)),
        IdleReason::Ignored(count) => format!(
            "{} are ignored by default, because they need a GPU or a hub repository",
            cases(count)
        ),
        IdleReason::NotIgnored(count) => {
            format!("{} are excluded by --ignored, because they run by default", cases(count))
        }
    }
}

/// Returns an instruction to select the intended cases.
fn hint(
    filter: &IdleFilter,
    command_line: &CommandLine,
    plan: &Plan,
    manifest: &Manifest,
) -> String {
    let hint = match filter.reason {
        IdleReason::NoMatch => {
            let text = filter.text.as_deref().unwrap_or_default();
            return no_match_hint(text, &command_line.runner, plan, manifest);
        }
        IdleReason::Skipped(_) => "remove `--skip`; or give it a part of fewer names",
        IdleReason::Ignored(_) => {
            "add `--include-ignored` to run them; in a command of cargo, write it after `--`"
        }
        IdleReason::NotIgnored(_) => {
            "use `--include-ignored` instead of `--ignored`; or remove `--ignored`"
        }
    };
    hint.to_owned()
}

/// Returns an instruction for a filter that matches no case: the cases that it matches without
/// `--exact`, the cases of the model in front of `::`, or the nearest ids.
fn no_match_hint(text: &str, runner: &Arguments, plan: &Plan, manifest: &Manifest) -> String {
    let without_exact = CommandLine { filters: vec![text.to_owned()], ..CommandLine::default() };
    let similar = Selection::of(plan, manifest, &without_exact).matched;
    if let (true, Some(case)) = (runner.exact, similar.first()) {
        return format!(
            "remove `--exact`; or use the complete name of a case, for example {}",
            case.name
        );
    }
    let named = text.split_once("::").and_then(|(id, _)| models(id, manifest).first().copied());
    if let Some(model) = named {
        let cases = plan.cases.iter().filter(|case| case.model == model);
        let names: Vec<&str> = cases.map(|case| case.name.as_str()).collect();
        return format!("use one of {}", names.join(", "));
    }
    similar_ids_hint(text, manifest, "run with `--list` to list all cases")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Invocation;

    const MODELS: &str = "schema = 1\n\
        [[model]]\nid = \"local\"\nquantization = \"q4_k\"\npath = \"m\"\n\
        [[model]]\nid = \"local@q8_0\"\nquantization = \"q8_0\"\npath = \"m\"\n\
        [[model]]\nid = \"remote\"\nquantization = \"q8_0\"\nrepo = \"owner/name\"\n";

    #[test]
    fn a_filter_without_cases_fails_if_models_are_meant() {
        let manifest = Manifest::parse(MODELS, "test", None).expect("a manifest");
        let plan = Plan::of(&manifest);
        let no_match = |text: &str| format!("no model or case matches \"{text}\"");
        // command line, CI, failure, message, part of the hint
        let rows = [
            ("locla", false, false, no_match("locla"), "the nearest ids are local"),
            ("unit_test", false, false, no_match("unit_test"), "--list"),
            ("unit_test", true, true, no_match("unit_test"), "--list"),
            ("unit_test --ignored", false, true, no_match("unit_test"), "--list"),
            ("unit_test --include-ignored", false, true, no_match("unit_test"), "--list"),
            ("local --exact", false, true, no_match("local"), "for example local::load"),
            ("local::laod", false, true, no_match("local::laod"), "use one of local::load, "),
            ("other::load", false, true, no_match("other::load"), "--list"),
            ("owner/nane", false, true, no_match("owner/nane"), "the nearest ids are remote"),
            ("@q4", false, true, no_match("@q4"), "--list"),
            (
                "local --ignored",
                false,
                true,
                "all 5 cases that \"local\" selects are excluded by --ignored, because they run \
                 by default"
                    .to_owned(),
                "`--include-ignored` instead",
            ),
            (
                "--skip ::",
                false,
                false,
                "all 15 cases are excluded by --skip".to_owned(),
                "remove `--skip`",
            ),
            (
                "remote",
                false,
                true,
                "all 5 cases that \"remote\" selects are ignored by default, because they need a \
                 GPU or a hub repository"
                    .to_owned(),
                "add `--include-ignored`",
            ),
        ];
        for (line, ci, fails, expected, part) in rows {
            let arguments = line.split_whitespace().map(Into::into);
            let Ok(Invocation::Run(command_line)) = CommandLine::parse(arguments) else {
                panic!("{line}")
            };
            let selection = Selection::of(&plan, &manifest, &command_line);
            let [filter] = &selection.idle[..] else { panic!("{line}: {:?}", selection.idle) };
            assert_eq!(message(filter), expected, "{line}");
            let hint = hint(filter, &command_line, &plan, &manifest);
            assert!(hint.contains(part), "{line}: {hint}");
            assert_eq!(is_failure(filter, &command_line.runner, ci), fails, "{line}");
        }
    }
}
