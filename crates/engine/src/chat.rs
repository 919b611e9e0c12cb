//! Chats to prompts, by the model's own chat template, as transformers renders it
//! (`utils/chat_template_utils.py`).
//!
//! A template comes with the model's files, from whoever published them: it gets no access to
//! anything, a bounded number of steps, and a bounded output.

use crate::tokenizer::failure;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, context};
use modelgate_protocol::{Failure, Message, ModelFiles, Stage};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use std::io::{self, Write};
use std::path::Path;

/// Steps of the template's virtual machine. A chat of a hundred turns takes some ten thousand.
const FUEL: u64 = 1_000_000;

/// The longest prompt that a template may write.
const LONGEST: usize = 4 << 20;

/// The date that a template is told: always the same, so that the same chat always makes the same
/// prompt. It is the one that Llama 3.1's template falls back to.
const TODAY: [(char, &str); 10] = [
    ('d', "26"),
    ('m', "07"),
    ('Y', "2024"),
    ('y', "24"),
    ('b', "Jul"),
    ('B', "July"),
    ('a', "Fri"),
    ('A', "Friday"),
    ('j', "208"),
    ('%', "%"),
];

/// Names that a chat template may have a list of templates under.
const DEFAULT: &str = "default";

/// A model's chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    source: String,
}

impl ChatTemplate {
    /// Finds the template among the model's files.
    pub(crate) fn open(files: &ModelFiles) -> Result<ChatTemplate, Failure> {
        let config = match &files.tokenizer_config {
            Some(path) => read_json(path)?,
            None => serde_json::Value::Null,
        };
        let (text, source) = find(files, &config)?;
        let mut environment = environment();
        environment.add_template_owned("chat", text).map_err(|error| {
            let why = causes(&error);
            let message = format!("the chat template in {source} is not sound: {why}");
            failure(Stage::Generate, message, HINT)
        })?;
        let token = |key: &str| {
            let value = &config[key];
            let text = value.as_str().or_else(|| value["content"].as_str());
            text.unwrap_or_default().to_owned()
        };
        let (bos_token, eos_token) = (token("bos_token"), token("eos_token"));
        Ok(ChatTemplate { environment, bos_token, eos_token, source })
    }

    /// The prompt that asks for an answer to `messages`.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String, Failure> {
        let turn = |message: &Message| {
            context! { role => message.role.as_str(), content => message.text() }
        };
        let turns: Vec<Value> = messages.iter().map(turn).collect();
        let mut out = Bounded(Vec::new());
        self.environment
            .get_template("chat")
            .and_then(|template| {
                let variables = context! {
                    messages => turns,
                    tools => (),
                    documents => (),
                    add_generation_prompt => true,
                    bos_token => self.bos_token.as_str(),
                    eos_token => self.eos_token.as_str(),
                };
                template.render_captured_to(variables, &mut out).map(drop)
            })
            .map_err(|error| self.cannot(causes(&error)))?;
        String::from_utf8(out.0).map_err(|error| self.cannot(error.to_string()))
    }

    fn cannot(&self, why: String) -> Failure {
        let message =
            format!("the chat template in {} cannot render this chat: {why}", self.source);
        failure(Stage::Generate, message, HINT)
    }
}

/// An error and what led to it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

const HINT: &str = "check the messages' roles and their order against the model's template, and \
                    that the file is the publisher's";

/// The template's text and the file it is in.
fn find(files: &ModelFiles, config: &serde_json::Value) -> Result<(String, String), Failure> {
    let mut searched = Vec::new();
    if let Some(path) = &files.chat_template {
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension == "json") {
            if let Some(text) = template_in(&read_json(path)?) {
                return Ok((text, name));
            }
        } else {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            return Ok((text, name));
        }
        searched.push(name);
    }
    if let Some(path) = &files.tokenizer_config {
        let name = path.display().to_string();
        if let Some(text) = template_in(config) {
            return Ok((text, name));
        }
        searched.push(name);
    }
    let searched = match searched.as_slice() {
        [] => format!(
            "{} has no chat_template.jinja, chat_template.json or tokenizer_config.json",
            files.root.display()
        ),
        names => format!("no chat template in {}", names.join(", ")),
    };
    Err(failure(
        Stage::Generate,
        searched,
        "put the chat template of the original repository beside the weights; a base model \
         without one cannot be asked questions",
    ))
}

