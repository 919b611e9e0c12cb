//! Macros that accept any number of arguments, as `varargs` and `kwargs`.

use super::arguments::split;
use super::types::error;
use minijinja::value::{Kwargs, Object, ObjectRepr, Tuple, Value};
use minijinja::{Error, State};
use std::fmt;
use std::sync::Arc;

/// A macro whose body uses `varargs` or `kwargs`. The wrapped macro has both as parameters.
#[derive(Debug)]
struct VariadicMacro {
    inner: Value,
    parameters: Vec<String>,
    /// Whether the body uses `varargs`.
    positional: bool,
    /// Whether the body uses `kwargs`.
    named: bool,
}

/// Wraps the macro `inner`, which has the parameters `parameters`, `varargs` and `kwargs`.
pub(super) fn variadic(
    inner: Value,
    parameters: Vec<String>,
    positional: bool,
    named: bool,
) -> Value {
    Value::from_object(VariadicMacro { inner, parameters, positional, named })
}

impl Object for VariadicMacro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "arguments" => Some(Value::from(Tuple::from(
                self.parameters.iter().map(Value::from).collect::<Vec<_>>(),
            ))),
            "catch_varargs" => Some(Value::from(self.positional)),
            "catch_kwargs" => Some(Value::from(self.named)),
            name => self.inner.get_attr(name).ok(),
        }
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (positional, named) = split(args)?;
        let count = positional.len().min(self.parameters.len());
        let (own, rest) = positional.split_at(count);
        if !rest.is_empty() && !self.positional {
            return Err(error(format!("a macro has at most {} parameters", self.parameters.len())));
        }
        let mut own_named: Vec<(String, Value)> = Vec::new();
        let mut other = Vec::new();
        for (name, value) in named {
            if name == "caller" || self.parameters.contains(&name) {
                own_named.push((name, value));
            } else {
                other.push((Value::from(name), value));
            }
        }
        if !other.is_empty() && !self.named {
            return Err(error(format!("a macro has no parameter {}", other[0].0)));
        }
        own_named.push(("varargs".into(), Value::from(Tuple::from(rest.to_vec()))));
        own_named.push(("kwargs".into(), Value::from_pairs(other)));
        let mut args = own.to_vec();
        args.push(Value::from(own_named.into_iter().collect::<Kwargs>()));
        self.inner.call(state, &args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}
