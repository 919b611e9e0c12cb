//! Tokens of Rust sources, without comments, and optionally without test code.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::fmt;
use std::str::FromStr;

/// A token, or a bracketed group of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// An identifier or a keyword.
    Word {
        /// The text of the word, without `r#`.
        text: String,
        /// The line, from 1.
        line: usize,
    },
    /// A punctuation character.
    Mark(char),
    /// `::`.
    PathSeparator,
    /// A literal, for example a number or a string.
    Literal {
        /// The source text, including quotes.
        text: String,
        /// The line, from 1.
        line: usize,
    },
    /// A line or a block of a doc comment.
    Doc {
        /// The documentation as a string literal, including quotes.
        text: String,
        /// The line, from 1.
        line: usize,
    },
    /// `(..)`, `[..]` or `{..}`.
    Group {
        /// The kind of brackets.
        delimiter: Delimiter,
        /// The tokens between the brackets.
        tokens: Vec<Token>,
    },
}

impl Token {
    /// Returns the text of a word. `None` if the token is not a word.
    pub fn word(&self) -> Option<&str> {
        match self {
            Token::Word { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Returns whether the token is the word `text`.
    pub fn is_word(&self, text: &str) -> bool {
        self.word() == Some(text)
    }

    /// Returns the tokens inside a group. `None` if the token is not a group with these brackets.
    pub fn group(&self, brackets: Delimiter) -> Option<&[Token]> {
        match self {
            Token::Group { delimiter, tokens } if *delimiter == brackets => Some(tokens),
            _ => None,
        }
    }
}

/// A text that is not a sequence of valid tokens.
#[derive(Debug)]
pub struct LexError(String);

impl LexError {
    /// Adds the path of the file to the message.
    pub(crate) fn in_file(self, path: &str) -> LexError {
        LexError(format!("{path}: {}", self.0))
    }
}

impl fmt::Display for LexError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for LexError {}

/// Reads the tokens of a source text.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, LexError> {
    let stream = TokenStream::from_str(text).map_err(|error| {
        let start = error.span().start();
        LexError(format!("line {}: invalid token: {error}", start.line))
    })?;
    Ok(convert(stream))
}

fn convert(stream: TokenStream) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        match tree {
            TokenTree::Ident(word) => {
                let text = word.to_string();
                let text = text.strip_prefix("r#").unwrap_or(&text).to_owned();
                tokens.push(Token::Word { text, line: word.span().start().line });
            }
            TokenTree::Literal(literal) => tokens.push(Token::Literal {
                text: literal.to_string(),
                line: literal.span().start().line,
            }),
            TokenTree::Group(group) => {
                let inside = convert(group.stream());
                if let Some(doc) = doc(&inside) {
                    while matches!(tokens.last(), Some(Token::Mark('#' | '!'))) {
                        tokens.pop();
                    }
                    tokens.push(doc);
                } else {
                    tokens.push(Token::Group { delimiter: group.delimiter(), tokens: inside });
                }
            }
            TokenTree::Punct(mark) => {
                let joined = mark.spacing() == proc_macro2::Spacing::Joint;
                match (mark.as_char(), trees.peek()) {
                    (':', Some(TokenTree::Punct(next))) if joined && next.as_char() == ':' => {
                        trees.next();
                        tokens.push(Token::PathSeparator);
                    }
                    // A lifetime or a label is not a word, because it is not part of a path.
                    ('\'', Some(TokenTree::Ident(_))) => {
                        trees.next();
                    }
                    (mark, _) => tokens.push(Token::Mark(mark)),
                }
            }
        }
    }
    tokens
}

/// Returns the documentation in an attribute `doc = ".."`, to which the lexer converts doc
/// comments. `None` if it is another attribute.
fn doc(attribute: &[Token]) -> Option<Token> {
    match attribute {
        [name, Token::Mark('='), Token::Literal { text, line }] if name.is_word("doc") => {
            Some(Token::Doc { text: text.clone(), line: *line })
        }
        _ => None,
    }
}

