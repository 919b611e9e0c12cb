//! The workspace declares and uses the crates that the requirements of the project name.

use crate::finding::Finding;
use crate::repository::Manifest;
use crate::source::Source;
use crate::tokens::flat;

const REQUIRED: [&str; 9] = [
    "libtest-mimic",
    "candle-core",
    "candle-transformers",
    "hf-hub",
    "tokenizers",
    "nvml-wrapper",
    "sysinfo",
    "serde_json",
    "insta",
];

/// Reports the required crates that the workspace does not declare, and those that no member
/// depends on and uses in its code.
pub fn required_crates(
    sources: &[Source],
    workspace: &Manifest,
    members: &[Manifest],
) -> Vec<Finding> {
    let declared = workspace.table.get("workspace").and_then(|table| table.get("dependencies"));
    let mut findings = Vec::new();
    for name in REQUIRED {
        if declared.and_then(|declared| declared.get(name)).is_none() {
            let message = format!("does not declare {name} in [workspace.dependencies]");
            findings.push(Finding::new("Cargo.toml", message));
        }
        let depending = members.iter().filter(|member| member.dependencies().contains(&name));
        let depending: Vec<&Manifest> = depending.collect();
        if depending.is_empty() {
            findings.push(Finding::new("Cargo.toml", format!("no member depends on {name}")));
        } else if !depending.iter().any(|member| uses_crate(member, sources, name)) {
            let message = format!("no member that depends on {name} uses it in its code");
            findings.push(Finding::new("Cargo.toml", message));
        }
    }
    findings
}

/// Returns whether the code of a package contains the name of a crate.
fn uses_crate(member: &Manifest, sources: &[Source], name: &str) -> bool {
    let name = name.replace('-', "_");
    let mut owned = sources.iter().filter(|source| member.owns(source));
    owned.any(|source| flat(&source.tokens).iter().any(|token| token.is_word(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(left_out: &str) -> Vec<String> {
        let list = |left_out: &str| -> String {
            let kept = REQUIRED.iter().filter(|name| **name != left_out);
            kept.map(|name| format!("{name} = '1'\n")).collect()
        };
        let (declared, depended, named) = match left_out.split_once(' ') {
            Some(("declared", name)) => (name, "", ""),
            Some(("depended", name)) => ("", name, ""),
            Some(("named", name)) => ("", "", name),
            _ => ("", "", ""),
        };
        let workspace = Manifest::of(".", &format!("[workspace.dependencies]\n{}", list(declared)));
        let member = Manifest::of("crates/a", &format!("[dependencies]\n{}", list(depended)));
        let code: String = REQUIRED
            .iter()
            .filter(|name| **name != named)
            .map(|name| format!("use {}::A;\n", name.replace('-', "_")))
            .collect();
        let sources = [Source::of("crates/a/src/lib.rs", &code)];
        let findings = required_crates(&sources, &workspace, &[member]);
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn crates_that_are_declared_and_used_are_not_reported() {
        assert_eq!(found(""), [""; 0]);
    }

    #[test]
    fn a_crate_that_is_not_declared_or_not_used_is_reported() {
        let undeclared = ["does not declare hf-hub in [workspace.dependencies]"];
        assert_eq!(found("declared hf-hub"), undeclared);
        assert_eq!(found("depended sysinfo"), ["no member depends on sysinfo"]);
        let unnamed = ["no member that depends on nvml-wrapper uses it in its code"];
        assert_eq!(found("named nvml-wrapper"), unnamed);
    }
}
