//! Checks do not use the quantization rule of the engine. A check that used it could not find a
//! wrong rule.

use crate::finding::Finding;
use crate::module_graph::{Import, Path, Paths};
use crate::source::Source;

const FOLDER: &str = "crates/harness/src/check";
const MODEL: &str = "modelgate_model";
/// The names of the items of the crate `modelgate_model` that implement the quantization rule.
const RULE_NAMES: [&str; 4] = ["residence", "Placement", "float_dtype", "role"];

/// Reports the checks of the harness that use the quantization rule of the crate `modelgate_model`.
pub fn check_layer(sources: &[Source]) -> Vec<Finding> {
    let checks: Vec<&Source> = sources.iter().filter(|source| source.is_in(FOLDER)).collect();
    if checks.is_empty() {
        return vec![Finding::new(FOLDER, "contains no sources")];
    }
    let in_file = |source: &&Source| {
        let named = rule_names(&Paths::of(&source.code));
        let path = source.path.clone();
        named.into_iter().map(move |name| Finding::new(&path, format!("names {name}")))
    };
    checks.iter().flat_map(in_file).collect()
}

/// Returns the paths that refer to the rule, directly or through an import.
fn rule_names(paths: &Paths) -> Vec<String> {
    let mut found = Vec::new();
    for import in &paths.imports {
        let path = full_path(&import.path, &paths.imports);
        if path[0] != MODEL {
            continue;
        }
        if path[1..].iter().any(|segment| RULE_NAMES.contains(&segment.as_str())) {
            found.push(path.join("::"));
        } else if import.name.is_none() {
            found.push(format!("{}::*", path.join("::")));
        }
    }
    for path in paths.paths.iter().filter(|path| path.len() > 1) {
        let path = full_path(path, &paths.imports);
        if path[0] == MODEL
            && path[1..].iter().any(|segment| RULE_NAMES.contains(&segment.as_str()))
        {
            found.push(path.join("::"));
        }
    }
    found
}

/// Returns a path whose first segment is replaced by the path of its import.
fn full_path(path: &[String], imports: &[Import]) -> Path {
    let of_model = |import: &&Import| {
        import.path[0] == MODEL && import.name.as_ref() == Some(&path[0]) && path[0] != MODEL
    };
    match imports.iter().find(of_model) {
        Some(import) => import.path.iter().chain(&path[1..]).cloned().collect(),
        None => path.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let found = check_layer(&[Source::of("crates/harness/src/check/a.rs", text)]);
        found.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn uses_of_the_quantization_rule_in_a_check_are_reported() {
        let residence = ["names modelgate_model::residence"];
        assert_eq!(found("use modelgate_model::{Config, residence};"), residence);
        assert_eq!(found("use modelgate_model::residence as placed;"), residence);
        assert_eq!(found("fn f() { modelgate_model::residence(name) }"), residence);
        assert_eq!(found("use modelgate_model as m; fn f() { m::residence(n) }"), residence);
        assert_eq!(found("fn f() -> modelgate_model::rule::Placement {}").len(), 1);
        assert_eq!(found("use modelgate_model::{rule}; fn f() { rule::role(a, b) }").len(), 1);
        assert_eq!(found("use modelgate_model::*;"), ["names modelgate_model::*"]);
        assert_eq!(check_layer(&[]).len(), 1);
    }

    #[test]
    fn other_names_are_not_reported() {
        let text = "use modelgate_model::{Config, Role, tensors}; use other::residence;
                    fn f() { let role = message.role; Role::Other; residence() }
                    #[cfg(test)] mod tests { use modelgate_model::residence; }";
        assert_eq!(found(text), [""; 0]);
    }
}