/// Splits leading attributes and documentation from the other tokens. Returns the tokens between
/// the brackets of each attribute, and the other tokens.
pub(crate) fn attributes(tokens: &[Token]) -> (Vec<&[Token]>, &[Token]) {
    let mut attributes = Vec::new();
    let mut rest = tokens;
    loop {
        rest = match rest {
            [Token::Doc { .. }, rest @ ..] => rest,
            [
                Token::Mark('#'),
                Token::Group { delimiter: Delimiter::Bracket, tokens },
                rest @ ..,
            ] => {
                attributes.push(tokens.as_slice());
                rest
            }
            _ => return (attributes, rest),
        };
    }
}

/// Returns the tokens without items, statements and fields that have the attribute `#[cfg(test)]`
/// or `#[test]`.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut rest = tokens;
    while let [first, after_first @ ..] = rest {
        let (attributes, after) = attributes(rest);
        if let [Token::Mark('#'), Token::Mark('!'), inner, ..] = rest
            && inner.group(Delimiter::Bracket).is_some_and(is_for_tests)
        {
            return kept;
        }
        if attributes.iter().any(|attribute| is_for_tests(attribute)) {
            rest = &after[item_length(after)..];
            continue;
        }
        let attributed = rest.len() - after.len();
        if attributed > 0 {
            kept.extend_from_slice(&rest[..attributed]);
            rest = after;
            continue;
        }
        kept.push(match first {
            Token::Group { delimiter, tokens } => {
                Token::Group { delimiter: *delimiter, tokens: without_tests(tokens) }
            }
            token => token.clone(),
        });
        rest = after_first;
    }
    kept
}

/// Returns whether an attribute limits its item to test builds.
fn is_for_tests(attribute: &[Token]) -> bool {
    match attribute {
        [.., last] if last.is_word("test") => true,
        [name, condition] if name.is_word("cfg") => {
            condition.group(Delimiter::Parenthesis).is_some_and(needs_test)
        }
        _ => false,
    }
}

/// Returns whether a `cfg` condition is true only in test builds.
fn needs_test(condition: &[Token]) -> bool {
    match condition {
        [word] => word.is_word("test"),
        [all, Token::Group { tokens, .. }] if all.is_word("all") => {
            tokens.split(|token| *token == Token::Mark(',')).any(needs_test)
        }
        _ => false,
    }
}

/// Returns the number of tokens of the item, statement, field, variant or match arm at the start of
/// `tokens`. `tokens` start after its attributes.
pub(crate) fn item_length(tokens: &[Token]) -> usize {
    let keyword = keyword(tokens).unwrap_or_default();
    let ends_by_semicolon = matches!(keyword, "use" | "const" | "static" | "let" | "type");
    let ends_by_braces = matches!(
        keyword,
        "fn" | "mod" | "struct" | "enum" | "union" | "trait" | "impl" | "extern" | "macro_rules"
    );
    let end = tokens.iter().enumerate().position(|(at, token)| match token {
        Token::Mark(';') => true,
        Token::Mark(',') => !ends_by_semicolon && !ends_by_braces,
        Token::Group { delimiter: Delimiter::Brace, .. } => {
            let of_macro_call = at > 0 && tokens[at - 1] == Token::Mark('!');
            at == 0 || ends_by_braces || (of_macro_call && !ends_by_semicolon)
        }
        _ => false,
    });
    end.map_or(tokens.len(), |end| end + 1)
}

/// Returns the tokens of an item without its visibility.
pub(crate) fn without_visibility(tokens: &[Token]) -> &[Token] {
    match tokens {
        [first, restriction, rest @ ..] if first.is_word("pub") && is_restriction(restriction) => {
            rest
        }
        [first, rest @ ..] if first.is_word("pub") => rest,
        _ => tokens,
    }
}

/// Returns whether a group after `pub` is `(crate)`, `(super)`, `(self)` or `(in ..)`, and not the
/// type of a tuple field.
pub(crate) fn is_restriction(group: &Token) -> bool {
    match group.group(Delimiter::Parenthesis) {
        Some([word]) => matches!(word.word(), Some("crate" | "super" | "self")),
        Some([first, ..]) => first.is_word("in"),
        _ => false,
    }
}

