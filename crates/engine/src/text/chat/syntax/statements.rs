//! Statements. Each function reads one statement of jinja2, and writes the translation.

use super::expressions::{Code, Level};
use super::lexer::Token;
use super::literals::quoted;
use super::names::LOADING_TAGS;
use super::parser::Parser;

/// The names of the parameters of a macro, and the default values by name.
type Signature = (Vec<String>, Vec<(String, String)>);

/// The names that are constants.
const CONSTANTS: [&str; 6] = ["true", "false", "none", "True", "False", "None"];

impl Parser {
    /// Reads the complete template.
    pub(super) fn template(&mut self) -> Result<(), String> {
        self.body(&[])?;
        if self.current().is_some() { self.unexpected("the end of the template") } else { Ok(()) }
    }

    /// Reads text and tags, up to a tag whose name is one of `ends`. Skips the begin of that tag.
    fn body(&mut self, ends: &[&str]) -> Result<(), String> {
        loop {
            let line = self.current_line();
            match self.take() {
                None if ends.is_empty() => return Ok(()),
                None => return self.unexpected(&format!("`{}`", ends.join("` or `"))),
                Some(Token::Data(text)) => self.write_data(line, &text),
                Some(Token::VariableBegin) => {
                    let code = self.tuple(true, &[])?;
                    self.write_print(line, &code.text);
                    self.expect(&Token::VariableEnd)?;
                }
                Some(Token::BlockBegin) => {
                    if ends.iter().any(|end| self.is_name(end)) {
                        return Ok(());
                    }
                    self.nested(|parser| parser.statement(line))?;
                    self.expect(&Token::BlockEnd)?;
                }
                Some(_) => return self.error("text: unexpected token"),
            }
        }
    }

    /// Reads the end of a tag, then a body in a scope, and the name of the tag after it.
    fn block(&mut self, lenient: bool, ends: &[&str]) -> Result<String, String> {
        self.skip_operator(":");
        self.expect(&Token::BlockEnd)?;
        let outer = std::mem::replace(&mut self.lenient, lenient);
        self.body(ends)?;
        self.lenient = outer;
        self.expect_name()
    }

    /// Reads a body, and writes the tag `end` after it.
    fn closed_block(&mut self, end: &str, translated_end: &str) -> Result<(), String> {
        self.block(false, &[end])?;
        self.write_tag(self.current_line(), translated_end);
        Ok(())
    }

    /// Reads a body whose assignments end with it, and writes the tag `end` after it.
    fn scoped_block(&mut self, line: usize, end: &str) -> Result<(), String> {
        self.write_tag(line, "with");
        self.closed_block(end, "endwith")?;
        self.write_tag(self.current_line(), end);
        Ok(())
    }

    fn statement(&mut self, line: usize) -> Result<(), String> {
        let Some(Token::Name(name)) = self.current().cloned() else {
            return self.unexpected("the name of a tag");
        };
        self.advance();
        match name.as_str() {
            "for" => self.for_loop(line),
            "if" => self.if_block(line),
            "set" => self.set(line),
            "with" => self.with(line),
            "macro" => self.macro_block(line),
            "call" => self.call_block(line),
            "filter" => {
                let filters = self.filter_chain()?;
                self.write_tag(line, &format!("filter {filters}"));
                self.scoped_block(line, "endfilter")
            }
            // transformers marks the text that a model has generated, which has its own scope
            "generation" => {
                self.write_tag(line, "with");
                self.closed_block("endgeneration", "endwith")
            }
            "block" => self.named_block(line),
            "print" => {
                while self.current() != Some(&Token::BlockEnd) {
                    let code = self.expression()?;
                    self.write_print(line, &code.text);
                    if self.current() != Some(&Token::BlockEnd) {
                        self.expect_operator(",")?;
                    }
                }
                Ok(())
            }
            "break" | "continue" => {
                self.write_tag(line, &name);
                Ok(())
            }
            "autoescape" => self.error("the tag `autoescape` is not supported in a chat template"),
            tag if LOADING_TAGS.contains(&tag) => {
                while !matches!(self.current(), None | Some(Token::BlockEnd)) {
                    self.advance();
                }
                let what = format!("`{tag}`: a chat template cannot load another template");
                self.write_print(line, &format!("raise_exception({})", quoted(&what)));
                Ok(())
            }
            tag => self.error(format!("unknown tag `{tag}`")),
        }
    }

