//! The iterables of Python that are not lists: generators, which are the results of filters such as
//! `map`, and the views of a dict. Neither has items, and a generator can be iterated once.

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A generator whose items are already known.
#[derive(Debug)]
struct Generator(Mutex<Vec<Value>>);

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(std::mem::take(
            &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<generator object>")
    }
}

/// Returns a generator of `items`.
pub(super) fn generator(items: Vec<Value>) -> Value {
    Value::from_object(Generator(Mutex::new(items)))
}

/// Returns whether a value is a generator.
pub(super) fn is_generator(value: &Value) -> bool {
    value.downcast_object_ref::<Generator>().is_some()
}

/// The keys, values or items of a dict.
#[derive(Debug)]
struct View {
    /// The name of the type, for example `dict_items`.
    name: &'static str,
    items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Returns a view of a dict. `name` is the name of its type.
pub(super) fn view(name: &'static str, items: Vec<Value>) -> Value {
    Value::from_object(View { name, items })
}

/// Returns whether a value is the keys, values or items of a dict.
pub(super) fn is_view(value: &Value) -> bool {
    value.downcast_object_ref::<View>().is_some()
}
