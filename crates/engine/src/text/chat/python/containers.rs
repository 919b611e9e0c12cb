//! The methods of `dict`, `list` and `tuple` that do not change the value.

use super::arguments::Arguments;
use super::iterators::view;
use super::types::{Type, error};
use minijinja::value::{Tuple, Value};
use minijinja::{Error, ErrorKind, State};

/// Calls a method of a dict, a list or a tuple.
pub(super) fn call(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let of = Type::of(value);
    if !of.has_method(method) {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    state.consume_fuel(if method == "get" { 0 } else { value.len().unwrap_or(0) as u64 })?;
    match (of, method) {
        (Type::Dict, "get") => {
            let args = Arguments::new(method, ["key", "default"], args)?;
            let found = value.get_item(args.required(0)?)?;
            let default = || args.optional(1).cloned().unwrap_or_else(|| Value::from(()));
            Ok(if found.is_undefined() { default() } else { found })
        }
        (Type::Dict, "fromkeys") => {
            let args = Arguments::new(method, ["iterable", "value"], args)?;
            let default = args.optional(1).cloned().unwrap_or_else(|| Value::from(()));
            let keys: Vec<Value> = args.required(0)?.try_iter()?.collect();
            Ok(Value::from_pairs(keys.into_iter().map(|key| (key, default.clone()))))
        }
        (_, "index") => {
            let args = Arguments::new(method, ["value"], args)?;
            let sought = args.required(0)?;
            let place = value.try_iter()?.position(|item| item == *sought);
            place.map(Value::from).ok_or_else(|| error("index: the value is not in the list"))
        }
        (_, "count") => {
            let args = Arguments::new(method, ["value"], args)?;
            let sought = args.required(0)?;
            Ok(Value::from(value.try_iter()?.filter(|item| item == sought).count()))
        }
        _ => {
            Arguments::new(method, [], args)?;
            let pair = |key: Value| {
                let item = value.get_item(&key)?;
                Ok::<_, Error>((key, item))
            };
            let (name, items) = match (of, method) {
                (Type::Dict, "keys") => ("dict_keys", value.try_iter()?.collect()),
                (Type::Dict, "values") => {
                    let values = value.try_iter()?.map(|key| Ok(pair(key)?.1));
                    ("dict_values", values.collect::<Result<Vec<Value>, Error>>()?)
                }
                (Type::Dict, "items") => {
                    let items = value.try_iter()?.map(|key| {
                        pair(key).map(|(key, item)| Value::from(Tuple::from([key, item])))
                    });
                    ("dict_items", items.collect::<Result<Vec<Value>, Error>>()?)
                }
                // a value never changes, so it is its own copy
                _ => return Ok(value.clone()),
            };
            Ok(view(name, items))
        }
    }
}
