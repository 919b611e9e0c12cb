//! The methods of values.

use super::arguments::split;
use super::types::{Type, error, undefined};
use super::{containers, strings};
use minijinja::value::Value;
use minijinja::{Error, ErrorKind, State};

/// Calls a method that minijinja itself does not implement.
pub(super) fn call_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let of = Type::of(value);
    if of == Type::Undefined {
        return Err(undefined(&format!("method `{method}`")));
    }
    if of.has_changing_method(method) {
        return Err(error(format!("{method}: a chat template cannot change a {}", of.name())));
    }
    match of {
        Type::Str => strings::call(state, value.as_str().unwrap_or_default(), method, args),
        Type::List | Type::Tuple | Type::Dict => containers::call(state, value, method, args),
        Type::Float if method == "is_integer" && args.is_empty() => {
            Ok(Value::from(f64::try_from(value.clone())?.fract() == 0.0))
        }
        _ => {
            split(args)?;
            Err(Error::from(ErrorKind::UnknownMethod))
        }
    }
}