/// Returns the tokens of an item from its keyword on, without visibility and qualifiers.
pub(crate) fn from_keyword(tokens: &[Token]) -> &[Token] {
    let mut rest = without_visibility(tokens);
    while let [first, next @ ..] = rest {
        let after_abi = match next {
            [Token::Literal { .. }, next @ ..] => next,
            next => next,
        };
        let follows = |words: &[&str]| {
            next.first().and_then(Token::word).is_some_and(|word| words.contains(&word))
        };
        rest = match first.word() {
            Some("unsafe" | "async" | "safe") => next,
            Some("const") if follows(&["fn", "unsafe", "async", "extern"]) => next,
            Some("extern") if after_abi.first().is_some_and(|word| word.is_word("fn")) => after_abi,
            _ => return rest,
        };
    }
    rest
}

/// Returns the keyword of an item, for example `fn`.
fn keyword(tokens: &[Token]) -> Option<&str> {
    from_keyword(tokens).first()?.word()
}

/// Returns all tokens in the order of the text, at all depths. A group is before its tokens.
pub(crate) fn flat(tokens: &[Token]) -> Vec<&Token> {
    let mut all = Vec::new();
    for token in tokens {
        all.push(token);
        if let Token::Group { tokens, .. } = token {
            all.extend(flat(tokens));
        }
    }
    all
}

/// Returns the text of a [`Token::Doc`]: the literal without quotes and escapes, trimmed.
pub(crate) fn doc_text(literal: &str) -> String {
    let raw = literal.strip_prefix('r').map(|rest| rest.trim_matches('#'));
    let quoted = raw.unwrap_or(literal);
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(quoted);
    let mut text = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        match (c, raw.is_none()) {
            ('\\', true) => match rest.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('u') => {
                    let digits: String =
                        rest.by_ref().skip(1).take_while(|digit| *digit != '}').collect();
                    let code = u32::from_str_radix(&digits, 16).ok();
                    text.extend(code.and_then(char::from_u32));
                }
                Some(escaped) => text.push(escaped),
                None => {}
            },
            _ => text.push(c),
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(tokens: &[Token]) -> Vec<String> {
        flat(tokens).into_iter().filter_map(Token::word).map(str::to_owned).collect()
    }

    fn code(text: &str) -> Vec<String> {
        words(&without_tests(&lex(text).expect("valid tokens")))
    }

    #[test]
    fn comments_strings_and_lifetimes_are_not_words() {
        let text = "/// crate::a\n// crate::b\nfn f<'x>(y: &'x str) { \"crate::c\"; }";
        assert_eq!(words(&lex(text).expect("valid tokens")), ["fn", "f", "y", "str"]);
    }

    #[test]
    fn test_code_is_omitted() {
        assert_eq!(code("#[cfg(test)] mod tests { use a; } fn f() {}"), ["fn", "f"]);
        assert_eq!(
            code("/// Doc.\n#[cfg(all(unix, test))] pub(crate) fn g() {} use b;"),
            ["use", "b"]
        );
        assert_eq!(code("#[cfg(test)] use a::{b, c}; const D: u8 = 1;"), ["const", "D", "u8"]);
        assert_eq!(code("#[test] fn g() {} #[tokio::test] async fn h() {}"), [""; 0]);
        assert_eq!(code("fn f() { #[cfg(test)] hook(); after() }"), ["fn", "f", "after"]);
        assert_eq!(code("struct A { #[cfg(test)] b: u8, c: u8 }"), ["struct", "A", "c", "u8"]);
        assert!(code("#[cfg(any(test, unix))] fn f() {}").contains(&"f".to_owned()));
        assert_eq!(code("#![cfg(test)] fn f() {}"), [""; 0]);
    }

    #[test]
    fn an_invalid_token_is_reported_with_file_and_line() {
        let error = lex("fn f( {").expect_err("an open bracket").in_file("a.rs").to_string();
        assert!(error.starts_with("a.rs: line 1"), "{error}");
    }

    #[test]
    fn quotes_and_escapes_are_removed_from_documentation() {
        assert_eq!(doc_text(r#"" Says \"a\\b\" \u{e9}.""#), "Says \"a\\b\" \u{e9}.");
        assert_eq!(doc_text(r##"r#" a\b "#"##), "a\\b");
    }
}
