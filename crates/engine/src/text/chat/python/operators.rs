//! The operators that minijinja evaluates in another way than Python, as filters.

use super::arguments::integer;
use super::formatting::percent;
use super::html::escaped;
use super::types::{Type, error, iterable, undefined};
use super::values::{charge, collected, reserve, write_text};
use minijinja::value::{Rest, Tuple, Value};
use minijinja::{Error, State};
use std::cmp::Ordering;

/// Evaluates `first <operator> value <operator> value`, where `rest` has the operators and the
/// values.
pub(super) fn compare(state: &State, first: &Value, rest: Rest<Value>) -> Result<bool, Error> {
    let mut left = first;
    for pair in rest.chunks(2) {
        let [operator, right] = pair else { return Err(error("comparison: a value is missing")) };
        let operator = operator.as_str().unwrap_or_default();
        let holds = match operator {
            "==" => left == right,
            "!=" => left != right,
            "in" => contains(state, right, left)?,
            "not in" => !contains(state, right, left)?,
            _ => {
                let order = order(state, left, right, operator)?;
                match operator {
                    "<" => order == Some(Ordering::Less),
                    "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                    ">" => order == Some(Ordering::Greater),
                    _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                }
            }
        };
        if !holds {
            return Ok(false);
        }
        left = right;
    }
    Ok(true)
}

/// Returns the order of two values. `None` if one is not a number.
///
/// # Errors
/// Python cannot compare the values.
pub(super) fn order(
    state: &State,
    left: &Value,
    right: &Value,
    operator: &str,
) -> Result<Option<Ordering>, Error> {
    state.consume_fuel(1)?;
    let types = (Type::of(left), Type::of(right));
    match types {
        (Type::Undefined, _) | (_, Type::Undefined) => Err(undefined(&format!("`{operator}`"))),
        (Type::Bool | Type::Int | Type::Float, Type::Bool | Type::Int | Type::Float) => {
            let is_nan = |value: &Value| f64::try_from(value.clone()).is_ok_and(f64::is_nan);
            Ok((!is_nan(left) && !is_nan(right)).then(|| left.cmp(right)))
        }
        (Type::Str, Type::Str) => {
            charge(state, left.as_str().map_or(0, str::len))?;
            Ok(Some(left.as_str().cmp(&right.as_str())))
        }
        (Type::List, Type::List) | (Type::Tuple, Type::Tuple) => {
            let (mut left, mut right) = (left.try_iter()?, right.try_iter()?);
            loop {
                state.consume_fuel(1)?;
                match (left.next(), right.next()) {
                    (None, None) => return Ok(Some(Ordering::Equal)),
                    (None, Some(_)) => return Ok(Some(Ordering::Less)),
                    (Some(_), None) => return Ok(Some(Ordering::Greater)),
                    // values without an order can be equal
                    (Some(left), Some(right)) if !has_order(&left, &right) && left == right => {}
                    (Some(left), Some(right)) => match order(state, &left, &right, operator)? {
                        Some(Ordering::Equal) => {}
                        order => return Ok(order),
                    },
                }
            }
        }
        (left, right) => Err(error(format!(
            "`{operator}` is not supported between {} and {}",
            left.name(),
            right.name()
        ))),
    }
}

/// Returns whether Python can compare two values, except for the values in them.
fn has_order(left: &Value, right: &Value) -> bool {
    let number = |of: Type| matches!(of, Type::Bool | Type::Int | Type::Float);
    match (Type::of(left), Type::of(right)) {
        (Type::Str, Type::Str) | (Type::List, Type::List) | (Type::Tuple, Type::Tuple) => true,
        (left, right) => number(left) && number(right),
    }
}

