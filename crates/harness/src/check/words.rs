//! Whether an answer stands in a text: case-insensitive, on word boundaries.

/// Whether `phrase` stands in `text` with no letter or digit directly before or after it.
pub(super) fn contains(text: &str, phrase: &str) -> bool {
    let (text, phrase) = (text.to_lowercase(), phrase.trim().to_lowercase());
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !phrase.is_empty()
        && text.match_indices(&phrase).any(|(start, found)| {
            let before = text[..start].chars().next_back();
            let after = text[start + found.len()..].chars().next();
            let starts = !(is_word(before) && is_word(phrase.chars().next()));
            let ends = !(is_word(after) && is_word(phrase.chars().next_back()));
            starts && ends
        })
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn words_and_not_parts_of_words() {
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
}
