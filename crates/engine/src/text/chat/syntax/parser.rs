//! The state of the translation from jinja2's grammar (`parser.py`) to the dialect of minijinja.

use super::lexer::{Token, tokens};
use super::literals::quoted;

/// The maximum depth of nested expressions and statements. Deeper templates exceed the recursion
/// limit of Python too.
const MAX_DEPTH: usize = 120;

/// Translates a template to the dialect of minijinja. The lines of all tags are kept.
///
/// # Errors
/// jinja2 does not compile the template, or the template has a feature that is not supported. The
/// message names the line.
pub(in crate::text::chat) fn translated(template: &str) -> Result<String, String> {
    let mut parser = Parser {
        tokens: tokens(template)?,
        at: 0,
        depth: 0,
        out: String::with_capacity(2 * template.len()),
        line: 1,
        unknown: Vec::new(),
        lenient: false,
    };
    parser.template()?;
    match parser.unknown.into_iter().next() {
        Some(what) => Err(what),
        None => Ok(parser.out),
    }
}

/// A parser that writes the translation while it reads the tokens.
pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    /// The index of the current token.
    at: usize,
    depth: usize,
    out: String,
    /// The current line of the translation.
    line: usize,
    /// The messages for unknown filters and tests.
    pub(super) unknown: Vec<String>,
    /// Whether an unknown filter or test is an error only if it is called (`soft_frame` of
    /// jinja2's compiler): in the branches of a condition.
    pub(super) lenient: bool,
}

impl Parser {
    /// Returns the current token. `None` at the end of the template.
    pub(super) fn current(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    /// Returns the token after the current one.
    pub(super) fn following(&self) -> Option<&Token> {
        self.tokens.get(self.at + 1).map(|(token, _)| token)
    }

    /// Returns the line of the current token.
    pub(super) fn current_line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    /// Returns the current token, and advances.
    pub(super) fn take(&mut self) -> Option<Token> {
        let token = self.current().cloned();
        self.at += 1;
        token
    }

    pub(super) fn error<T>(&self, what: impl std::fmt::Display) -> Result<T, String> {
        Err(format!("line {}: {what}", self.current_line()))
    }

    /// Returns an error for the current token.
    pub(super) fn unexpected<T>(&self, expected: &str) -> Result<T, String> {
        match self.current() {
            Some(token) => {
                self.error(format!("unexpected {}, expected {expected}", token.described()))
            }
            None => self.error(format!("unexpected end of the template, expected {expected}")),
        }
    }

    pub(super) fn is_operator(&self, operator: &str) -> bool {
        matches!(self.current(), Some(Token::Operator(current)) if *current == operator)
    }

    pub(super) fn is_name(&self, name: &str) -> bool {
        matches!(self.current(), Some(Token::Name(current)) if current == name)
    }

    /// Skips the operator if it is the current token.
    pub(super) fn skip_operator(&mut self, operator: &str) -> bool {
        let found = self.is_operator(operator);
        self.at += usize::from(found);
        found
    }

    /// Skips the name if it is the current token.
    pub(super) fn skip_name(&mut self, name: &str) -> bool {
        let found = self.is_name(name);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_operator(&mut self, operator: &str) -> Result<(), String> {
        if self.skip_operator(operator) {
            return Ok(());
        }
        self.unexpected(&format!("`{operator}`"))
    }

    pub(super) fn expect(&mut self, token: &Token) -> Result<(), String> {
        if self.current() == Some(token) {
            self.at += 1;
            return Ok(());
        }
        self.unexpected(&token.described())
    }

    pub(super) fn expect_name(&mut self) -> Result<String, String> {
        match self.current() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    /// Calls `parse` one level deeper.
    pub(super) fn nested<T>(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        if self.depth == MAX_DEPTH {
            return self.error(format!("the template is nested more than {MAX_DEPTH} levels deep"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Returns whether a name occurs as a variable before the tag `end` that belongs to the tag
    /// `begin`, which has just been read.
    pub(super) fn occurs_in_block(&self, name: &str, begin: &str, end: &str) -> bool {
        let mut open = 1;
        let mut before: Option<&Token> = None;
        for (token, _) in &self.tokens[self.at..] {
            if let Token::Name(found) = token {
                if before == Some(&Token::BlockBegin) {
                    open += usize::from(found == begin);
                    open -= usize::from(found == end);
                    if open == 0 {
                        return false;
                    }
                } else if found == name && before != Some(&Token::Operator(".")) {
                    return true;
                }
            }
            before = Some(token);
        }
        false
    }

    /// Returns whether the loop whose tag has just been read has no `else`, and does not use the
    /// variable `loop`.
    pub(super) fn is_plain_loop(&self) -> bool {
        let (mut loops, mut conditions) = (1, 0);
        let mut before: Option<&Token> = None;
        for (token, _) in &self.tokens[self.at..] {
            if let Token::Name(name) = token {
                match (name.as_str(), before == Some(&Token::BlockBegin)) {
                    ("for", true) => loops += 1,
                    ("endfor", true) => loops -= 1,
                    ("if", true) => conditions += 1,
                    ("endif", true) => conditions -= 1,
                    ("else", true) if loops == 1 && conditions == 0 => return false,
                    ("loop", _) if before != Some(&Token::Operator(".")) => return false,
                    _ => {}
                }
                if loops == 0 {
                    return true;
                }
            }
            before = Some(token);
        }
        false
    }

    /// Writes a tag. `line` is the line of the tag in the template.
    pub(super) fn write_tag(&mut self, line: usize, text: &str) {
        self.write_bracketed(line, "{%", text, "%}");
    }

    /// Writes a tag that prints an expression.
    pub(super) fn write_print(&mut self, line: usize, expression: &str) {
        self.write_bracketed(line, "{{", expression, "}}");
    }

    fn write_bracketed(&mut self, line: usize, begin: &str, text: &str, end: &str) {
        self.out.push_str(begin);
        while self.line < line {
            self.out.push('\n');
            self.line += 1;
        }
        self.out.push(' ');
        self.out.push_str(text);
        self.out.push(' ');
        self.out.push_str(end);
    }

    /// Writes text outside of tags.
    pub(super) fn write_data(&mut self, line: usize, text: &str) {
        let has_tags = ["{{", "{%", "{#"].iter().any(|tag| text.contains(tag));
        if has_tags || text.ends_with('{') || self.out.ends_with('{') {
            self.write_print(line, &quoted(text));
        } else {
            self.out.push_str(text);
            self.line += text.matches('\n').count();
        }
    }
}
