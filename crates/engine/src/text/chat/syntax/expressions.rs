//! Expressions. Each function reads one level of jinja2's grammar, and returns the translation.

use super::lexer::Token;
use super::literals::quoted;
use super::names::{FILTERS, TESTS};
use super::parser::Parser;
use crate::text::chat::python::is_method;

/// How tightly the parts of a translated expression are bound, in the grammar of minijinja.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Condition,
    Or,
    And,
    Not,
    Compare,
    Sum,
    Product,
    Power,
    Negation,
    Filtered,
    Atom,
}

/// A translated expression.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) text: String,
    pub(super) level: Level,
    /// Whether the expression is a call (`Call` of jinja2).
    pub(super) is_call: bool,
}

impl Code {
    /// Returns the translation of a variable.
    pub(super) fn name(name: &str) -> Code {
        Code::new(name, Level::Atom)
    }

    fn new(text: impl Into<String>, level: Level) -> Code {
        Code { text: text.into(), level, is_call: false }
    }

    /// Returns the text as an operand that needs at least `level`.
    pub(super) fn at_least(self, level: Level) -> String {
        if self.level >= level { self.text } else { format!("({})", self.text) }
    }

    /// Returns the text as an operand of `|` or `is`.
    fn filterable(self) -> String {
        self.at_least(Level::Negation)
    }

    /// Applies a filter of `super::python`.
    pub(super) fn filtered(self, name: &str, args: &str) -> Code {
        let mut text = self.filterable();
        text.push_str(&format!("|{name}({args})"));
        Code::new(text, Level::Filtered)
    }
}

/// The maximum number of arguments of a call in the translation.
const MAX_ARGUMENTS: usize = 1000;

impl Parser {
    /// Reads an expression, with conditions (`a if b else c`).
    pub(super) fn expression(&mut self) -> Result<Code, String> {
        self.nested(Self::condition)
    }

