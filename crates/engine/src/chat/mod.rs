//! Chats to prompts, by the model's own chat template, as transformers renders it
//! (`utils/chat_template_utils.py`).
//!
//! A template comes with the model's files, from whoever published them: it gets no access to
//! anything, a bounded number of steps, a bounded output, and bounds on its time and memory.

mod aside;
mod json;
mod methods;

use crate::small_file::{read_json, read_text};
use crate::tokenizer::{GgufVocabulary, Prompt, SpecialTokens, failure};
use aside::aside;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, context};
use modelgate_protocol::{Failure, Message, ModelFiles, Stage};
use std::io::{self, Write};
use std::path::Path;

/// Steps of the template's virtual machine. A chat of a hundred turns takes some ten thousand.
const FUEL: u64 = 1_000_000;

/// The longest prompt that a template may write.
const LONGEST: usize = 4 << 20;

/// The longest template. Those of the supported families have up to 5 KB. The library's compiler takes the
/// square of the longest chain such as `a ~ a ~ a`: a second for one of this length, a minute for six
/// times that.
const LONGEST_TEMPLATE: usize = 32 << 10;

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

/// What `tokenizer_config.json` may call special tokens, and a template too
/// (`SPECIAL_TOKENS_ATTRIBUTES` of transformers).
const SPECIAL: [&str; 8] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    ADDITIONAL,
];

/// The one that is a list.
const ADDITIONAL: &str = "additional_special_tokens";

/// A model's chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// By their names.
    special_tokens: Value,
    source: String,
}

impl ChatTemplate {
    /// Finds the template among the model's files, or else in the metadata of a GGUF file.
    pub(crate) fn open(
        files: &ModelFiles,
        vocabulary: Option<&GgufVocabulary>,
    ) -> Result<ChatTemplate, Failure> {
        let config = match (&files.tokenizer_config, vocabulary) {
            (Some(path), _) => parsed(path)?,
            (None, Some(vocabulary)) => vocabulary.special_tokens(),
            (None, None) => serde_json::Value::Null,
        };
        let (text, source) = find(files, &config, vocabulary)?;
        if text.len() > LONGEST_TEMPLATE {
            let message = format!(
                "the chat template in {source} has {} bytes, expected at most {LONGEST_TEMPLATE}",
                text.len()
            );
            return Err(failure(Stage::Generate, message, crate::fail::FETCH_AGAIN));
        }
        let environment = compiled(text, |why| {
            let message = format!("the chat template in {source} is not sound: {why}");
            failure(Stage::Generate, message, HINT)
        })?;
        Ok(ChatTemplate { environment, special_tokens: special_tokens(&config), source })
    }

    /// The prompt that asks for an answer to `messages`.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        special: &SpecialTokens,
    ) -> Result<Prompt, Failure> {
        let turn = |message: &Message| {
            let (role, content) = (special.guard(&message.role)?, special.guard(&message.text())?);
            Ok(context! { role, content })
        };
        let turns = messages.iter().map(turn).collect::<Result<Vec<Value>, Failure>>()?;
        let variables = context! {
            messages => turns,
            tools => (),
            documents => (),
            add_generation_prompt => true,
            ..self.special_tokens.clone()
        };
        let environment = self.environment.clone();
        let render = move || {
            let mut out = Bounded(Vec::new());
            environment
                .get_template("chat")
                .and_then(|template| template.render_captured_to(variables, &mut out).map(drop))
                .map_err(|error| causes(&error))?;
            String::from_utf8(out.0).map_err(|error| error.to_string())
        };
        Ok(special.prompt(&aside(render, |why| self.cannot(why))?))
    }

    fn cannot(&self, why: String) -> Failure {
        let message =
            format!("the chat template in {} cannot render this chat: {why}", self.source);
        failure(Stage::Generate, message, HINT)
    }
}

/// The environment that has a template of that text. `unsound` says that it cannot be one, and why.
fn compiled(
    text: String,
    unsound: impl Fn(String) -> Failure,
) -> Result<Environment<'static>, Failure> {
    let compile = move || {
        let mut environment = environment();
        environment
            .add_template_owned("chat", without_generation(&text))
            .map_err(|error| causes(&error))?;
        Ok(environment)
    };
    aside(compile, unsound)
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

/// The special tokens that the config names: as a text, or with its flags.
fn special_tokens(config: &serde_json::Value) -> Value {
    let text = |token: &serde_json::Value| {
        token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
    };
    let named = |name: &'static str| {
        let value = match &config[name] {
            serde_json::Value::Array(list) if name == ADDITIONAL => {
                list.iter().filter_map(text).collect()
            }
            token => Value::from(text(token)?),
        };
        Some((name, value))
    };
    Value::from_pairs(SPECIAL.into_iter().filter_map(named))
}

/// The template without the tags that transformers takes for the bounds of what a model has
/// generated (`AssistantTracker`). They render what is between them, in a scope of its own.
fn without_generation(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        let inner = tag[2..].trim_start_matches(['-', '+']).trim_start();
        let renamed = [("generation", "with"), ("endgeneration", "endwith")];
        let renamed = renamed.into_iter().find_map(|(name, renamed)| {
            let end = inner.strip_prefix(name)?;
            let closed = end.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
            closed.then_some((renamed, end))
        });
        out.push_str(before);
        rest = match renamed {
            Some((renamed, end)) => {
                out.push_str(&tag[..tag.len() - inner.len()]);
                out.push_str(renamed);
                end
            }
            None => {
                out.push_str("{%");
                &tag[2..]
            }
        };
    }
    out.push_str(rest);
    out
}

