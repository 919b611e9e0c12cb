//! Texts do not contain the phrases and prefixes that STYLE.md replaces.

use crate::document::{Document, Word};
use crate::finding::Finding;

/// The replaced phrases, in lower case.
const PHRASES: [&str; 12] = [
    "held against",
    "be had",
    "stands twice",
    "stand twice",
    "none where",
    "somebody",
    "nobody",
    "mend",
    "mends",
    "mended",
    "mending",
    "in vain",
];
/// Prefixes of the names of limits, which must start with `MAX_` or `MIN_` instead.
const PREFIXES: [&str; 5] = ["LONGEST_", "MOST_", "LEAST_", "LARGEST_", "SMALLEST_"];
/// The files that list the phrases.
const EXEMPT_FILES: [&str; 2] = ["STYLE.md", "xtask/src/rules/phrases.rs"];

/// Reports the replaced phrases and prefixes in all documents.
pub fn phrases(documents: &[Document]) -> Vec<Finding> {
    let checked = documents.iter().filter(|document| !EXEMPT_FILES.contains(&&*document.path));
    checked.flat_map(in_document).collect()
}

fn in_document(document: &Document) -> Vec<Finding> {
    let words = document.words();
    let mut findings = Vec::new();
    for at in 0..words.len() {
        let Word::Text(word, line) = words[at] else { continue };
        let begins = |phrase: &&&str| is_phrase(&words[at..], phrase);
        if let Some(phrase) = PHRASES.iter().find(begins) {
            let message = format!("\"{phrase}\": see the replacements in STYLE.md");
            findings.push(Finding::at_line(&document.path, line, message));
        }
        if let Some(prefix) = PREFIXES.iter().find(|prefix| word.starts_with(**prefix)) {
            let message = format!("{word} starts with {prefix}: use MAX_ or MIN_");
            findings.push(Finding::at_line(&document.path, line, message));
        }
    }
    findings
}

fn is_phrase(words: &[Word<'_>], phrase: &str) -> bool {
    let parts: Vec<&str> = phrase.split(' ').collect();
    words.len() >= parts.len()
        && parts.iter().zip(words).all(|(part, word)| match word {
            Word::Text(text, _) => text.eq_ignore_ascii_case(part),
            Word::Break => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        phrases(&[Document::of("a.rs", text)]).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn every_phrase_and_prefix_is_reported() {
        for phrase in PHRASES {
            assert_eq!(found(&format!("// x\n// This {phrase} y")).len(), 1, "{phrase}");
        }
        for prefix in PREFIXES {
            let expected = format!("a.rs:1: {prefix}A starts with {prefix}: use MAX_ or MIN_");
            assert_eq!(found(&format!("const {prefix}A: u8 = 1;")), [expected]);
        }
        let expected = ["a.rs:1: \"be had\": see the replacements in STYLE.md"];
        assert_eq!(found("/// To BE\n/// had."), expected);
    }

    #[test]
    fn words_that_contain_a_phrase_are_not_reported() {
        assert_eq!(found("recommended, as it may be. Had it ... none; where ALMOST_X"), [""; 0]);
        assert_eq!(phrases(&[Document::of("STYLE.md", "mend")]), []);
    }
}