fn contains(state: &State, container: &Value, sought: &Value) -> Result<bool, Error> {
    match Type::of(container) {
        Type::Undefined => Ok(false),
        Type::Str => {
            let text = container.as_str().unwrap_or_default();
            charge(state, text.len())?;
            match sought.as_str() {
                Some(sought) => Ok(text.contains(sought)),
                None => Err(error(format!(
                    "`in`: expected str before str, found {}",
                    Type::of(sought).name()
                ))),
            }
        }
        Type::Dict => {
            if matches!(Type::of(sought), Type::List | Type::Dict) {
                return Err(error("`in`: a list or dict cannot be a key"));
            }
            Ok(container.as_object().is_some_and(|map| map.get_value(sought).is_some()))
        }
        Type::List | Type::Tuple | Type::Object => {
            for item in container.try_iter()? {
                state.consume_fuel(1)?;
                if item == *sought {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        other => Err(error(format!("`in`: {} is not iterable", other.name()))),
    }
}

/// Evaluates `left + right`. A text that is marked as safe for HTML escapes the other one.
pub(super) fn add(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    match (Type::of(left), Type::of(right)) {
        (Type::Undefined, _) | (_, Type::Undefined) => Err(undefined("`+`")),
        (Type::Str, Type::Str) => {
            let is_safe = left.is_safe() || right.is_safe();
            let part = |value: &Value| {
                let text = value.as_str().unwrap_or_default();
                if is_safe && !value.is_safe() { escaped(text) } else { text.to_owned() }
            };
            let out = part(left) + &part(right);
            reserve(state, out.len())?;
            Ok(if is_safe { Value::from_safe_string(out) } else { Value::from(out) })
        }
        (Type::Bool | Type::Int, Type::Bool | Type::Int) => {
            let sum = i128::try_from(left.clone())?.checked_add(i128::try_from(right.clone())?);
            let sum = sum.ok_or_else(|| error("`+`: the sum is too large"))?;
            Ok(i64::try_from(sum).map_or_else(|_| Value::from(sum), Value::from))
        }
        (Type::Bool | Type::Int | Type::Float, Type::Bool | Type::Int | Type::Float) => {
            Ok(Value::from(float(left)? + float(right)?))
        }
        (Type::List, Type::List) | (Type::Tuple, Type::Tuple) => {
            let items = collected(state, left.try_iter()?.chain(right.try_iter()?))?;
            Ok(if left.is_tuple() { Value::from(Tuple::from(items)) } else { items.into() })
        }
        (left, right) => {
            Err(error(format!("`+` is not supported between {} and {}", left.name(), right.name())))
        }
    }
}

/// Returns a number or a bool as a floating-point number.
pub(super) fn float(value: &Value) -> Result<f64, Error> {
    match Type::of(value) {
        Type::Bool => Ok(if value.is_true() { 1.0 } else { 0.0 }),
        _ => f64::try_from(value.clone()),
    }
}

/// Evaluates `left % right`: the formatting of a text, or the remainder.
pub(super) fn remainder(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    let zero = || error("`%`: division by zero");
    match (Type::of(left), Type::of(right)) {
        (Type::Undefined, _) => Err(undefined("`%`")),
        (Type::Str, _) => percent(state, left.as_str().unwrap_or_default(), right).map(Value::from),
        (_, Type::Undefined) => Err(undefined("`%`")),
        (Type::Bool | Type::Int, Type::Bool | Type::Int) => {
            let (left, right) = (i128::try_from(left.clone())?, i128::try_from(right.clone())?);
            if right == 0 {
                return Err(zero());
            }
            let rest = left.wrapping_rem(right);
            Ok(Value::from(if rest != 0 && (rest < 0) != (right < 0) {
                rest + right
            } else {
                rest
            }))
        }
        (Type::Bool | Type::Int | Type::Float, Type::Bool | Type::Int | Type::Float) => {
            let (left, right) = (float(left)?, float(right)?);
            if right == 0.0 {
                return Err(zero());
            }
            let rest = left % right;
            Ok(Value::from(if rest == 0.0 {
                0.0_f64.copysign(right)
            } else if (rest < 0.0) != (right < 0.0) {
                rest + right
            } else {
                rest
            }))
        }
        (left, right) => {
            Err(error(format!("`%` is not supported between {} and {}", left.name(), right.name())))
        }
    }
}

/// Evaluates `first ~ value ~ value`.
pub(super) fn concatenate(
    state: &State,
    first: &Value,
    rest: Rest<Value>,
) -> Result<String, Error> {
    let mut out = String::new();
    for value in std::iter::once(first).chain(rest.iter()) {
        let before = out.len();
        write_text(&mut out, value)?;
        charge(state, out.len() - before)?;
    }
    reserve(state, out.len())?;
    Ok(out)
}

/// Evaluates `+value`.
pub(super) fn positive(value: &Value) -> Result<Value, Error> {
    match Type::of(value) {
        Type::Bool => Ok(Value::from(i64::from(value.is_true()))),
        Type::Int | Type::Float => Ok(value.clone()),
        Type::Undefined => Err(undefined("`+`")),
        other => Err(error(format!("`+` is not supported for {}", other.name()))),
    }
}

/// Evaluates `value[start:stop:step]`.
pub(super) fn slice(
    state: &State,
    value: &Value,
    start: &Value,
    stop: &Value,
    step: &Value,
) -> Result<Value, Error> {
    let bound = |bound: &Value| match bound.is_none() {
        true => Ok(None),
        false => integer("slice", bound).map(Some),
    };
    let (start, stop) = (bound(start)?, bound(stop)?);
    let step = bound(step)?.unwrap_or(1);
    if step == 0 {
        return Err(error("slice: the step is 0"));
    }
    match Type::of(value) {
        Type::Undefined => Err(undefined("slice")),
        Type::Str => {
            let text = value.as_str().unwrap_or_default();
            charge(state, text.len())?;
            let letters: Vec<char> = text.chars().collect();
            let places = places(letters.len(), start, stop, step);
            Ok(Value::from(places.map(|at| letters[at]).collect::<String>()))
        }
        of @ (Type::List | Type::Tuple) => {
            let items = collected(state, value.try_iter()?)?;
            let places = places(items.len(), start, stop, step);
            let items: Vec<Value> = places.map(|at| items[at].clone()).collect();
            Ok(if of == Type::Tuple { Value::from(Tuple::from(items)) } else { items.into() })
        }
        other => Err(error(format!("slice: {} has no slices", other.name()))),
    }
}

/// Returns the places of a slice (`slice.indices` of Python).
fn places(
    length: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clamped = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        bound.clamp(lowest, highest.max(lowest))
    };
    let first = start.map_or(if step > 0 { lowest } else { highest }, clamped);
    let end = stop.map_or(if step > 0 { highest } else { lowest }, clamped);
    let mut at = first;
    std::iter::from_fn(move || {
        let inside = if step > 0 { at < end } else { at > end };
        let place = inside.then(|| usize::try_from(at).unwrap_or(0));
        at = at.saturating_add(step);
        place
    })
}

/// Returns a value to iterate over, whose items are assigned to several names.
pub(super) fn rows(state: &State, value: Value) -> Result<Value, Error> {
    let value = iterable(value)?;
    if value.is_undefined() {
        return Ok(value);
    }
    let mut rows = Vec::new();
    for row in value.try_iter()? {
        state.consume_fuel(1)?;
        rows.push(if row.as_str().is_some() { unpacked(row)? } else { row });
    }
    Ok(Value::from(rows))
}

/// Returns a value that minijinja can assign to several names.
pub(super) fn unpacked(value: Value) -> Result<Value, Error> {
    match Type::of(&value) {
        Type::Str | Type::Undefined => Ok(value.try_iter()?.collect()),
        _ => iterable(value),
    }
}
