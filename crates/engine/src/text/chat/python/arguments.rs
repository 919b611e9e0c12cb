//! The arguments of functions, filters and methods.

use super::types::{Type, error, undefined};
use minijinja::Error;
use minijinja::value::{Kwargs, Value};

/// The arguments of a call, by the names of the parameters.
pub(super) struct Arguments<'a, const N: usize> {
    function: &'a str,
    names: [&'a str; N],
    values: [Option<Value>; N],
}

/// The named arguments of a call, in their order.
pub(super) type Named = Vec<(String, Value)>;

/// Splits the arguments of a call into the positional and the named ones.
pub(super) fn split(args: &[Value]) -> Result<(&[Value], Named), Error> {
    match args.split_last() {
        Some((last, positional)) if last.is_kwargs() => {
            let named = Kwargs::try_from(last.clone())?;
            let named = named
                .args()
                .map(|name| Ok((name.to_owned(), named.get::<Value>(name)?)))
                .collect::<Result<_, Error>>()?;
            Ok((positional, named))
        }
        _ => Ok((args, Vec::new())),
    }
}

impl<'a, const N: usize> Arguments<'a, N> {
    /// Assigns arguments to the parameters `names` of `function`.
    pub(super) fn new(
        function: &'a str,
        names: [&'a str; N],
        args: &[Value],
    ) -> Result<Self, Error> {
        let (positional, named) = split(args)?;
        let mut values = [const { None }; N];
        if positional.len() > N {
            return Err(error(format!(
                "{function}: expected at most {N} arguments, found {}",
                positional.len()
            )));
        }
        for (value, slot) in positional.iter().zip(&mut values) {
            *slot = Some(value.clone());
        }
        for (name, value) in named {
            match names.iter().position(|known| *known == name) {
                Some(at) if values[at].is_none() => values[at] = Some(value),
                _ => return Err(error(format!("{function}: unexpected argument `{name}`"))),
            }
        }
        Ok(Arguments { function, names, values })
    }

    /// Returns the argument at `at`. `None` if it was not given.
    pub(super) fn optional(&self, at: usize) -> Option<&Value> {
        self.values[at].as_ref()
    }

    /// Returns the argument at `at`.
    pub(super) fn required(&self, at: usize) -> Result<&Value, Error> {
        self.optional(at).ok_or_else(|| {
            error(format!("{}: the argument `{}` is missing", self.function, self.names[at]))
        })
    }

    /// Returns a text argument.
    pub(super) fn text(&self, at: usize) -> Result<&str, Error> {
        text(self.function, self.required(at)?)
    }

    /// Returns a text argument. `default` is the value if it is not given.
    pub(super) fn text_or<'s>(&'s self, at: usize, default: &'s str) -> Result<&'s str, Error> {
        self.optional(at).map_or(Ok(default), |value| text(self.function, value))
    }

    /// Returns a text argument. `None` if it is not given, or is none.
    pub(super) fn nullable_text(&self, at: usize) -> Result<Option<&str>, Error> {
        let given = self.optional(at).filter(|value| !value.is_none());
        given.map(|value| text(self.function, value)).transpose()
    }

    /// Returns an integer argument. `default` is the value if it is not given.
    pub(super) fn integer_or(&self, at: usize, default: i64) -> Result<i64, Error> {
        self.optional(at).map_or(Ok(default), |value| integer(self.function, value))
    }

    /// Returns whether an argument is true. `default` is the value if it is not given.
    pub(super) fn is_true_or(&self, at: usize, default: bool) -> bool {
        self.optional(at).map_or(default, Value::is_true)
    }
}

/// Returns a value as a text.
pub(super) fn text<'v>(function: &str, value: &'v Value) -> Result<&'v str, Error> {
    value.as_str().ok_or_else(|| match Type::of(value) {
        Type::Undefined => undefined(function),
        other => error(format!("{function}: expected str, found {}", other.name())),
    })
}

/// Returns a value as an integer. The value may be a bool, as in Python.
pub(super) fn integer(function: &str, value: &Value) -> Result<i64, Error> {
    match Type::of(value) {
        Type::Bool => Ok(i64::from(value.is_true())),
        Type::Int => i64::try_from(value.clone())
            .map_err(|_| error(format!("{function}: the integer {value} is too large"))),
        Type::Undefined => Err(undefined(function)),
        other => Err(error(format!("{function}: expected int, found {}", other.name()))),
    }
}
