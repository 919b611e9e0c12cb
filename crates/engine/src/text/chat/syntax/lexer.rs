//! The lexer of jinja2 (`lexer.py`) with the settings of transformers: `trim_blocks` and
//! `lstrip_blocks`, and no line statements.

use super::literals::decoded;
use crate::text::chat::python::is_space;

/// A token of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(String),
    /// The decoded content of a string literal.
    Text(String),
    /// The digits of an integer, with its prefix and without underscores.
    Integer(String),
    /// The digits of a floating-point number, without underscores.
    Float(String),
    Operator(&'static str),
}

impl Token {
    /// Formats the token for messages.
    pub(super) fn described(&self) -> String {
        match self {
            Token::Data(_) => "text".into(),
            Token::BlockBegin => "`{%`".into(),
            Token::BlockEnd => "`%}`".into(),
            Token::VariableBegin => "`{{`".into(),
            Token::VariableEnd => "`}}`".into(),
            Token::Name(name) => format!("`{name}`"),
            Token::Text(_) => "a string".into(),
            Token::Integer(digits) | Token::Float(digits) => format!("`{digits}`"),
            Token::Operator(operator) => format!("`{operator}`"),
        }
    }
}

/// The operators, the longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

/// Splits a template into tokens, each with its line.
///
/// # Errors
/// The text is not a sequence of tokens. The message names the line.
pub(super) fn tokens(template: &str) -> Result<Vec<(Token, usize)>, String> {
    let mut source = template.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer =
        Lexer { source: &source, at: 0, line: 1, at_line_start: true, tokens: Vec::new() };
    while lexer.at < lexer.source.len() {
        lexer.text()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    /// The offset of the next character.
    at: usize,
    /// The line of the next character.
    line: usize,
    /// Whether the next character begins a line, for `lstrip_blocks`.
    at_line_start: bool,
    tokens: Vec<(Token, usize)>,
}

/// A tag that the text before it ends at.
#[derive(Clone, Copy, PartialEq)]
enum Tag {
    Raw,
    Block,
    Variable,
    Comment,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Skips `length` bytes, and returns them.
    fn skip(&mut self, length: usize) -> &'a str {
        let skipped = &self.rest()[..length];
        self.at += length;
        self.line += skipped.matches('\n').count();
        if !skipped.is_empty() {
            self.at_line_start = skipped.ends_with('\n');
        }
        skipped
    }

    fn error<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("line {}: {what}", self.line))
    }

    /// Reads text and the tag after it.
    fn text(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let places = rest.match_indices('{').filter_map(|(at, _)| {
            let tag = match rest.as_bytes().get(at + 1)? {
                b'%' if raw_tag(&rest[at..], "raw").is_some() => Tag::Raw,
                b'%' => Tag::Block,
                b'{' => Tag::Variable,
                b'#' => Tag::Comment,
                _ => return None,
            };
            Some((at, tag))
        });
        let Some((at, tag)) = places.clone().next() else {
            self.data(rest, rest.len(), rest.len());
            return Ok(());
        };
        let sign = rest.as_bytes().get(at + 2).copied();
        let kept = self.kept(&rest[..at], sign, tag != Tag::Variable);
        self.data(rest, kept, at);
        let sign_length = usize::from(matches!(sign, Some(b'-' | b'+')));
        match tag {
            Tag::Raw => {
                let length = raw_tag(self.rest(), "raw").unwrap_or(0);
                self.skip(length);
                self.raw()
            }
            Tag::Comment => {
                self.skip(2 + sign_length);
                self.comment()
            }
            Tag::Block => {
                self.tokens.push((Token::BlockBegin, self.line));
                self.skip(2 + sign_length);
                self.expression(Token::BlockEnd)
            }
            Tag::Variable => {
                self.tokens.push((Token::VariableBegin, self.line));
                self.skip(2 + sign_length);
                self.expression(Token::VariableEnd)
            }
        }
    }

    /// Adds the first `kept` bytes of `rest` as text, and skips `length` bytes.
    fn data(&mut self, rest: &str, kept: usize, length: usize) {
        if kept > 0 {
            self.tokens.push((Token::Data(rest[..kept].to_owned()), self.line));
        }
        self.skip(length);
    }

    /// Returns the length of the part of `text` that remains before a tag with the sign `sign`.
    fn kept(&self, text: &str, sign: Option<u8>, strips: bool) -> usize {
        match sign {
            Some(b'-') => text.trim_end_matches(is_space).len(),
            Some(b'+') => text.len(),
            _ if strips => {
                let begin = text.rfind('\n').map_or(0, |at| at + 1);
                let blank = text[begin..].chars().all(is_space);
                if blank && (begin > 0 || self.at_line_start) { begin } else { text.len() }
            }
            _ => text.len(),
        }
    }

    /// Reads the content of a raw block, and its end.
    fn raw(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let end = rest
            .match_indices("{%")
            .find_map(|(at, _)| raw_tag(&rest[at..], "endraw").map(|length| (at, length)));
        let Some((at, length)) = end else {
            return self.error("missing end of raw block");
        };
        let kept = self.kept(&rest[..at], rest.as_bytes().get(at + 2).copied(), true);
        self.data(rest, kept, at);
        self.skip(length);
        Ok(())
    }

    /// Skips a comment after its begin.
    fn comment(&mut self) -> Result<(), String> {
        let Some(at) = self.rest().find("#}") else {
            return self.error("missing end of comment");
        };
        let before = &self.rest()[..at];
        self.skip(at + 2);
        self.end_of_tag(before.as_bytes().last().copied(), true);
        Ok(())
    }

    /// Skips the text after a tag that the sign of the tag, or `trim_blocks`, removes.
    fn end_of_tag(&mut self, sign: Option<u8>, trims: bool) {
        let rest = self.rest();
        let length = match sign {
            Some(b'-') => rest.len() - rest.trim_start_matches(is_space).len(),
            Some(b'+') => 0,
            _ => usize::from(trims && rest.starts_with('\n')),
        };
        self.skip(length);
    }

    /// Reads the tokens of a tag, up to its end.
    fn expression(&mut self, end: Token) -> Result<(), String> {
        let block = end == Token::BlockEnd;
        let bracket = if block { "%}" } else { "}}" };
        let mut open: Vec<&'static str> = Vec::new();
        while self.at < self.source.len() {
            let rest = self.rest();
            let (sign, marker) = match rest.as_bytes()[0] {
                sign @ b'-' => (Some(sign), &rest[1..]),
                sign @ b'+' if block => (Some(sign), &rest[1..]),
                _ => (None, rest),
            };
            if open.is_empty() && marker.starts_with(bracket) {
                self.tokens.push((end, self.line));
                self.skip(usize::from(sign.is_some()) + 2);
                self.end_of_tag(sign, block);
                return Ok(());
            }
            let spaces = rest.len() - rest.trim_start_matches(is_space).len();
            if spaces > 0 {
                self.skip(spaces);
                continue;
            }
            let (token, length) = match self.number() {
                Some(number) => number,
                None => self.word_or_operator()?,
            };
            if let Token::Operator(operator) = token {
                match operator {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" => match open.pop() {
                        None => return self.error(format!("unexpected `{operator}`")),
                        Some(expected) if expected != operator => {
                            return self
                                .error(format!("unexpected `{operator}`, expected `{expected}`"));
                        }
                        Some(_) => {}
                    },
                    _ => {}
                }
            }
            self.tokens.push((token, self.line));
            self.skip(length);
        }
        Ok(())
    }

    /// Returns a number at the current place, and its length.
    fn number(&self) -> Option<(Token, usize)> {
        let rest = self.rest().as_bytes();
        // the digits with single underscores between them
        let digits = |from: usize, is_digit: fn(&u8) -> bool| {
            let mut end = from;
            while rest.get(end).is_some_and(is_digit)
                || (end > from
                    && rest[end - 1] != b'_'
                    && rest.get(end) == Some(&b'_')
                    && rest.get(end + 1).is_some_and(is_digit))
            {
                end += 1;
            }
            end
        };
        if !rest.first()?.is_ascii_digit() {
            return None;
        }
        let integer_end = digits(0, u8::is_ascii_digit);
        let after_dot = self.source[..self.at].ends_with('.');
        let mut end = integer_end;
        if rest.get(end) == Some(&b'.') && rest.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1, u8::is_ascii_digit);
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let from = end + 1 + sign;
            if rest.get(from).is_some_and(u8::is_ascii_digit) {
                end = digits(from, u8::is_ascii_digit);
            }
        }
        let plain = |end: usize| self.rest()[..end].replace('_', "");
        if end > integer_end && !after_dot {
            return Some((Token::Float(plain(end)), end));
        }
        let prefixed: Option<fn(&u8) -> bool> = match rest.get(1) {
            Some(b'b' | b'B') => Some(|digit| matches!(digit, b'0' | b'1')),
            Some(b'o' | b'O') => Some(|digit| matches!(digit, b'0'..=b'7')),
            Some(b'x' | b'X') => Some(u8::is_ascii_hexdigit),
            _ => None,
        };
        if let (b'0', Some(is_digit)) = (rest[0], prefixed) {
            let from = 2 + usize::from(rest.get(2) == Some(&b'_'));
            let end = digits(from, is_digit);
            if end > from {
                return Some((Token::Integer(plain(end)), end));
            }
        }
        // a number that begins with 0 has only zeros: `01` is two numbers
        let end = if rest[0] == b'0' { digits(0, |digit| *digit == b'0') } else { integer_end };
        Some((Token::Integer(plain(end)), end))
    }

    /// Returns a name, a string or an operator at the current place, and its length.
    fn word_or_operator(&self) -> Result<(Token, usize), String> {
        let rest = self.rest();
        let name_end = rest
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .unwrap_or(rest.len());
        if name_end > 0 {
            let name = &rest[..name_end];
            if !name.is_ascii() {
                return self.error(format!("expected a name in ASCII, found `{name}`"));
            }
            return Ok((Token::Name(name.to_owned()), name_end));
        }
        let quote = rest.as_bytes()[0];
        if matches!(quote, b'\'' | b'"') {
            let mut escaped = false;
            for (at, byte) in rest.bytes().enumerate().skip(1) {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    _ if byte == quote => {
                        let text = decoded(&rest[1..at]).or_else(|what| self.error(what))?;
                        return Ok((Token::Text(text), at + 1));
                    }
                    _ => {}
                }
            }
        }
        match OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
            Some(operator) => Ok((Token::Operator(operator), operator.len())),
            None => {
                self.error(format!("unexpected character {:?}", rest.chars().next().unwrap_or(' ')))
            }
        }
    }
}

/// Returns the length of the tag `raw` or `endraw` at the begin of `text`, with the text after it
/// that the tag removes.
fn raw_tag(text: &str, name: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let rest = inner.trim_start_matches(is_space).strip_prefix(name)?;
    let rest = rest.trim_start_matches(is_space);
    let ends = name == "endraw";
    let rest = if let Some(rest) = rest.strip_prefix("-%}") {
        rest.trim_start_matches(is_space)
    } else if let Some(rest) = rest.strip_prefix("+%}").filter(|_| ends) {
        rest
    } else {
        let rest = rest.strip_prefix("%}")?;
        rest.strip_prefix('\n').filter(|_| ends).unwrap_or(rest)
    };
    Some(text.len() - rest.len())
}
