//! No test is marked as ignored, because `--include-ignored`, which selects gated models, would run
//! it.

use crate::finding::Finding;
use crate::source::Source;
use crate::tokens::{Token, flat};
use proc_macro2::Delimiter;

/// Reports ignored tests and ignored examples in documentation.
pub fn ignored(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let tokens = flat(&source.tokens);
        for token in &tokens {
            if let Token::Doc { text, line } = token
                && has_ignored_example(text)
            {
                let message = "contains an example marked `ignore`: mark it `text`";
                findings.push(Finding::at_line(&source.path, *line, message));
            }
        }
        for pair in tokens.windows(2) {
            if let [Token::Mark('#'), Token::Group { delimiter: Delimiter::Bracket, tokens }] = pair
                && let Some(line) = ignoring_line(tokens)
            {
                findings.push(Finding::at_line(&source.path, line, "ignores a test"));
            }
        }
    }
    findings
}

/// Returns whether a line or a block of documentation starts an ignored example.
fn has_ignored_example(literal: &str) -> bool {
    let text = literal.trim_matches('"').replace("\\n", "\n");
    text.lines().map(|line| line.trim_start_matches([' ', '\t', '*'])).any(|line| {
        let info = line.strip_prefix("```").or_else(|| line.strip_prefix("~~~"));
        info.is_some_and(|info| {
            let mut words = info.split(|character: char| " ,\t{}.`~".contains(character));
            words.any(|word| word.starts_with("ignore"))
        })
    })
}

/// Returns the line of an attribute that ignores a test, with or without a condition. `None` if the
/// attribute does not ignore a test.
fn ignoring_line(attribute: &[Token]) -> Option<usize> {
    match attribute {
        [Token::Word { text, line }, ..] if text == "ignore" => Some(*line),
        [Token::Word { text, line }, Token::Group { tokens, .. }] if text == "cfg_attr" => {
            tokens.iter().any(|token| token.is_word("ignore")).then_some(*line)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        ignored(&[Source::of("a.rs", text)]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn ignored_examples_are_reported() {
        let expected = ["a.rs:2: contains an example marked `ignore`: mark it `text`"];
        assert_eq!(found("/// An example:\n/// ```ignore\n/// f();\n/// ```\nfn f() {}"), expected);
        for text in [
            "//! ```rust,ignore\n//! ```",
            "mod a { /// ```ignore-windows\n/// ```\nfn f() {} }",
            "/** Text.\n * ~~~ rust ignore\n * ~~~\n */ fn f() {}",
        ] {
            assert_eq!(found(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn ignored_tests_are_reported() {
        assert_eq!(found("#[test]\n#[ignore]\nfn f() {}"), ["a.rs:2: ignores a test"]);
        assert_eq!(found("mod a { #[test] #[ignore = \"slow\"] fn f() {} }").len(), 1);
        assert_eq!(found("#[cfg_attr(unix, ignore)] #[test] fn f() {}").len(), 1);
    }

    #[test]
    fn other_uses_of_the_word_ignore_are_not_reported() {
        let text = "/// Ignore ```this```, and:\n/// ```no_run\n/// ignore();\n/// ```
                    #[inline] fn ignore() { let text = \"```ignore\"; x[ignore] }";
        assert_eq!(found(text), [""; 0]);
    }
}
