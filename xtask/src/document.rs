//! Text files with comments and strings, for the rules about language.

/// A text file of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The path from the root of the repository, with `/` as the separator.
    pub path: String,
    /// The content of the file.
    pub text: String,
}

/// A word of a text, or a mark that separates phrases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word<'t> {
    /// A sequence of letters, digits and underscores, and its line number, from 1.
    Text(&'t str, usize),
    /// A full stop, a colon, a semicolon, a quotation mark, a backtick, a bracket or `|`.
    Break,
}

impl Document {
    /// Returns the words of the text, and a break at each punctuation mark that ends a phrase. The end of a
    /// line and a comment marker do not end a phrase.
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
    fn marks_separate_phrases_and_line_breaks_do_not() {
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
