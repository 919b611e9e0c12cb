//! The harness knows no engine: neither the engine crate nor what that is built on.

use crate::finding::Finding;
use crate::repository::Manifest;
use crate::source::Source;
use crate::tokens::{Token, flat};

const FOLDER: &str = "crates/harness";
/// Where the build of a worker for GPUs lists the packages that it is made of.
const PACKAGE_LISTS: &str = "crates/harness/src/workers/cuda_build";

/// Reports the engine's or candle's name in the code of the harness and in its manifest. Literals
/// of `workers/cuda_build` are exempt, for the names of packages that a build is made of.
pub fn harness_layer(sources: &[Source], members: &[Manifest]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(manifest) = members.iter().find(|member| member.folder == FOLDER) else {
        return vec![Finding::new(FOLDER, "is no member of the workspace")];
    };
    for name in manifest.dependencies().into_iter().filter(|name| names_engine(name)) {
        findings.push(Finding::new(manifest.path("Cargo.toml"), format!("depends on {name}")));
    }
    for source in sources.iter().filter(|source| source.is_in(&manifest.path("src"))) {
        let literals_count = !source.is_in(PACKAGE_LISTS);
        for token in flat(&source.tokens) {
            let (text, line) = match token {
                Token::Word { text, line } => (text, *line),
                Token::Literal { text, line } if literals_count => (text, *line),
                _ => continue,
            };
            if names_engine(text) {
                findings.push(Finding::at_line(&source.path, line, format!("names {text}")));
            }
        }
    }
    findings
}

/// Says whether a word or a literal contains the name of the engine crate or of candle's crates.
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
    fn an_engine_is_reported() {
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
