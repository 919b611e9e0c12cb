//! The text of values, as by Python's `str` and `repr`.

use super::iterators::is_view;
use super::types::{Type, error};
use crate::text::tokenizer::is_reserved;
use minijinja::value::Value;
use minijinja::{Error, State};
use unicode_general_category::{GeneralCategory, get_general_category};

/// The maximum length of a text in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 4 << 20;

/// The number of bytes per unit of fuel, the same as in minijinja.
const BYTES_PER_STEP: u64 = 64;

/// Consumes the fuel for `bytes` bytes that are read or created.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / BYTES_PER_STEP)
}

/// Checks the length of a text before it is created, and consumes the fuel for it.
pub(super) fn reserve(state: &State, bytes: usize) -> Result<(), Error> {
    if bytes > MAX_TEXT_BYTES {
        return Err(error(format!("a text is longer than {MAX_TEXT_BYTES} bytes")));
    }
    charge(state, bytes)
}

/// Collects items, and consumes fuel for each.
pub(super) fn collected(
    state: &State,
    items: impl Iterator<Item = Value>,
) -> Result<Vec<Value>, Error> {
    let mut collected = Vec::new();
    for item in items {
        state.consume_fuel(1)?;
        collected.push(item);
    }
    Ok(collected)
}

/// Returns the text of a value, as by `str`.
///
/// # Errors
/// The text is too long.
pub(super) fn text_of(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_text(&mut out, value)?;
    Ok(out)
}

/// Returns the text of a value, as by `repr`.
///
/// # Errors
/// The text is too long.
pub(super) fn repr_of(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(&mut out, value)?;
    Ok(out)
}

/// Appends the text of a value, as by `str`.
///
/// # Errors
/// The text is too long.
pub(super) fn write_text(out: &mut String, value: &Value) -> Result<(), Error> {
    match Type::of(value) {
        Type::Undefined => Ok(()),
        Type::Str => push(out, value.as_str().unwrap_or_default()),
        _ => write_repr(out, value),
    }
}

fn push(out: &mut String, text: &str) -> Result<(), Error> {
    if out.len() + text.len() > MAX_TEXT_BYTES {
        return Err(error(format!("a text is longer than {MAX_TEXT_BYTES} bytes")));
    }
    out.push_str(text);
    Ok(())
}

fn write_repr(out: &mut String, value: &Value) -> Result<(), Error> {
    match Type::of(value) {
        Type::Undefined => push(out, "Undefined"),
        Type::Str => push(out, &quoted(value.as_str().unwrap_or_default())),
        Type::Float => push(out, &float_text(f64::try_from(value.clone())?)),
        of @ (Type::List | Type::Tuple) => {
            push(out, if of == Type::List { "[" } else { "(" })?;
            let mut count = 0;
            for item in value.try_iter()? {
                push(out, if count > 0 { ", " } else { "" })?;
                write_repr(out, &item)?;
                count += 1;
            }
            push(
                out,
                match of {
                    Type::List => "]",
                    _ if count == 1 => ",)",
                    _ => ")",
                },
            )
        }
        Type::Dict => {
            push(out, "{")?;
            let mut separator = "";
            for key in value.try_iter()? {
                push(out, separator)?;
                separator = ", ";
                write_repr(out, &key)?;
                push(out, ": ")?;
                write_repr(out, &value.get_item(&key)?)?;
            }
            push(out, "}")
        }
        Type::Object if is_view(value) => {
            push(out, &format!("{value}("))?;
            write_repr(out, &value.try_iter()?.collect())?;
            push(out, ")")
        }
        Type::NoValue | Type::Bool | Type::Int | Type::Object => push(out, &value.to_string()),
    }
}

/// Returns the text of a floating-point number in Python.
pub(super) fn float_text(number: f64) -> String {
    if number.is_nan() {
        return "nan".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // Rust and Python use an exponent for the same numbers
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// Returns the text of a string literal of Python.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            _ if letter == quote => {
                out.push('\\');
                out.push(letter);
            }
            // reserved characters are not escaped, so that they can be found in the output
            _ if is_printable(letter) || is_reserved(letter) => out.push(letter),
            _ => out.push_str(&match u32::from(letter) {
                code @ 0..0x100 => format!("\\x{code:02x}"),
                code @ 0x100..0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
    out
}

/// Returns whether Python regards a character as printable (`str.isprintable`).
pub(super) fn is_printable(letter: char) -> bool {
    letter == ' '
        || !matches!(
            get_general_category(letter),
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::Surrogate
                | GeneralCategory::PrivateUse
                | GeneralCategory::Unassigned
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
                | GeneralCategory::SpaceSeparator
        )
}