    fn for_loop(&mut self, line: usize) -> Result<(), String> {
        let target = self.target(false, "in")?;
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let conversion = if target.contains(',') { "__rows" } else { "__iterable" };
        let iterable = self.tuple(false, &["recursive"])?.filtered(conversion, "");
        let mut text = format!("for {target} in {}", iterable.text);
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_name("recursive");
        // jinja2 evaluates the condition before each iteration, and minijinja before the first one
        if let Some(condition) = condition {
            if !recursive && self.is_plain_loop() {
                self.write_tag(line, &text);
                self.write_tag(line, &format!("if {}", condition.at_least(Level::Or)));
                self.closed_block("endfor", "endif")?;
                self.write_tag(self.current_line(), "endfor");
                return Ok(());
            }
            text.push_str(&format!(" if {}", condition.text));
        }
        if recursive {
            text.push_str(" recursive");
        }
        self.write_tag(line, &text);
        if self.block(false, &["endfor", "else"])? == "else" {
            self.write_tag(self.current_line(), "else");
            self.block(false, &["endfor"])?;
        }
        self.write_tag(self.current_line(), "endfor");
        Ok(())
    }

    fn if_block(&mut self, line: usize) -> Result<(), String> {
        let (mut tag, mut line) = ("if", line);
        loop {
            let outer = std::mem::replace(&mut self.lenient, true);
            let test = self.tuple(false, &[])?.at_least(Level::Or);
            self.lenient = outer;
            self.write_tag(line, &format!("{tag} {test}"));
            let next = self.block(true, &["elif", "else", "endif"])?;
            line = self.current_line();
            match next.as_str() {
                "elif" => tag = "elif",
                "else" => {
                    self.write_tag(line, "else");
                    self.block(true, &["endif"])?;
                    break;
                }
                _ => break,
            }
        }
        self.write_tag(self.current_line(), "endif");
        Ok(())
    }

    fn set(&mut self, line: usize) -> Result<(), String> {
        let target = self.target(true, "=")?;
        if self.skip_operator("=") {
            let value = self.tuple(true, &[])?;
            if let Some((_, hidden)) = target.split_once("._") {
                let what = format!("a namespace cannot have the attribute `_{hidden}`");
                self.write_print(line, &format!("raise_exception({})", quoted(&what)));
                return Ok(());
            }
            // the target of several values may be any sequence, which minijinja calls a list
            let value = if target.contains(',') { value.filtered("__unpacked", "") } else { value };
            self.write_tag(line, &format!("set {target} = {}", value.text));
            return Ok(());
        }
        let mut text = format!("set {target}");
        if self.skip_operator("|") {
            text.push_str(&format!(" | {}", self.filter_chain()?));
        }
        self.write_tag(line, &text);
        self.scoped_block(line, "endset")
    }

    fn with(&mut self, line: usize) -> Result<(), String> {
        let (mut names, mut values) = (Vec::new(), Vec::new());
        while self.current() != Some(&Token::BlockEnd) && !self.is_operator(":") {
            if !names.is_empty() {
                self.expect_operator(",")?;
            }
            names.push(self.target_name()?);
            self.expect_operator("=")?;
            values.push(self.expression()?.text);
        }
        if let ([name], [value]) = (names.as_slice(), values.as_slice()) {
            self.write_tag(line, &format!("with {name}={value}"));
            return self.closed_block("endwith", "endwith");
        }
        // all values are evaluated before the first assignment
        self.write_tag(line, &format!("with __values=[{}]", values.join(", ")));
        let assignments = names.iter().enumerate();
        let assignments: Vec<String> =
            assignments.map(|(at, name)| format!("{name}=__values[{at}]")).collect();
        self.write_tag(line, &format!("with {}", assignments.join(", ")));
        self.closed_block("endwith", "endwith")?;
        self.write_tag(self.current_line(), "endwith");
        Ok(())
    }

