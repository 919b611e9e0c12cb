//! Failures of the protocol are created only at the boundary: where the harness reports a typed
//! error, and where the engine fails. Other code would lose the type and the source of the error.

use crate::finding::Finding;
use crate::module_graph::Paths;
use crate::source::Source;

/// The files that may create failures.
const BOUNDARY: [&str; 4] = [
    "crates/harness/src/reportable.rs",
    "crates/engine/src/failures.rs",
    "crates/engine/src/cuda/driver_failures.rs",
    "crates/engine/src/worker/process.rs",
];
/// The crate that declares failures.
const PROTOCOL: &str = "crates/protocol/src";

/// Reports library code outside the boundary that calls `Failure::new`, and files of the boundary
/// that do not exist.
pub fn failure_boundary(sources: &[Source]) -> Vec<Finding> {
    let missing = BOUNDARY.iter().filter(|path| sources.iter().all(|source| source.path != **path));
    let missing = missing.map(|path| Finding::new(*path, "does not exist"));
    let elsewhere = sources.iter().filter(|source| {
        is_library_code(source) && !source.is_in(PROTOCOL) && !BOUNDARY.contains(&&*source.path)
    });
    let creating = elsewhere
        .filter(|source| creates_failure(source))
        .map(|source| Finding::new(&source.path, "creates a Failure"));
    missing.chain(creating).collect()
}

fn is_library_code(source: &Source) -> bool {
    source.is_in("src") || source.path.split('/').nth(2) == Some("src")
}

fn creates_failure(source: &Source) -> bool {
    let ends = |path: &Vec<String>| path.ends_with(&["Failure".to_owned(), "new".to_owned()]);
    Paths::of(&source.code).paths.iter().any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(path: &str, text: &str) -> Vec<String> {
        let boundary = BOUNDARY.iter().map(|path| Source::of(path, ""));
        let sources: Vec<Source> = boundary.chain([Source::of(path, text)]).collect();
        failure_boundary(&sources).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_failure_that_is_created_outside_the_boundary_is_reported() {
        let expected = ["crates/harness/src/a.rs: creates a Failure"];
        for text in [
            "fn f() { Failure::new(stage, kind, \"what\", \"how\") }",
            "fn f() { modelgate_protocol::Failure::new(stage, kind, \"what\", \"how\") }",
        ] {
            assert_eq!(reported("crates/harness/src/a.rs", text), expected);
        }
        assert_eq!(failure_boundary(&[]).len(), BOUNDARY.len());
    }

    #[test]
    fn failures_in_the_boundary_and_in_tests_are_not_reported() {
        let text = "fn f() { Failure::new() }";
        for path in ["crates/harness/tests/a.rs", "crates/protocol/src/a.rs", BOUNDARY[0]] {
            assert_eq!(reported(path, text), [""; 0], "{path}");
        }
        let text = "fn f() { Other::new() } #[cfg(test)] mod tests { fn f() { Failure::new() } }";
        assert_eq!(reported("crates/hub/src/a.rs", text), [""; 0]);
    }
}
