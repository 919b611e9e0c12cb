//! Finds an answer in a text: case-insensitive, at word boundaries.

/// Returns whether `text` contains `phrase`, in any case, at word boundaries: no letter or digit is
/// next to a letter or digit at the start or end of the phrase. An empty phrase is never found.
pub(super) fn contains(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.to_lowercase(), phrase.trim().to_lowercase());
    let is_alphanumeric = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !phrase.is_empty()
        && text.match_indices(&phrase).any(|(start, found)| {
            let before = text[..start].chars().next_back();
            let after = text[start + found.len()..].chars().next();
            let starts_at_boundary =
                !(is_alphanumeric(before) && is_alphanumeric(phrase.chars().next()));
            let ends_at_boundary =
                !(is_alphanumeric(after) && is_alphanumeric(phrase.chars().next_back()));
            starts_at_boundary && ends_at_boundary
        })
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_phrase_is_found_only_at_word_boundaries() {
        assert!(contains("It is PARIS.", "Paris"));
        assert!(contains("7", "7"));
        assert!(contains("the answer is -7!", "-7"));
        assert!(contains("New  York? New York.", "new york"));
        assert!(!contains("Parisian", "Paris"));
        assert!(!contains("17", "7"));
        assert!(!contains("comparison", "paris"));
        assert!(!contains("", "Paris"));
        assert!(!contains("anything", ""));
    }
    #[test]
    fn only_letters_and_digits_next_to_each_other_are_one_word() {
        for (text, phrase, found) in [
            ("x-7", "-7", true),
            ("7%x", "7%", true),
            ("x7", "7", false),
            ("7x", "7", false),
            ("x 7x 7", "7", true),
            ("x7x7", "7", false),
            ("\u{e4}7", "7", false),
            ("paris", " Paris ", true),
            ("GR\u{dc}N", "gr\u{fc}n", true),
            ("", "", false),
            (" ", " ", false),
        ] {
            assert_eq!(contains(text, phrase), found, "{text:?} {phrase:?}");
        }
    }
}
