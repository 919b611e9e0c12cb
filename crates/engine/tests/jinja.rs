//! Compares the texts of templates with those of jinja2 in the environment of transformers
//! (`scripts/golden/jinja.py`).

#![allow(clippy::unwrap_used)]

mod common;

use common::fixtures;
use modelgate_engine::parsers;
use serde_json::Value;

/// Snippets whose result differs from jinja2, with the reason. An entry fails if the results are
/// equal.
const DIFFERENT: [(&str, &str); 9] = [
    ("{{ none[1:] }}", "jinja2 evaluates constant expressions early, and ignores the error"),
    ("{{ 5[1:] }}", "jinja2 evaluates constant expressions early, and ignores the error"),
    ("{{ l.0.real }}", "the attributes of numbers do not exist"),
    ("{{ 'a'.encode() }}", "there are no bytes"),
    ("{{ ['a'] | map('nothing2') is defined }}", "filters are evaluated immediately"),
    (
        "{%- set ns = namespace(found=false) -%}{%- for m in messages if not ns.found -%}\
         {%- set ns.found = true -%}{{ loop.index }}{%- endfor -%}",
        "minijinja evaluates the condition of a loop that uses `loop` before the first iteration",
    ),
    (
        "{% set v = 1 %}{% for i in [1] %}{% block c %}{{ i }}{{ v }}{% endblock %}{% endfor %}",
        "a block of minijinja has access to the variables of the loop around it",
    ),
    ("{% set loop = 1 %}{{ loop }}", "minijinja reserves the name `loop`"),
    ("{{ self is defined }}", "`self` is only a name for the blocks"),
];

/// Returns the entries of a list of the golden data.
fn golden(list: &str) -> Vec<Value> {
    let path = fixtures().join("golden/jinja.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    golden[list].as_array().unwrap().clone()
}

/// Returns the difference between the text of a template and the one of jinja2. `expected` is
/// `None` for an error.
fn difference(template: &str, variables: &Value, expected: Option<&str>) -> Option<String> {
    match (parsers::template(template, variables.as_str().unwrap()), expected) {
        (Ok(text), Some(expected)) if text == expected => None,
        (Err(_), None) => None,
        (Ok(text), expected) => Some(format!("{text:?}, expected {expected:?}")),
        (Err(failure), expected) => Some(format!("{}, expected {expected:?}", failure.message)),
    }
}

#[test]
fn snippets_render_as_with_jinja2() {
    let snippets = golden("snippets");
    let mut wrong = Vec::new();
    for snippet in &snippets {
        let (template, variables) = (snippet["template"].as_str().unwrap(), &snippet["variables"]);
        let difference = difference(template, variables, snippet["text"].as_str());
        let known = DIFFERENT.iter().find(|(known, _)| *known == template);
        match (difference, known) {
            (Some(difference), None) => {
                wrong.push(format!("{template:?} with {variables}: {difference}"));
            }
            (None, Some((_, reason))) => {
                wrong.push(format!("{template:?} is equal now; remove the entry: {reason}"));
            }
            _ => {}
        }
    }
    let count = wrong.len();
    assert!(wrong.is_empty(), "{count} of {}:\n{}", snippets.len(), wrong.join("\n"));
    for (known, _) in DIFFERENT {
        assert!(snippets.iter().any(|snippet| snippet["template"] == known), "{known}");
    }
}

#[test]
fn chat_templates_of_models_render_as_with_jinja2() {
    let templates = golden("templates");
    let mut wrong = Vec::new();
    for chat in golden("chats") {
        let template = templates.iter().find(|template| template["name"] == chat["template"]);
        let template = template.unwrap()["template"].as_str().unwrap();
        if let Some(difference) = difference(template, &chat["variables"], chat["text"].as_str()) {
            wrong.push(format!("{} {}: {difference}", chat["template"], chat["conversation"]));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
