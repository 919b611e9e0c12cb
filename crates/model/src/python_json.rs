//! JSON as the `json` module of Python writes it, in which numbers can be `NaN`, `Infinity` and
//! `-Infinity`. transformers reads and writes the files of a model with this module.

use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// The numbers that JSON does not have.
const CONSTANTS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Parses JSON in which numbers can be `NaN`, `Infinity` and `-Infinity`. These become strings with
/// the same text, so that a key that is not used can have such a value, and a key for which a number
/// is required is refused with the value in the message.
///
/// # Errors
/// The text is not JSON of this form.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(&with_quoted_constants(json))
}

/// Puts [`CONSTANTS`] outside of strings in quotes.
fn with_quoted_constants(json: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted: Option<Vec<u8>> = None;
    // the position after the last byte that was copied to `quoted`
    let mut copied = 0;
    let mut in_string = false;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                let rest = &json[at..];
                let constant = CONSTANTS.iter().find(|name| rest.starts_with(name.as_bytes()));
                if let Some(constant) = constant {
                    let out = quoted.get_or_insert_with(|| Vec::with_capacity(json.len() + 2));
                    out.extend_from_slice(&json[copied..at]);
                    out.push(b'"');
                    out.extend_from_slice(constant.as_bytes());
                    out.push(b'"');
                    at += constant.len();
                    copied = at;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    match quoted {
        None => Cow::Borrowed(json),
        Some(mut out) => {
            out.extend_from_slice(json.get(copied..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn constants_of_python_become_strings() {
        let parsed: Value = parse(
            br#"{"a": NaN, "b": [Infinity,-Infinity, -1], "NaN \"Infinity": "-Infinity\\", "c":NaN}"#,
        )
        .expect("valid");
        let expected = json!({
            "a": "NaN", "b": ["Infinity", "-Infinity", -1], "NaN \"Infinity": "-Infinity\\",
            "c": "NaN",
        });
        assert_eq!(parsed, expected);
        assert_eq!(parse::<Value>(b"NaN").expect("valid"), json!("NaN"));
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["nan", "-NaN", "NaN1", "--Infinity", "Inf", "[NaN NaN]", "\"NaN", "{NaN", ""] {
            assert!(parse::<Value>(text.as_bytes()).is_err(), "{text}");
        }
    }
}
