//! The types of Python that the values of a template have, and their methods.

use super::iterators::{is_generator, is_view};
use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The methods of `str`.
const TEXT_METHODS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// The methods of `dict` that do not change it.
const MAP_METHODS: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];

/// The methods of `list` that do not change it, which are also those of `tuple` except `copy`.
const LIST_METHODS: [&str; 3] = ["copy", "count", "index"];

/// The methods that change a `list` or a `dict`. The sandbox of transformers forbids them.
const CHANGING_METHODS: [&str; 12] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "discard",
];

/// The type of a value in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Undefined,
    /// The type of None, `NoneType`.
    NoValue,
    Bool,
    Int,
    Float,
    Str,
    List,
    Tuple,
    Dict,
    /// Any other object: a namespace, a macro, a loop, an iterator.
    Object,
}

impl Type {
    pub(super) fn of(value: &Value) -> Type {
        match value.kind() {
            ValueKind::Undefined => Type::Undefined,
            ValueKind::None => Type::NoValue,
            ValueKind::Bool => Type::Bool,
            ValueKind::Number if value.is_integer() => Type::Int,
            ValueKind::Number => Type::Float,
            ValueKind::String => Type::Str,
            ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => Type::Tuple,
            ValueKind::Seq | ValueKind::Iterable if is_view(value) || is_generator(value) => {
                Type::Object
            }
            ValueKind::Seq | ValueKind::Iterable => Type::List,
            ValueKind::Map => {
                let object = value.as_object();
                // the maps of the library itself, and not its namespaces and loops
                let is_map = object.is_some_and(|object| object.type_name().contains("Map<"));
                if is_map { Type::Dict } else { Type::Object }
            }
            _ => Type::Object,
        }
    }

    /// Returns the name of the type in messages of Python.
    pub(super) fn name(self) -> &'static str {
        match self {
            Type::Undefined => "Undefined",
            Type::NoValue => "NoneType",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Float => "float",
            Type::Str => "str",
            Type::List => "list",
            Type::Tuple => "tuple",
            Type::Dict => "dict",
            Type::Object => "object",
        }
    }

    /// Returns whether `name` is a method of this type that a template may call.
    pub(super) fn has_method(self, name: &str) -> bool {
        match self {
            Type::Str => TEXT_METHODS.contains(&name),
            Type::Dict => MAP_METHODS.contains(&name),
            Type::List => LIST_METHODS.contains(&name),
            Type::Tuple => name != "copy" && LIST_METHODS.contains(&name),
            _ => false,
        }
    }

    /// Returns whether `name` is a method that changes a value of this type.
    pub(super) fn has_changing_method(self, name: &str) -> bool {
        let of_list = !["popitem", "setdefault", "update", "discard"].contains(&name);
        let of_map = ["clear", "pop", "popitem", "setdefault", "update"].contains(&name);
        match self {
            Type::List => of_list && CHANGING_METHODS.contains(&name),
            Type::Dict => of_map,
            _ => false,
        }
    }
}

/// Returns whether `name` is a method of any type.
pub(in crate::text::chat) fn is_method(name: &str) -> bool {
    [Type::Str, Type::Dict, Type::List].iter().any(|of| of.has_method(name))
        || CHANGING_METHODS.contains(&name)
}

/// Returns whether Python regards a character as white space (`str.isspace`).
pub(in crate::text::chat) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// Creates an error of a template.
pub(super) fn error(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.into())
}

/// Creates the error for an operation on an undefined value.
pub(super) fn undefined(what: &str) -> Error {
    Error::new(ErrorKind::UndefinedError, format!("{what}: the value is undefined"))
}

/// Returns a value if Python can iterate over it.
pub(super) fn iterable(value: Value) -> Result<Value, Error> {
    match Type::of(&value) {
        of @ (Type::NoValue | Type::Bool | Type::Int | Type::Float) => {
            Err(error(format!("'{}' object is not iterable", of.name())))
        }
        _ => Ok(value),
    }
}
