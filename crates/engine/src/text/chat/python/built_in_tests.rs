//! The built-in tests of jinja2 (`tests.py`).

use super::iterators::is_generator;
use super::operators::compare;
use super::types::{Type, error, iterable, undefined};
use super::values::text_of;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{Error, State};

/// Returns the remainder of a number, for tests.
fn rest(value: &Value, divisor: i64) -> Result<f64, Error> {
    match Type::of(value) {
        Type::Bool => Ok(if value.is_true() { 1.0 } else { 0.0 }),
        Type::Int | Type::Float => Ok(f64::try_from(value.clone())?.rem_euclid(divisor as f64)),
        Type::Undefined => Err(undefined("test")),
        other => Err(error(format!("test: expected a number, found {}", other.name()))),
    }
}

pub(super) fn odd(value: &Value) -> Result<bool, Error> {
    Ok(rest(value, 2)? == 1.0)
}

pub(super) fn even(value: &Value) -> Result<bool, Error> {
    Ok(rest(value, 2)? == 0.0)
}

pub(super) fn divisibleby(state: &State, value: &Value, divisor: &Value) -> Result<bool, Error> {
    let rest = super::operators::remainder(state, value, divisor)?;
    Ok(rest == Value::from(0))
}

pub(super) fn is_integer(value: &Value) -> bool {
    Type::of(value) == Type::Int
}

pub(super) fn is_float(value: &Value) -> bool {
    Type::of(value) == Type::Float
}

pub(super) fn is_number(value: &Value) -> bool {
    matches!(Type::of(value), Type::Bool | Type::Int | Type::Float)
}

pub(super) fn is_mapping(value: &Value) -> bool {
    Type::of(value) == Type::Dict
}

pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(Type::of(value), Type::Str | Type::List | Type::Tuple | Type::Dict | Type::Undefined)
}

pub(super) fn is_iterable(value: &Value) -> bool {
    match Type::of(value) {
        Type::Object => is_generator(value) || value.try_iter().is_ok(),
        _ => iterable(value.clone()).is_ok(),
    }
}

pub(super) fn is_callable(value: &Value) -> bool {
    // an undefined value has a method that raises the error of a call
    value.is_undefined()
        || value.kind() == ValueKind::Plain
        || value.as_object().is_some_and(|object| {
            let name = object.type_name();
            name.ends_with("::Macro") || name.contains("BoxedFunction")
        })
}

pub(super) fn is_lower(value: &Value) -> Result<bool, Error> {
    let text = text_of(value)?;
    Ok(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))
}

pub(super) fn is_upper(value: &Value) -> Result<bool, Error> {
    let text = text_of(value)?;
    Ok(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))
}

/// Returns a test that compares two values.
pub(super) fn comparison(
    operator: &'static str,
) -> impl Fn(&State, &Value, &Value) -> Result<bool, Error> + Send + Sync + 'static {
    move |state, left, right| compare(state, left, Rest(vec![Value::from(operator), right.clone()]))
}
