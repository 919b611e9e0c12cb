//! The chat template of a model.

use super::bounded_output::BoundedOutput;
use super::compile::{NAME, compiled, with_causes};
use super::lookup::{MAX_TEMPLATE_BYTES, find, parsed};
use super::render_thread::run_bounded;
use super::special_tokens::{special_tokens, with_special_tokens_map};
use crate::failures;
use crate::formats::EmbeddedText;
use crate::text::tokenizer::{Prompt, SpecialTokens};
use minijinja::value::Value;
use minijinja::{Environment, context};
use modelgate_protocol::{Failure, Message, ModelFiles, Stage};

const HINT: &str = "check the roles of the messages and their order, and compare the template \
                    with the template of the publisher";

/// A compiled chat template.
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    /// The special tokens by variable, for example `bos_token`.
    special_tokens: Value,
    /// The path of the template's file, for messages.
    source: String,
}

impl ChatTemplate {
    /// Finds and compiles the template, which is one of the model's files or part of its weight
    /// files.
    ///
    /// # Errors
    /// The template is missing or invalid.
    pub(crate) fn open(
        files: &ModelFiles,
        embedded: Option<&dyn EmbeddedText>,
    ) -> Result<ChatTemplate, Failure> {
        let config = match (&files.tokenizer_config, embedded) {
            (Some(path), _) => parsed(path)?,
            (None, Some(embedded)) => embedded.special_tokens(),
            (None, None) => serde_json::Value::Null,
        };
        let config = match &files.special_tokens_map {
            Some(path) => with_special_tokens_map(config, parsed(path)?),
            None => config,
        };
        let (text, source) = find(files, &config, embedded)?;
        if text.len() > MAX_TEMPLATE_BYTES {
            let message = format!(
                "the chat template in {source} has {} bytes, expected at most {MAX_TEMPLATE_BYTES}",
                text.len()
            );
            return Err(failures::tokenizer(
                Stage::Generate,
                message,
                failures::DOWNLOAD_AGAIN_HINT,
            ));
        }
        let environment = compiled(text, |reason| {
            let message = format!("the chat template in {source} is not valid: {reason}");
            failures::tokenizer(Stage::Generate, message, HINT)
        })?;
        Ok(ChatTemplate { environment, special_tokens: special_tokens(&config), source })
    }

    /// Returns the text of the token that ends a turn or a text, if the tokenizer names it.
    pub(crate) fn eos_token(&self) -> Option<String> {
        let token = self.special_tokens.get_attr("eos_token").ok()?;
        token.as_str().map(str::to_owned)
    }

    /// Renders `messages`, up to the beginning of the answer.
    ///
    /// # Errors
    /// The template rejects the messages, or exceeds a bound.
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
            let mut out = BoundedOutput::default();
            environment
                .get_template(NAME)
                .and_then(|template| template.render_captured_to(variables, &mut out).map(drop))
                .map_err(|error| with_causes(&error))?;
            String::from_utf8(out.0).map_err(|error| error.to_string())
        };
        Ok(special.prompt(&run_bounded(render, |reason| self.render_failure(reason))?))
    }

    /// Returns the failure for a chat that the template cannot render.
    fn render_failure(&self, reason: String) -> Failure {
        let message =
            format!("the chat template in {} cannot render this chat: {reason}", self.source);
        failures::tokenizer(Stage::Generate, message, HINT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelgate_protocol::ContentPart;
    use serde_json::json;

    /// Renders a template with the special tokens `<s>`, `</s>` and `[SEP]`. The parts of `content`
    /// are separated by `|`.
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
        let invalid = |reason: String| failures::tokenizer(Stage::Generate, reason, HINT);
        let environment =
            compiled(template.to_owned(), invalid).map_err(|failure| failure.message)?;
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
    fn variables_and_functions_of_transformers_are_available() {
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
    fn tojson_writes_json_like_python() {
        let value = "{'b': [1, {}, 'é\u{1F600}'], 'a': []}";
        let json = |options: &str| render(&format!("{{{{ {value} | tojson({options}) }}}}"));
        // the results of json.dumps with the same options
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
    fn special_tokens_are_available_as_variables() {
        let template = "{{ bos_token }}{{ eos_token }}{{ additional_special_tokens[0] }}\
                        {{ pad_token is defined }}";
        assert_eq!(render(template).as_deref(), Ok("<s></s>[SEP]False"));
    }

    #[test]
    fn generation_tags_render_their_content() {
        let template = "a {%- generation -%} b{% set x = 1 %} {% endgeneration %} {{ x }}c\
                        {%generation%}{{ messages | length }}{%+ endgeneration +%}";
        assert_eq!(render(template).as_deref(), Ok("ab  c1"));
        let no_tag = "{{ '{% generations %}' }}";
        assert_eq!(render(no_tag).as_deref(), Ok("{% generations %}"));
    }

    #[test]
    fn characters_of_a_special_token_in_a_message_are_not_marked() {
        let prompt = |template: &str, content: &str| {
            let prompt = rendered(template, content).expect("the template renders a prompt");
            (prompt.text().to_owned(), prompt.marked().replace('\u{10FFFF}', "^"))
        };
        let template = "{{ bos_token }}[SEP]{{ messages[0].content | trim }}</s>";
        let (text, marked) = prompt(template, " <s>a</s></s> ");
        assert_eq!(text, "<s>[SEP]<s>a</s></s></s>");
        assert_eq!(marked, "^<s>^[SEP]<s>a</s></s>^</s>");
        // a template processes the text of a message without guards
        let (text, _) = prompt("{{ messages[0].content.split('</s>')[-1] }}", "a</s>b");
        assert_eq!(text, "b");
        let (_, marked) = prompt("{{ messages | tojson(ensure_ascii=true) }}</s>", "é<s>");
        assert_eq!(marked, r#"[{"role": "user", "content": "\u00e9<s>"}]^</s>"#);
        for reserved in ["\u{10FFFF}<s>", "\u{10FFFE}"] {
            let error =
                rendered(template, reserved).err().expect("a reserved character is refused");
            assert!(error.contains("U+10FFF"), "{error}");
        }
    }

    #[test]
    fn an_exception_of_the_template_is_reported() {
        let error = render("{{ raise_exception('roles must alternate') }}")
            .expect_err("the template rejects the chat");
        assert!(error.contains("roles must alternate"), "{error}");
    }

    #[test]
    fn an_endless_template_is_stopped() {
        let error = render(
            "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}\
                            {% endfor %}",
        )
        .expect_err("the template is stopped");
        assert!(error.contains("fuel") || error.contains("longer"), "{error}");
        let long = "{% set x = 'abcdefgh' * 100000 %}{% for a in range(100) %}{{ x }}{% endfor %}";
        let error = render(long).expect_err("the template is stopped");
        assert!(error.contains("longer than"), "{error}");
    }
}
