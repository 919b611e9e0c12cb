//! A text file as rules of language see it: with its comments and strings.

/// A text file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its path from the root of the repository, with `/` between its parts.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A word of a text, or a mark that ends a sentence or a part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word<'t> {
    /// Letters, digits and underscores, with their line, from 1.
    Text(&'t str, usize),
    /// A full stop, a colon, a semicolon, a quotation mark, a bracket, or the edge of a table's cell.
    Break,
}

impl Document {
    /// Returns the words of the text. Line breaks and comment markers do not separate the words of a phrase.
    pub(crate) fn words(&self) -> Vec<Word<'_>> {
        let mut words = Vec::new();
        for (index, line) in self.text.lines().enumerate() {
            let mut rest = line;
            while let Some(c) = rest.chars().next() {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                if length > 0 {
                    words.push(Word::Text(&rest[..length], index + 1));
                    rest = &rest[length..];
                } else {
                    if ".:;\"`|()[]{}".contains(c) {
                        words.push(Word::Break);
                    }
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        words
    }

    #[cfg(test)]
    pub(crate) fn of(path: &str, text: &str) -> Document {
        Document { path: path.to_owned(), text: text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_over_lines_and_parted_by_marks() {
        let document = Document::of("a.rs", "/// be\n/// had. \"x\" A_B");
        let expected = [
            Word::Text("be", 1),
            Word::Text("had", 2),
            Word::Break,
            Word::Break,
            Word::Text("x", 2),
            Word::Break,
            Word::Text("A_B", 2),
        ];
        assert_eq!(document.words(), expected);
    }
}
