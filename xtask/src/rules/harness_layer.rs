//! The harness does not depend on an engine: neither on the engine crate nor on candle.

use crate::finding::Finding;
use crate::repository::Manifest;
use crate::source::Source;
use crate::tokens::{Token, flat};

const FOLDER: &str = "crates/harness";
/// The folder with the build of a worker for GPUs, which lists the packages to build.
const PACKAGE_LISTS: &str = "crates/harness/src/workers/cuda_build";

/// Reports names of the engine crate or of candle in the code and the manifest of the harness.
/// Literals in `workers/cuda_build` are exempt, because they name the packages to build.
pub fn harness_layer(sources: &[Source], members: &[Manifest]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(manifest) = members.iter().find(|member| member.folder == FOLDER) else {
        return vec![Finding::new(FOLDER, "is not a member of the workspace")];
    };
    for name in manifest.dependencies().into_iter().filter(|name| names_engine(name)) {
        findings.push(Finding::new(manifest.path("Cargo.toml"), format!("depends on {name}")));
    }
    for source in sources.iter().filter(|source| source.is_in(&manifest.path("src"))) {
        let checks_literals = !source.is_in(PACKAGE_LISTS);
        for token in flat(&source.tokens) {
            let (text, line) = match token {
                Token::Word { text, line } => (text, *line),
                Token::Literal { text, line } if checks_literals => (text, *line),
                _ => continue,
            };
            if names_engine(text) {
                findings.push(Finding::at_line(&source.path, line, format!("names {text}")));
            }
        }
    }
    findings
}

/// Returns whether a word or a literal contains the name of the engine crate or of candle.
pub(super) fn names_engine(text: &str) -> bool {
    ["modelgate_engine", "modelgate-engine", "candle"].iter().any(|name| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(path: &str, text: &str, dependencies: &str) -> Vec<String> {
        let manifest = Manifest::of(FOLDER, &format!("[dependencies]\n{dependencies}"));
        let found = harness_layer(&[Source::of(path, text)], &[manifest]);
        found.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn names_of_an_engine_are_reported() {
        let path = "crates/harness/src/a.rs";
        assert_eq!(
            reported(path, "\nuse candle_core::Tensor;", ""),
            ["crates/harness/src/a.rs:2: names candle_core"]
        );
        assert_eq!(reported(path, "fn f() { modelgate_engine::run_worker() }", "").len(), 1);
        assert_eq!(reported(path, "const A: &str = \"modelgate-engine\";", "").len(), 1);
        assert_eq!(
            reported(path, "", "modelgate-engine.workspace = true"),
            ["crates/harness/Cargo.toml: depends on modelgate-engine"]
        );
        assert_eq!(harness_layer(&[], &[]).len(), 1);
    }

    #[test]
    fn documentation_and_lists_of_packages_are_not_reported() {
        assert_eq!(reported("crates/harness/src/a.rs", "/// Not candle.\nfn f() {}", ""), [""; 0]);
        let list = "const PACKAGES: [&str; 1] = [\"modelgate-engine\"];";
        let file = "crates/harness/src/workers/cuda_build/cargo.rs";
        assert_eq!(reported(file, list, "serde = '1'"), [""; 0]);
        assert_eq!(reported(file, "use modelgate_engine::A;", "").len(), 1);
    }
}
