//! The attributes and items of values.

use super::iterators::{is_generator, is_view};
use super::types::{Type, undefined};
use minijinja::value::{Object, ObjectRepr, Value};
use minijinja::{Error, State};
use std::fmt;
use std::sync::Arc;

/// A method of a value that is not called yet.
#[derive(Debug)]
struct BoundMethod {
    value: Value,
    name: String,
}

impl Object for BoundMethod {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        self.value.call_method(state, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = Type::of(&self.value).name();
        write!(f, "<built-in method {} of {of} object>", self.name)
    }
}

/// Returns the attribute `name` of `value` (`getattr` of jinja2's sandbox): a method, or the item
/// with this key.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    let of = Type::of(value);
    if of == Type::Undefined {
        return Err(undefined(&format!("attribute `{name}`")));
    }
    if of.has_method(name) {
        return Ok(Value::from_object(BoundMethod { value: value.clone(), name: name.to_owned() }));
    }
    if of.has_changing_method(name) {
        // the sandbox returns an undefined value, which cannot be called
        return Ok(Value::UNDEFINED);
    }
    value.get_attr(name)
}

/// Returns the item `key` of `value` (`getitem` of jinja2's sandbox): the item, or the method with
/// this name.
pub(super) fn item(value: &Value, key: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(undefined("item"));
    }
    if is_view(value) || is_generator(value) {
        return Ok(Value::UNDEFINED);
    }
    let key = match Type::of(key) {
        Type::Bool if Type::of(value) != Type::Dict => Value::from(i64::from(key.is_true())),
        Type::Float if Type::of(value) != Type::Dict => return Ok(Value::UNDEFINED),
        _ => key.clone(),
    };
    let found = value.get_item(&key)?;
    match key.as_str() {
        Some(name) if found.is_undefined() && Type::of(value).has_method(name) => {
            attribute(value, name)
        }
        _ => Ok(found),
    }
}