/// `chat_template`: a text, or a list of named ones.
fn template_in(config: &serde_json::Value) -> Option<String> {
    let template = &config["chat_template"];
    if let Some(text) = template.as_str() {
        return Some(text.to_owned());
    }
    let named = template.as_array()?.iter().find(|entry| entry["name"] == DEFAULT)?;
    named["template"].as_str().map(str::to_owned)
}

fn read_json(path: &Path) -> Result<serde_json::Value, Failure> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    failure(Stage::Generate, format!("{}: {error}", path.display()), crate::fail::FETCH_AGAIN)
}

/// Jinja as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment.add_function("strftime_now", |format: String| pinned_date(&format));
    environment.add_filter("tojson", to_json);
    environment
}

fn pinned_date(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let code = letters.next().unwrap_or('%');
        match TODAY.iter().find(|(known, _)| *known == code) {
            Some((_, text)) => out.push_str(text),
            // Times of day: midnight.
            None if "HMS".contains(code) => out.push_str("00"),
            None => {
                let what = format!("strftime_now does not know %{code}");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
    }
    Ok(out)
}

/// Python's `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // transformers takes these too; what they ask for is what is done anyway.
    for known in ["ensure_ascii", "separators", "sort_keys"] {
        let _: Option<Value> = options.get(known)?;
    }
    options.assert_all_used()?;
    let mut bytes = Vec::new();
    let written = match indent {
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, OneLine)),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        }
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    // Safe, so that nothing escapes it again.
    Ok(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

/// One line with a blank after each comma and colon, as Python writes it.
struct OneLine;

impl Formatter for OneLine {
    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(b": ")
    }
}

/// Takes no more than [`LONGEST`] bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            return Err(io::Error::other(format!("the prompt is longer than {LONGEST} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::ContentPart;

    fn render(template: &str) -> Result<String, String> {
        let mut environment = environment();
        environment.add_template_owned("chat", template.to_owned()).expect("a sound template");
        let template = ChatTemplate {
            environment,
            bos_token: "<s>".into(),
            eos_token: "</s>".into(),
            source: "test".into(),
        };
        let message = Message {
            role: "user".into(),
            content: vec![ContentPart::Text("a".into()), ContentPart::Text("<b>".into())],
        };
        template.render(&[message]).map_err(|failure| failure.message)
    }

    #[test]
    fn what_templates_use_is_there() {
        assert_eq!(render("{{ bos_token }}{{ messages[0].content }}").as_deref(), Ok("<s>a<b>"));
        assert_eq!(render("{{ messages[0]['role'].upper() }}").as_deref(), Ok("USER"));
        assert_eq!(render("{{ strftime_now('%d %b %Y') }}").as_deref(), Ok("26 Jul 2024"));
        assert_eq!(
            render("{{ messages | tojson }}").as_deref(),
            Ok(r#"[{"role": "user", "content": "a<b>"}]"#)
        );
        assert_eq!(render("{% if tools is none %}no{% endif %}\ntools").as_deref(), Ok("notools"));
        assert_eq!(
            render("{%- for m in messages %}\n  {% if true %}\nx{% endif %}\n{% endfor %}")
                .as_deref(),
            Ok("x")
        );
    }

    #[test]
    fn an_exception_of_the_template_is_the_message() {
        let error = render("{{ raise_exception('roles must alternate') }}").expect_err("refused");
        assert!(error.contains("roles must alternate"), "{error}");
    }

    #[test]
    fn a_template_without_end_is_stopped() {
        let error = render(
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}\
                            {% endfor %}",
        )
        .expect_err("stopped");
        assert!(error.contains("fuel") || error.contains("longer"), "{error}");
        let long = "{% set x = 'abcdefgh' * 100000 %}{% for a in range(100) %}{{ x }}{% endfor %}";
        let error = render(long).expect_err("stopped");
        assert!(error.contains("longer than"), "{error}");
    }
}