    fn macro_block(&mut self, line: usize) -> Result<(), String> {
        let name = self.target_name()?;
        let (parameters, defaults) = self.signature()?;
        let extra =
            ["varargs", "kwargs"].map(|extra| self.occurs_in_block(extra, "macro", "endmacro"));
        let mut declared = parameters.clone();
        if extra.contains(&true) {
            declared.push("varargs=()".into());
            declared.push("kwargs={}".into());
        }
        self.write_tag(line, &format!("macro {name}({})", declared.join(", ")));
        self.write_defaults(line, &defaults);
        self.closed_block("endmacro", "endmacro")?;
        if extra.contains(&true) {
            let names: Vec<String> = parameters.iter().map(|parameter| quoted(parameter)).collect();
            let [positional, named] = extra;
            let wrapped = Code::name(&name)
                .filtered("__macro", &format!("[{}], {positional}, {named}", names.join(", ")));
            self.write_tag(self.current_line(), &format!("set {name} = {}", wrapped.text));
        }
        Ok(())
    }

    fn call_block(&mut self, line: usize) -> Result<(), String> {
        let (parameters, defaults) =
            if self.is_operator("(") { self.signature()? } else { (Vec::new(), Vec::new()) };
        let parameters = match parameters.as_slice() {
            [] => String::new(),
            parameters => format!("({})", parameters.join(", ")),
        };
        let code = self.expression()?;
        if !code.is_call {
            return self.error("the tag `call`: expected a call");
        }
        self.write_tag(line, &format!("call{parameters} {}", code.text));
        self.write_defaults(line, &defaults);
        self.closed_block("endcall", "endcall")
    }

    fn named_block(&mut self, line: usize) -> Result<(), String> {
        let name = self.expect_name()?;
        let mut text = format!("block {name}");
        for modifier in ["scoped", "required"] {
            if self.skip_name(modifier) {
                text.push_str(&format!(" {modifier}"));
            }
        }
        self.write_tag(line, &text);
        self.closed_block("endblock", "endblock")?;
        self.skip_name(&name);
        Ok(())
    }

    /// Writes the assignments of default values. They are not part of the signature, because a
    /// default value can be an expression with other parameters.
    fn write_defaults(&mut self, line: usize, defaults: &[(String, String)]) {
        for (name, value) in defaults {
            self.write_tag(line, &format!("if {name} is undefined"));
            self.write_tag(line, &format!("set {name} = {value}"));
            self.write_tag(line, "endif");
        }
    }

    /// Reads the parameters of a macro or of a call block, with the parentheses. Returns the names,
    /// and the default values by name.
    fn signature(&mut self) -> Result<Signature, String> {
        self.expect_operator("(")?;
        let (mut parameters, mut defaults) = (Vec::new(), Vec::new());
        while !self.is_operator(")") {
            if !parameters.is_empty() {
                self.expect_operator(",")?;
            }
            let name = self.target_name()?;
            if self.skip_operator("=") {
                defaults.push((name.clone(), self.expression()?.text));
            } else if !defaults.is_empty() {
                return self.error("a parameter without a default value follows one that has one");
            }
            parameters.push(name);
        }
        self.expect_operator(")")?;
        Ok((parameters, defaults))
    }

    /// Reads filters that are separated by `|`.
    fn filter_chain(&mut self) -> Result<String, String> {
        let mut filters = vec![self.filter()?];
        while self.skip_operator("|") {
            filters.push(self.filter()?);
        }
        Ok(filters.join(" | "))
    }

    fn target_name(&mut self) -> Result<String, String> {
        let name = self.expect_name()?;
        if CONSTANTS.contains(&name.as_str()) {
            return self.error(format!("cannot assign to `{name}`"));
        }
        Ok(name)
    }

    /// Reads the target of an assignment: names, with commas and parentheses, up to the token
    /// `end`.
    fn target(&mut self, with_namespace: bool, end: &str) -> Result<String, String> {
        let (mut items, mut is_tuple) = (Vec::new(), false);
        loop {
            let ended = self.is_name(end)
                || self.is_operator(end)
                || self.is_operator(")")
                || self.current() == Some(&Token::BlockEnd);
            if ended && is_tuple {
                break;
            }
            items.push(if self.skip_operator("(") {
                let inner = self.nested(|parser| parser.target(with_namespace, end))?;
                self.expect_operator(")")?;
                if inner.contains(',') { format!("({inner})") } else { inner }
            } else {
                let name = self.target_name()?;
                if with_namespace && self.skip_operator(".") {
                    let attribute = self.expect_name()?;
                    format!("{name}.{attribute}")
                } else {
                    name
                }
            });
            if !self.skip_operator(",") {
                break;
            }
            is_tuple = true;
        }
        Ok(if is_tuple && items.len() == 1 { format!("{},", items[0]) } else { items.join(", ") })
    }
}
