//! The wrapping of lines, as by Python's `textwrap.wrap` without changes to white space.

use super::types::is_space;

/// Returns the lines of a paragraph, each of at most `width` characters.
pub(super) fn wrapped(
    text: &str,
    width: usize,
    break_long_words: bool,
    break_on_hyphens: bool,
) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    let mut chunks = chunks(&letters, break_on_hyphens);
    chunks.reverse();
    let is_blank = |chunk: &[char]| chunk.iter().all(|letter| is_space(*letter));
    let mut lines: Vec<String> = Vec::new();
    while !chunks.is_empty() {
        // no line except the first begins with white space
        if !lines.is_empty() {
            chunks.pop_if(|chunk| is_blank(chunk));
        }
        let (mut line, mut length): (Vec<&[char]>, usize) = (Vec::new(), 0);
        while let Some(chunk) = chunks.pop_if(|chunk| length + chunk.len() <= width) {
            length += chunk.len();
            line.push(chunk);
        }
        if let Some(long) = chunks.pop_if(|chunk| chunk.len() > width) {
            if break_long_words {
                let room = width - length;
                let hyphen = long[..room.min(long.len())].iter().rposition(|letter| *letter == '-');
                let end = match hyphen {
                    Some(at)
                        if break_on_hyphens
                            && at > 0
                            && long[..at].iter().any(|letter| *letter != '-') =>
                    {
                        at + 1
                    }
                    _ => room,
                };
                let (begin, rest) = long.split_at(end);
                line.push(begin);
                chunks.push(rest);
            } else if line.is_empty() {
                line.push(long);
            } else {
                chunks.push(long);
            }
        }
        line.pop_if(|chunk| is_blank(chunk));
        if !line.is_empty() {
            lines.push(line.concat().into_iter().collect());
        }
    }
    lines
}

/// Splits a text into words and white space. With `on_hyphens`, a word is also split after a hyphen
/// between two groups of letters.
fn chunks(letters: &[char], on_hyphens: bool) -> Vec<&[char]> {
    let (mut chunks, mut begin) = (Vec::new(), 0);
    for at in 1..=letters.len() {
        let ends = at == letters.len()
            || is_space(letters[at - 1]) != is_space(letters[at])
            || (on_hyphens && is_break(letters, at));
        if ends {
            chunks.push(&letters[begin..at]);
            begin = at;
        }
    }
    chunks
}

/// Returns whether a word can be split before the character at `at`, which follows a hyphen.
fn is_break(letters: &[char], at: usize) -> bool {
    let is_letter = |at: Option<usize>| {
        at.and_then(|at| letters.get(at))
            .is_some_and(|letter| letter.is_alphabetic() || *letter == '_')
    };
    let is_hyphen = |at: Option<usize>| at.and_then(|at| letters.get(at)) == Some(&'-');
    let back = |count: usize| at.checked_sub(count);
    let after = is_letter(Some(at))
        && (is_letter(Some(at + 1)) || (is_hyphen(Some(at + 1)) && is_letter(Some(at + 2))));
    let before =
        is_letter(back(2)) && (is_letter(back(3)) || (is_hyphen(back(3)) && is_letter(back(4))));
    is_hyphen(back(1)) && before && after
}