/// The template's text and the file it is in.
fn find(
    files: &ModelFiles,
    config: &serde_json::Value,
    vocabulary: Option<&GgufVocabulary>,
) -> Result<(String, String), Failure> {
    let mut searched = Vec::new();
    if let Some(path) = &files.chat_template {
        let name = path.display().to_string();
        if path.extension().is_some_and(|extension| extension == "json") {
            if let Some(text) = template_in(&parsed(path)?) {
                return Ok((text, name));
            }
        } else {
            let text = read_text(path, LONGEST_TEMPLATE as u64);
            let text = text.map_err(|error| unreadable(path, &error))?;
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
    if let Some(vocabulary) = vocabulary {
        let name = vocabulary.path().display().to_string();
        if let Some(text) = vocabulary.chat_template() {
            return Ok((text.to_owned(), name));
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

fn parsed(path: &Path) -> Result<serde_json::Value, Failure> {
    read_json(path).map_err(|error| unreadable(path, &error))
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
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment.add_function("strftime_now", |format: String| pinned_date(&format));
    environment.add_filter("tojson", json::to_json);
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

/// Takes no more than [`LONGEST`] bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST {
            let message = format!("the prompt, or a part of it, is longer than {LONGEST} bytes");
            return Err(io::Error::other(message));
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
    use serde_json::json;

    /// Special tokens are `<s>`, `</s>` and `[SEP]`.
    fn rendered(template: &str, content: &str) -> Result<Prompt, String> {
        let token = |name: &str| json!({ "content": name, "special": true });
        let added = ["<s>", "</s>", "[SEP]"].map(token);
        let mut tokenizer = json!({ "added_tokens": added });
        let special = SpecialTokens::take_from(&mut tokenizer)?;
        let config = json!({
            "bos_token": "<s>",
            "eos_token": { "content": "</s>", "lstrip": false },
            "pad_token": null,
            "additional_special_tokens": ["[SEP]"],
        });
        let unsound = |why| failure(Stage::Generate, why, HINT);
        let environment =
            compiled(template.to_owned(), unsound).map_err(|failure| failure.message)?;
        let template = ChatTemplate {
            environment,
            special_tokens: special_tokens(&config),
            source: "test".into(),
        };
        let message = Message {
            role: "user".into(),
            content: content.split('|').map(|part| ContentPart::Text(part.into())).collect(),
        };
        template.render(&[message], &special).map_err(|failure| failure.message)
    }

    fn render(template: &str) -> Result<String, String> {
        rendered(template, "a|<b>").map(|prompt| prompt.text().to_owned())
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
    fn json_is_as_python_writes_it() {
        let value = "{'b': [1, {}, 'é\u{1F600}'], 'a': []}";
        let json = |options: &str| render(&format!("{{{{ {value} | tojson({options}) }}}}"));
        // Each is what json.dumps gives for the same options.
        for (options, expected) in [
            ("", r#"{"b": [1, {}, "é😀"], "a": []}"#),
            ("ensure_ascii=true", r#"{"b": [1, {}, "\u00e9\ud83d\ude00"], "a": []}"#),
            ("separators=(',', ':')", r#"{"b":[1,{},"é😀"],"a":[]}"#),
            ("sort_keys=true", r#"{"a": [], "b": [1, {}, "é😀"]}"#),
            ("indent=2", "{\n  \"b\": [\n    1,\n    {},\n    \"é😀\"\n  ],\n  \"a\": []\n}"),
            (
                "indent='\t', separators=['; ', '='], sort_keys=true",
                "{\n\t\"a\"=[]; \n\t\"b\"=[\n\t\t1; \n\t\t{}; \n\t\t\"é😀\"\n\t]\n}",
            ),
        ] {
            assert_eq!(json(options).as_deref(), Ok(expected), "{options}");
        }
        assert!(json("width=2").is_err());
    }

    #[test]
    fn special_tokens_have_their_names() {
        let template = "{{ bos_token }}{{ eos_token }}{{ additional_special_tokens[0] }}\
                        {{ pad_token is defined }}";
        assert_eq!(render(template).as_deref(), Ok("<s></s>[SEP]False"));
    }

    #[test]
    fn bounds_of_what_was_generated_render_what_is_between() {
        let template = "a {%- generation -%} b{% set x = 1 %} {% endgeneration %} {{ x }}c\
                        {%generation%}{{ messages | length }}{%+ endgeneration +%}";
        assert_eq!(render(template).as_deref(), Ok("ab  c1"));
        let no_tag = "{{ '{% generations %}' }}";
        assert_eq!(render(no_tag).as_deref(), Ok("{% generations %}"));
    }

    #[test]
    fn a_message_cannot_write_a_special_token() {
        let prompt = |template: &str, content: &str| {
            let prompt = rendered(template, content).expect("a prompt");
            (prompt.text().to_owned(), prompt.marked().replace('\u{10FFFF}', "^"))
        };
        let template = "{{ bos_token }}[SEP]{{ messages[0].content | trim }}</s>";
        let (text, marked) = prompt(template, " <s>a</s></s> ");
        assert_eq!(text, "<s>[SEP]<s>a</s></s></s>");
        assert_eq!(marked, "^<s>^[SEP]<s>a</s></s>^</s>");
        // What templates do with a message is done to what it says.
        let (text, _) = prompt("{{ messages[0].content.split('</s>')[-1] }}", "a</s>b");
        assert_eq!(text, "b");
        let (_, marked) = prompt("{{ messages | tojson(ensure_ascii=true) }}</s>", "é<s>");
        assert_eq!(marked, r#"[{"role": "user", "content": "\u00e9<s>"}]^</s>"#);
        for reserved in ["\u{10FFFF}<s>", "\u{10FFFE}"] {
            let error = rendered(template, reserved).err().expect("refused");
            assert!(error.contains("U+10FFF"), "{error}");
        }
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
