//! JSON schemas as Markdown: a table for each object and each enum.

use super::table::{table, without_links};
use serde_json::Value;
use std::fmt::Write;

/// Returns the definition `name` of a schema, or JSON null if it does not exist.
pub(super) fn definition<'s>(schema: &'s Value, name: &str) -> &'s Value {
    &schema["$defs"][name]
}

/// Returns the string values of an enum with their descriptions.
pub(super) fn constants(schema: &Value) -> Vec<(String, String)> {
    let variants = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    variants
        .iter()
        .flat_map(|variant| match (variant["const"].as_str(), variant["enum"].as_array()) {
            (Some(name), _) => vec![(name.to_owned(), description(variant))],
            (None, Some(names)) => names
                .iter()
                .filter_map(Value::as_str)
                .map(|name| (name.to_owned(), description(variant)))
                .collect(),
            (None, None) => Vec::new(),
        })
        .collect()
}

/// Returns a page with a section for each schema (with its title) and for each definition in them.
pub(super) fn page(head: &str, schemas: &[(&str, &Value)]) -> String {
    let mut page = head.to_owned();
    let mut written: Vec<&String> = Vec::new();
    for (title, schema) in schemas {
        // writing to a string cannot fail
        let _ = write!(page, "\n## {title}\n{}", section(schema));
    }
    for (_, schema) in schemas {
        for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
            if !written.contains(&name) {
                let _ = write!(page, "\n### {name}\n{}", section(definition));
                written.push(name);
            }
        }
    }
    page
}

fn section(schema: &Value) -> String {
    let mut text = String::new();
    let description = description(schema);
    if !description.is_empty() {
        text += &format!("\n{description}\n");
    }
    if schema["properties"].is_object() {
        text += &format!("\n{}", properties(schema));
        if schema["$ref"].is_string() {
            text += &format!("\nThe keys of {} are in the same object.\n", kind(schema));
        }
    }
    let constants = constants(schema);
    if !constants.is_empty() {
        let rows: Vec<[String; 2]> =
            constants.into_iter().map(|(name, text)| [format!("`{name}`"), text]).collect();
        text += &format!("\n{}", table(["value", "meaning"], &rows));
    }
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(tag) = tag(variant) {
            text += &format!("\n#### `{tag}`\n{}", section(variant));
        }
    }
    text
}

/// Returns the constant property that identifies a variant of a tagged enum. `None` if there is
/// none.
fn tag(variant: &Value) -> Option<&str> {
    let properties = variant["properties"].as_object()?;
    properties.values().find_map(|property| property["const"].as_str())
}

fn properties(schema: &Value) -> String {
    let row = |(name, property): (&String, &Value)| {
        [format!("`{name}`"), kind(property), description(property)]
    };
    let rows: Vec<[String; 3]> =
        schema["properties"].as_object().into_iter().flatten().map(row).collect();
    table(["key", "type", "meaning"], &rows)
}

/// Returns the type of a value as text, for example `list of string`.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(text) = schema["const"].as_str() {
        return format!("`\"{text}\"`");
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        return variants.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    match &schema["type"] {
        Value::String(name) if name == "array" => format!("list of {}", kind(&schema["items"])),
        Value::String(name) if name == "object" && schema["additionalProperties"].is_object() => {
            format!("map to {}", kind(&schema["additionalProperties"]))
        }
        Value::String(name) => name.clone(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

fn description(schema: &Value) -> String {
    without_links(schema["description"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_and_enums_become_tables() {
        let schema = json!({
            "description": "All.",
            "properties": {
                "a": {"type": ["string", "null"], "description": "One."},
                "b": {"type": "array", "items": {"$ref": "#/$defs/B"}},
                "c": {"anyOf": [{"$ref": "#/$defs/B"}, {"type": "null"}]},
                "d": {"type": "object", "additionalProperties": {"type": "integer"}},
            },
            "$defs": {"B": {"oneOf": [{"const": "x", "description": "Ex."}, {"enum": ["y"]}]}},
        });
        let expected = "# Page\n\n## All\n\nAll.\n\n\
            | key | type | meaning |\n| --- | --- | --- |\n\
            | `a` | string or null | One. |\n\
            | `b` | list of [B](#b) |  |\n\
            | `c` | [B](#b) or null |  |\n\
            | `d` | map to integer |  |\n\n\
            ### B\n\n| value | meaning |\n| --- | --- |\n| `x` | Ex. |\n| `y` |  |\n";
        assert_eq!(page("# Page\n", &[("All", &schema)]), expected);
    }

    #[test]
    fn each_variant_of_a_tagged_enum_has_a_section() {
        let schema = json!({"oneOf": [
            {"description": "Hi.", "properties": {"event": {"const": "hello"}}, "$ref": "#/$defs/T"},
        ]});
        let text = section(&schema);
        assert!(text.contains("#### `hello`\n\nHi.\n"), "{text}");
        assert!(text.contains("| `event` | `\"hello\"` |  |\n"), "{text}");
        assert!(text.contains("\nThe keys of [T](#t) are in the same object.\n"), "{text}");
    }
}
