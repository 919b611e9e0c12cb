//! The global functions of jinja2.

use super::arguments::{Arguments, split};
use super::types::error;
use super::values::{charge, text_of};
use minijinja::value::{Object, ObjectRepr, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns the elements of a dict by its arguments: a mapping or pairs, and named values.
fn pairs(function: &str, args: &[Value]) -> Result<Vec<(Value, Value)>, Error> {
    let (positional, named) = split(args)?;
    let mut pairs = Vec::new();
    match positional {
        [] => {}
        [map] if map.kind() == ValueKind::Map => {
            for key in map.try_iter()? {
                let value = map.get_item(&key)?;
                pairs.push((key, value));
            }
        }
        [list] => {
            for pair in super::types::iterable(list.clone())?.try_iter()? {
                let pair: Vec<Value> = pair.try_iter()?.collect();
                let Ok([key, value]) = <[Value; 2]>::try_from(pair) else {
                    return Err(error(format!("{function}: expected pairs of a key and a value")));
                };
                pairs.push((key, value));
            }
        }
        _ => return Err(error(format!("{function}: expected at most one mapping"))),
    }
    pairs.extend(named.into_iter().map(|(name, value)| (Value::from(name), value)));
    Ok(pairs)
}

/// Implements `dict`.
pub(super) fn dict(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    Ok(Value::from_pairs(pairs("dict", &args.into_values())?))
}

/// Implements `namespace`, which accepts no names that begin with an underscore.
pub(super) fn namespace(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let pairs = pairs("namespace", &args.into_values())?;
    let hidden = pairs.iter().find(|(key, _)| key.as_str().is_some_and(|key| key.starts_with('_')));
    if let Some((key, _)) = hidden {
        return Err(error(format!("a namespace cannot have the attribute `{key}`")));
    }
    let map = Value::from_pairs(pairs);
    minijinja::functions::namespace(Some(
        minijinja::value::from_args::<(ValueOrKwargs,)>(&[map])?.0,
    ))
}

/// A function that returns its separator, except at the first call.
#[derive(Debug)]
struct Joiner {
    separator: Value,
    calls: AtomicUsize,
}

/// Implements `joiner`.
pub(super) fn joiner(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    let args = Arguments::new("joiner", ["sep"], &args)?;
    let separator = args.optional(0).cloned().unwrap_or_else(|| Value::from(", "));
    Ok(Value::from_object(Joiner { separator, calls: AtomicUsize::new(0) }))
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        Arguments::new("joiner", [], args)?;
        Ok(match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => Value::from(""),
            _ => self.separator.clone(),
        })
    }
}

/// A cyclic list with a current item.
#[derive(Debug)]
struct Cycler {
    items: Vec<Value>,
    at: AtomicUsize,
}

/// Implements `cycler`.
pub(super) fn cycler(items: Rest<Value>) -> Result<Value, Error> {
    if items.is_empty() {
        return Err(error("cycler: expected at least one item"));
    }
    Ok(Value::from_object(Cycler { items: items.0, at: AtomicUsize::new(0) }))
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let at = self.at.load(Ordering::Relaxed);
        match key.as_str()? {
            "current" => Some(self.items[at].clone()),
            "pos" => Some(Value::from(at)),
            "items" => Some(Value::from(self.items.clone())),
            _ => None,
        }
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        args: &[Value],
    ) -> Result<Value, Error> {
        Arguments::new(method, [], args)?;
        let at = self.at.load(Ordering::Relaxed);
        match method {
            "next" => {
                self.at.store((at + 1) % self.items.len(), Ordering::Relaxed);
                Ok(self.items[at].clone())
            }
            "reset" => {
                self.at.store(0, Ordering::Relaxed);
                Ok(Value::from(()))
            }
            _ => Err(Error::from(ErrorKind::UnknownMethod)),
        }
    }
}

/// Implements `raise_exception` of transformers.
pub(super) fn raise_exception(state: &State, message: &Value) -> Result<Value, Error> {
    let message = text_of(message)?;
    charge(state, message.len())?;
    Err(error(message))
}

/// Implements `lipsum`, whose result is random in jinja2.
pub(super) fn lipsum(_: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    Err(error("lipsum: a random text is not supported in a chat template"))
}
