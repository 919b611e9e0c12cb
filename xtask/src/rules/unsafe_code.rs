//! Unsafe code is allowed only in the engine, in the testkit and in tests.

use crate::finding::Finding;
use crate::source::Source;
use crate::tokens::{Token, flat};

/// Reports `unsafe` in other places.
pub fn unsafe_code(sources: &[Source]) -> Vec<Finding> {
    let checked = sources.iter().filter(|source| !may_be_unsafe(source));
    let in_file = |source: &Source| -> Vec<Finding> {
        let lines = flat(&source.tokens).into_iter().filter_map(unsafe_line);
        lines.map(|line| Finding::at_line(&source.path, line, "contains unsafe code")).collect()
    };
    checked.flat_map(in_file).collect()
}

fn unsafe_line(token: &Token) -> Option<usize> {
    match token {
        Token::Word { text, line } if text == "unsafe" => Some(*line),
        _ => None,
    }
}

fn may_be_unsafe(source: &Source) -> bool {
    let folders: Vec<&str> = source.path.split('/').collect();
    let is_test = matches!(folders[..], ["tests", ..] | ["crates", _, "tests", ..]);
    is_test || source.is_in("crates/engine") || source.is_in("crates/testkit/src")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(path: &str) -> Vec<String> {
        let text = "/// unsafe\nfn f() {\n    unsafe { \"unsafe\" } }";
        unsafe_code(&[Source::of(path, text)]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn unsafe_code_in_other_places_is_reported() {
        let expected = ["crates/harness/src/a.rs:3: contains unsafe code"];
        assert_eq!(reported("crates/harness/src/a.rs"), expected);
        for path in
            ["src/main.rs", "benches/a.rs", "crates/testkit/examples/a.rs", "xtask/src/a.rs"]
        {
            assert_eq!(reported(path).len(), 1, "{path}");
        }
        assert_eq!(
            unsafe_code(&[Source::of("src/a.rs", "#[unsafe(no_mangle)] fn f() {}")]).len(),
            1
        );
    }

    #[test]
    fn unsafe_code_in_allowed_places_is_not_reported() {
        for path in [
            "crates/engine/src/a.rs",
            "crates/engine/benches/a.rs",
            "crates/testkit/src/a.rs",
            "tests/support/a.rs",
            "crates/hub/tests/a.rs",
        ] {
            assert_eq!(reported(path), [""; 0], "{path}");
        }
    }
}