    /// Reads an expression, or several with commas, which are a tuple. `ends` are the names that
    /// end the tuple after a comma.
    pub(super) fn tuple(&mut self, with_condition: bool, ends: &[&str]) -> Result<Code, String> {
        let (mut items, is_tuple) = self.tuple_items(with_condition, ends)?;
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            None => self.unexpected("an expression"),
            Some(last) => {
                items.push(last);
                Ok(tuple_of(items))
            }
        }
    }

    fn tuple_items(
        &mut self,
        with_condition: bool,
        ends: &[&str],
    ) -> Result<(Vec<Code>, bool), String> {
        let (mut items, mut is_tuple) = (Vec::new(), false);
        loop {
            if !items.is_empty() {
                self.expect_operator(",")?;
            }
            let ended = match self.current() {
                Some(Token::VariableEnd | Token::BlockEnd | Token::Operator(")")) => true,
                Some(Token::Name(name)) => ends.contains(&name.as_str()),
                _ => false,
            };
            if ended {
                break;
            }
            items.push(if with_condition { self.expression()? } else { self.nested(Self::or)? });
            if !self.is_operator(",") {
                break;
            }
            is_tuple = true;
        }
        Ok((items, is_tuple))
    }

    fn condition(&mut self) -> Result<Code, String> {
        let known = self.unknown.len();
        let mut code = self.or()?;
        while self.skip_name("if") {
            // jinja2 reports an unknown filter in a branch only if the branch is evaluated
            self.unknown.truncate(known);
            let lenient = std::mem::replace(&mut self.lenient, true);
            let test = self.or()?.at_least(Level::Or);
            let otherwise =
                if self.skip_name("else") { Some(self.nested(Self::condition)?) } else { None };
            self.lenient = lenient;
            let mut text = format!("{} if {test}", code.at_least(Level::Or));
            if let Some(otherwise) = otherwise {
                text.push_str(" else ");
                text.push_str(&otherwise.at_least(Level::Condition));
            }
            code = Code::new(text, Level::Condition);
        }
        Ok(code)
    }

    pub(super) fn or(&mut self) -> Result<Code, String> {
        let mut left = self.and()?;
        while self.skip_name("or") {
            let right = self.and()?;
            left = joined(left, " or ", right, Level::Or);
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Code, String> {
        let mut left = self.not()?;
        while self.skip_name("and") {
            let right = self.not()?;
            left = joined(left, " and ", right, Level::And);
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Code, String> {
        if self.skip_name("not") {
            let operand = self.nested(Self::not)?.at_least(Level::Not);
            return Ok(Code::new(format!("not {operand}"), Level::Not));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Code, String> {
        let left = self.sum()?;
        let mut operations: Vec<(&str, Code)> = Vec::new();
        loop {
            let operator = match self.current() {
                Some(Token::Operator(operator @ ("==" | "!=" | "<" | "<=" | ">" | ">="))) => {
                    *operator
                }
                Some(Token::Name(name)) if name == "in" => "in",
                Some(Token::Name(name))
                    if name == "not"
                        && matches!(self.following(), Some(Token::Name(name)) if name == "in") =>
                {
                    self.advance();
                    "not in"
                }
                _ => break,
            };
            self.advance();
            operations.push((operator, self.sum()?));
        }
        if operations.is_empty() {
            return Ok(left);
        }
        if let [(operator @ ("==" | "!="), _)] = operations.as_slice() {
            let separator = format!(" {operator} ");
            if let Some((_, right)) = operations.pop() {
                let text = left.at_least(Level::Sum) + &separator + &right.at_least(Level::Sum);
                return Ok(Code::new(text, Level::Compare));
            }
            return self.error("comparison: the right operand is missing");
        }
        let args: Vec<String> = operations
            .into_iter()
            .map(|(operator, right)| format!("\"{operator}\", {}", right.text))
            .collect();
        Ok(left.filtered("__compare", &args.join(", ")))
    }

    fn sum(&mut self) -> Result<Code, String> {
        let mut left = self.concatenation()?;
        while let Some(Token::Operator(operator @ ("+" | "-"))) = self.current() {
            let is_sum = *operator == "+";
            self.advance();
            let right = self.concatenation()?;
            left = match is_sum {
                true => left.filtered("__add", &right.text),
                false => joined(left, " - ", right, Level::Sum),
            };
        }
        Ok(left)
    }

    fn concatenation(&mut self) -> Result<Code, String> {
        let mut code = self.product()?;
        let mut others = Vec::new();
        while self.skip_operator("~") {
            others.push(self.product()?.text);
        }
        for some in others.chunks(MAX_ARGUMENTS) {
            code = code.filtered("__concat", &some.join(", "));
        }
        Ok(code)
    }

    fn product(&mut self) -> Result<Code, String> {
        let mut left = self.power()?;
        while let Some(Token::Operator(operator @ ("*" | "/" | "//" | "%"))) = self.current() {
            let operator = *operator;
            self.advance();
            let right = self.power()?;
            left = match operator {
                "%" => left.filtered("__remainder", &right.text),
                "*" => joined(left, " * ", right, Level::Product),
                "/" => joined(left, " / ", right, Level::Product),
                _ => joined(left, " // ", right, Level::Product),
            };
        }
        Ok(left)
    }

    fn power(&mut self) -> Result<Code, String> {
        let mut left = self.unary(true)?;
        while self.skip_operator("**") {
            let right = self.unary(true)?;
            left = joined(left, " ** ", right, Level::Power);
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Result<Code, String> {
        let code = if self.skip_operator("-") {
            let operand = self.nested(|parser| parser.unary(false))?;
            let operand = match operand.level {
                Level::Filtered => format!("({})", operand.text),
                _ => operand.at_least(Level::Negation),
            };
            Code::new(format!("-{operand}"), Level::Negation)
        } else if self.skip_operator("+") {
            self.nested(|parser| parser.unary(false))?.filtered("__positive", "")
        } else {
            self.primary()?
        };
        let code = self.postfix(code)?;
        if with_filters { self.filters_and_tests(code) } else { Ok(code) }
    }

    fn primary(&mut self) -> Result<Code, String> {
        let atom = |text: String| Ok(Code::new(text, Level::Atom));
        let Some(token) = self.current().cloned() else {
            return self.unexpected("an expression");
        };
        match token {
            Token::Name(name) => {
                self.advance();
                atom(name)
            }
            Token::Text(mut text) => {
                self.advance();
                while let Some(Token::Text(next)) = self.current() {
                    text.push_str(next);
                    self.advance();
                }
                atom(quoted(&text))
            }
            Token::Integer(digits) | Token::Float(digits) => {
                self.advance();
                atom(digits)
            }
            Token::Operator("(") => {
                self.advance();
                let (mut items, is_tuple) = self.nested(|parser| parser.tuple_items(true, &[]))?;
                self.expect_operator(")")?;
                match items.pop() {
                    Some(only) if !is_tuple => Ok(only),
                    last => {
                        items.extend(last);
                        Ok(tuple_of(items))
                    }
                }
            }
            Token::Operator("[") => {
                self.advance();
                let mut items = Vec::new();
                while !self.is_operator("]") {
                    if !items.is_empty() {
                        self.expect_operator(",")?;
                        if self.is_operator("]") {
                            break;
                        }
                    }
                    items.push(self.expression()?.text);
                }
                self.expect_operator("]")?;
                atom(format!("[{}]", items.join(", ")))
            }
            Token::Operator("{") => {
                self.advance();
                let mut items = Vec::new();
                while !self.is_operator("}") {
                    if !items.is_empty() {
                        self.expect_operator(",")?;
                        if self.is_operator("}") {
                            break;
                        }
                    }
                    let key = self.expression()?.text;
                    self.expect_operator(":")?;
                    items.push(format!("{key}: {}", self.expression()?.text));
                }
                self.expect_operator("}")?;
                // the spaces separate the brackets from those of the tag
                atom(format!("{{ {} }}", items.join(", ")))
            }
            _ => self.unexpected("an expression"),
        }
    }

    /// Reads the attributes, subscripts and calls after an expression.
    fn postfix(&mut self, mut code: Code) -> Result<Code, String> {
        loop {
            code = if self.skip_operator(".") {
                match self.take() {
                    Some(Token::Name(name)) => self.attribute(code, &name),
                    Some(Token::Integer(digits)) => code.filtered("__item", &digits),
                    _ => return self.error("expected a name or a number after `.`"),
                }
            } else if self.skip_operator("[") {
                self.subscript(code)?
            } else if self.is_operator("(") {
                self.call(code)?
            } else {
                return Ok(code);
            };
        }
    }

    /// Translates the access to an attribute. A method of Python takes precedence over an item of
    /// the same name.
    fn attribute(&self, code: Code, name: &str) -> Code {
        if is_method(name) && !self.is_operator("(") {
            return code.filtered("__attribute", &quoted(name));
        }
        Code::new(format!("{}.{name}", code.at_least(Level::Atom)), Level::Atom)
    }

    /// Reads a subscript after `[`.
    fn subscript(&mut self, code: Code) -> Result<Code, String> {
        let mut keys = Vec::new();
        let mut slice: Option<[String; 3]> = None;
        while !self.is_operator("]") {
            if !keys.is_empty() || slice.is_some() {
                self.expect_operator(",")?;
            }
            let mut parts = ["none", "none", "none"].map(str::to_owned);
            let mut count = 0;
            for part in &mut parts {
                let ends = [":", "]", ","].iter().any(|end| self.is_operator(end));
                if !ends {
                    *part = self.expression()?.text;
                }
                if !self.skip_operator(":") {
                    break;
                }
                count += 1;
            }
            let [first, ..] = &parts;
            match count {
                0 => keys.push(first.clone()),
                1 | 2 if keys.is_empty() && slice.is_none() => slice = Some(parts),
                _ => return self.error("subscript: expected a key or one slice"),
            }
        }
        self.expect_operator("]")?;
        if let Some(parts) = slice {
            if !keys.is_empty() {
                return self.error("subscript: expected a key or one slice");
            }
            return Ok(code.filtered("__slice", &parts.join(", ")));
        }
        let [key] = keys.as_slice() else {
            return Ok(code.filtered("__item", &format!("({},)", keys.join(", "))));
        };
        let is_plain_text = key.starts_with('"')
            && key.len() > 2
            && !is_method(&key[1..key.len() - 1])
            && key[1..key.len() - 1].bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if is_plain_text {
            let base = code.at_least(Level::Atom);
            return Ok(Code::new(format!("{base}[{key}]"), Level::Atom));
        }
        Ok(code.filtered("__item", key))
    }

    /// Reads a call.
    fn call(&mut self, code: Code) -> Result<Code, String> {
        let recursion = code.text == "loop";
        let args = self.nested(|parser| parser.arguments(recursion))?;
        let base = code.at_least(Level::Atom);
        Ok(Code { text: format!("{base}({args})"), level: Level::Atom, is_call: true })
    }

    /// Reads the arguments of a call, with the parentheses. If `iterated` is set, the first
    /// argument must be iterable.
    fn arguments(&mut self, iterated: bool) -> Result<String, String> {
        self.expect_operator("(")?;
        let mut args: Vec<String> = Vec::new();
        let (mut has_named, mut has_list, mut has_map) = (false, false, false);
        while !self.is_operator(")") {
            if !args.is_empty() {
                self.expect_operator(",")?;
                if self.is_operator(")") {
                    break;
                }
            }
            let named = match (self.current(), self.following()) {
                (Some(Token::Name(name)), Some(Token::Operator("="))) => Some(name.clone()),
                _ => None,
            };
            if self.is_operator("*") && !has_list && !has_map {
                self.advance();
                has_list = true;
                args.push(format!("*({})", self.expression()?.filtered("__iterable", "").text));
            } else if self.is_operator("**") && !has_map {
                self.advance();
                has_map = true;
                args.push(format!("**({})", self.expression()?.text));
            } else if let Some(name) = named.filter(|_| !has_map) {
                self.advance();
                self.advance();
                has_named = true;
                args.push(format!("{name}={}", self.expression()?.text));
            } else if has_named || has_list || has_map {
                return self.error("call: the arguments are in the wrong order");
            } else {
                let code = self.expression()?;
                let iterated = iterated && args.is_empty();
                args.push(if iterated { code.filtered("__iterable", "").text } else { code.text });
            }
        }
        self.expect_operator(")")?;
        Ok(args.join(", "))
    }

    /// Reads the filters, tests and calls after an expression.
    fn filters_and_tests(&mut self, mut code: Code) -> Result<Code, String> {
        loop {
            code = if self.skip_operator("|") {
                let filter = self.filter()?;
                Code::new(format!("{}|{filter}", code.filterable()), Level::Filtered)
            } else if self.skip_name("is") {
                self.test(code)?
            } else if self.is_operator("(") {
                self.call(code)?
            } else {
                return Ok(code);
            };
        }
    }

    /// Reads the name and the arguments of a filter.
    pub(super) fn filter(&mut self) -> Result<String, String> {
        let line = self.current_line();
        let name = self.dotted_name()?;
        self.check_known("filter", &name, &FILTERS, line);
        if !self.is_operator("(") {
            return Ok(name);
        }
        Ok(format!("{name}({})", self.nested(|parser| parser.arguments(false))?))
    }

    /// Reads a test after `is`.
    fn test(&mut self, code: Code) -> Result<Code, String> {
        let negated = if self.skip_name("not") { "not " } else { "" };
        let line = self.current_line();
        let name = self.dotted_name()?;
        self.check_known("test", &name, &TESTS, line);
        let args = match self.current() {
            Some(Token::Operator("(")) => self.nested(|parser| parser.arguments(false))?,
            Some(Token::Name(name)) if ["else", "or", "and"].contains(&name.as_str()) => {
                String::new()
            }
            Some(Token::Name(name)) if name == "is" => {
                return self.error("several tests with `is` need parentheses");
            }
            Some(
                Token::Name(_)
                | Token::Text(_)
                | Token::Integer(_)
                | Token::Float(_)
                | Token::Operator("[" | "{"),
            ) => {
                let operand = self.nested(Self::primary)?;
                self.postfix(operand)?.text
            }
            _ => String::new(),
        };
        let text = format!("{} is {negated}{name}({args})", code.filterable());
        Ok(Code::new(text, Level::Filtered))
    }

    fn dotted_name(&mut self) -> Result<String, String> {
        let mut name = self.expect_name()?;
        while self.skip_operator(".") {
            name.push('.');
            name.push_str(&self.expect_name()?);
        }
        Ok(name)
    }

    fn check_known(&mut self, kind: &str, name: &str, known: &[&str], line: usize) {
        if !self.lenient && !known.contains(&name) {
            self.unknown.push(format!("line {line}: unknown {kind}: `{name}`"));
        }
    }
}

fn joined(left: Code, separator: &str, right: Code, level: Level) -> Code {
    let mut text = left.at_least(level);
    text.push_str(separator);
    // the right operand of an operator of the same level needs parentheses
    if right.level > level {
        text.push_str(&right.text);
    } else {
        text.push_str(&format!("({})", right.text));
    }
    Code::new(text, level)
}

fn tuple_of(items: Vec<Code>) -> Code {
    let texts: Vec<String> = items.into_iter().map(|item| item.text).collect();
    let comma = if texts.len() == 1 { "," } else { "" };
    Code::new(format!("({}{comma})", texts.join(", ")), Level::Atom)
}
