//! The methods of Python's strings and lists, implemented by `minijinja-contrib`, with a bound on
//! their cost. minijinja consumes fuel for the result of a method after the call. This module
//! consumes fuel before the call, for the bytes that the method reads and the bytes that it may
//! create.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

/// The number of bytes per unit of fuel, the same as in minijinja.
const BYTES_PER_STEP: u64 = 64;

/// The memory of one part of a string that is split, in bytes.
const BYTES_PER_PIECE: u64 = 48;

/// Calls a method that minijinja itself does not implement.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        if method == "count" && args.iter().any(is_container) {
            // comparing the elements may take too long
            return Err(unsupported("count of lists or objects in a list"));
        }
        return unknown_method_callback(state, value, method, args);
    };
    let length = |value: &Value| value.as_str().map_or(0, str::len) as u64;
    let read = args.iter().map(length).fold(text.len() as u64, u64::saturating_add);
    let bytes = match (method, args) {
        ("split" | "rsplit" | "splitlines", _) => read.saturating_mul(BYTES_PER_PIECE),
        ("replace", [old, new, ..]) => {
            let places = match old.as_str() {
                Some("") | None => text.len() + 1,
                Some(old) => text.matches(old).count(),
            };
            read.saturating_add((places as u64).saturating_mul(length(new)))
        }
        ("format", _) => read.saturating_add(max_formatted_bytes(text, args)?),
        // the filter has the same result, and consumes fuel for each item
        ("join", [list]) => return state.apply_filter("join", &[list.clone(), value.clone()]),
        _ => read,
    };
    state.consume_fuel(bytes / BYTES_PER_STEP)?;
    unknown_method_callback(state, value, method, args)
}

/// Returns the maximum length of a formatted string in bytes. Each number in the format may be a
/// width, and each brace or percent sign may insert the longest argument.
///
/// # Errors
/// An argument is a list or an object.
fn max_formatted_bytes(format: &str, args: &[Value]) -> Result<u64, Error> {
    let mut longest = 0;
    for arg in args {
        let values: Vec<Value> = match Kwargs::try_from(arg.clone()) {
            Ok(named) => named.args().map(|name| named.get(name)).collect::<Result<_, _>>()?,
            Err(_) => vec![arg.clone()],
        };
        if values.iter().any(is_container) {
            // formatting them may take too long
            return Err(unsupported("format of lists or objects"));
        }
        let length = |value: &Value| value.as_str().map_or(64, str::len) as u64;
        longest = values.iter().map(length).fold(longest, u64::max);
    }
    let numbers = format.split(|letter: char| !letter.is_ascii_digit()).filter(|n| !n.is_empty());
    let widths =
        numbers.map(|number| number.parse().unwrap_or(u64::MAX)).fold(0, u64::saturating_add);
    let braces = format.matches(['{', '%']).count() as u64;
    Ok(widths.saturating_add(braces.saturating_mul(longest)))
}

fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable | ValueKind::Plain)
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what} is not supported in a chat template"))
}
