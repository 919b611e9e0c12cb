//! Finds the candidate that is most similar to a misspelled name.

/// The similarity above which a candidate is suggested (Jaro-Winkler, 0 to 1).
const MIN_SIMILARITY: f64 = 0.75;

/// Returns the candidate that is most similar to `word`. `None` if no candidate is similar enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(similarity, _)| *similarity > MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Returns the candidate with the letters and digits of `word` and other separators. A candidate
/// that differs only in case is ignored.
pub(crate) fn respelled<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let letters = |name: &str| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
    };
    candidates.into_iter().find(|candidate| {
        !candidate.eq_ignore_ascii_case(word) && letters(candidate) == letters(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_candidate_is_returned() {
        let candidates = ["tiny", "tinier", "huge"];
        assert_eq!(nearest("Tinny", candidates), Some("tiny"));
        assert_eq!(nearest("unrelated", candidates), None);
    }

    #[test]
    fn a_name_with_other_separators_is_found() {
        let known = ["Qwen/Qwen2.5-Omni-7B"];
        assert_eq!(respelled("Qwen/Qwen-2.5-Omni-7B", known), Some(known[0]));
        assert_eq!(respelled("qwen/qwen2.5-omni-7b", known), None);
        assert_eq!(respelled("Qwen/Qwen2.5-Omni-3B", known), None);
    }
}
