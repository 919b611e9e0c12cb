//! `'...' % values` and `'...'.format(values)`. minijinja formats the single numbers and texts.

use super::arguments::split;
use super::lookup::{attribute, item};
use super::types::{Type, error};
use super::values::{MAX_TEXT_BYTES, repr_of, reserve, text_of};
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::Value;
use minijinja::{Error, State};

/// Evaluates `text % values`.
pub(super) fn percent(state: &State, text: &str, values: &Value) -> Result<String, Error> {
    let is_tuple = Type::of(values) == Type::Tuple;
    let mut positional = match is_tuple {
        true => values.try_iter()?.collect::<Vec<Value>>().into_iter(),
        false => vec![values.clone()].into_iter(),
    };
    let mut next = || positional.next().ok_or_else(|| error("`%`: a value is missing"));
    let (mut out, mut rest, mut has_keys) = (String::new(), text, false);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut value = None;
        if let Some(inner) = rest.strip_prefix('(') {
            let end = inner.find(')').ok_or_else(|| error("`%`: a key is incomplete"))?;
            if Type::of(values) != Type::Dict {
                return Err(error("`%`: a format with keys needs a dict"));
            }
            let found = values.get_item(&Value::from(&inner[..end]))?;
            if found.is_undefined() {
                return Err(error(format!("`%`: the key `{}` is missing", &inner[..end])));
            }
            (value, has_keys, rest) = (Some(found), true, &inner[end + 1..]);
        }
        let end = rest.find(|letter: char| !"#0- +".contains(letter)).unwrap_or(rest.len());
        let mut spec = rest[..end].to_owned();
        rest = &rest[end..];
        for part in 0..2 {
            if part == 1 {
                let Some(after) = rest.strip_prefix('.') else { break };
                spec.push('.');
                rest = after;
            }
            if let Some(after) = rest.strip_prefix('*') {
                spec.push_str(&super::arguments::integer("`%`", &next()?)?.to_string());
                rest = after;
            } else {
                let end = rest.find(|l: char| !l.is_ascii_digit()).unwrap_or(rest.len());
                spec.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
        rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
        let code = rest.chars().next().ok_or_else(|| error("`%`: the format is incomplete"))?;
        rest = &rest[code.len_utf8()..];
        if code == '%' {
            out.push('%');
            continue;
        }
        let value = value.map_or_else(&mut next, Ok)?;
        check_width(&spec)?;
        let formatted = match code {
            's' | 'r' | 'a' => {
                let text = if code == 's' { text_of(&value)? } else { repr_of(&value)? };
                // only the flag for the left side applies to texts
                let flags = spec.len() - spec.trim_start_matches(['#', '0', '-', ' ', '+']).len();
                let left = if spec[..flags].contains('-') { "-" } else { "" };
                let spec = format!("{left}{}", &spec[flags..]);
                format(FormatStyle::Printf, &format!("%{spec}s"), &[Value::from(text)])?
            }
            'd' | 'i' | 'u' | 'o' | 'x' | 'X' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let value = numeric(&value, code)?;
                let code = if matches!(code, 'i' | 'u') { 'd' } else { code };
                format(FormatStyle::Printf, &format!("%{spec}{code}"), &[value])?
            }
            'c' => format(FormatStyle::Printf, &format!("%{spec}c"), &[value])?,
            _ => return Err(error(format!("`%`: unsupported format `{code}`"))),
        };
        out.push_str(&formatted);
        reserve(state, out.len())?;
    }
    out.push_str(rest);
    let unused = positional.next().is_some();
    if unused && !has_keys && (is_tuple || !matches!(Type::of(values), Type::Dict | Type::List)) {
        return Err(error("`%`: a value is not used"));
    }
    Ok(out)
}

/// Returns a number as the conversion `code` expects it.
fn numeric(value: &Value, code: char) -> Result<Value, Error> {
    match (Type::of(value), code) {
        (Type::Bool, _) => Ok(Value::from(i64::from(value.is_true()))),
        (Type::Int, _) => Ok(value.clone()),
        (Type::Float, 'd' | 'i' | 'u') => {
            Ok(Value::from(f64::try_from(value.clone())?.trunc() as i128))
        }
        (Type::Float, 'e' | 'E' | 'f' | 'F' | 'g' | 'G') => Ok(value.clone()),
        (other, _) => Err(error(format!("`%{code}`: expected a number, found {}", other.name()))),
    }
}

/// Returns a number as a floating-point number. `None` for other values.
fn as_float(value: &Value) -> Option<f64> {
    match Type::of(value) {
        Type::Int | Type::Float => f64::try_from(value.clone()).ok(),
        _ => None,
    }
}

/// The maximum number of digits after the point in a format.
const MAX_PRECISION: usize = 10_000;

/// Checks that no number in a format is larger than a text can be, and that the precision is small.
fn check_width(spec: &str) -> Result<(), Error> {
    let precision = spec.rsplit_once('.').map_or("", |(_, after)| after);
    let digits = precision.len() - precision.trim_start_matches(|l: char| l.is_ascii_digit()).len();
    if precision[..digits].parse::<usize>().is_ok_and(|precision| precision > MAX_PRECISION) {
        return Err(error(format!("format: the precision is larger than {MAX_PRECISION}")));
    }
    for number in spec.split(|letter: char| !letter.is_ascii_digit()) {
        let too_wide = !number.is_empty()
            && number.parse::<usize>().map_or(true, |width| width > MAX_TEXT_BYTES);
        if too_wide {
            return Err(error(format!("format: the width {number} is too large")));
        }
    }
    Ok(())
}

/// Evaluates `text.format(*args, **named)`.
pub(super) fn str_format(state: &State, text: &str, args: &[Value]) -> Result<String, Error> {
    let (positional, named) = split(args)?;
    let mut fields = Fields { state, positional, named: &named, next: Some(0) };
    fields.format(text, 2)
}

/// Evaluates `text.format_map(map)`.
pub(super) fn format_map(state: &State, text: &str, map: &Value) -> Result<String, Error> {
    let mut named = Vec::new();
    for key in map.try_iter()? {
        if let Some(name) = key.as_str() {
            named.push((name.to_owned(), map.get_item(&key)?));
        }
    }
    Fields { state, positional: &[], named: &named, next: Some(0) }.format(text, 2)
}

/// The values of `str.format`.
struct Fields<'a> {
    state: &'a State<'a, 'a>,
    positional: &'a [Value],
    named: &'a [(String, Value)],
    /// The index of the next field without a name. `None` after a field with an index.
    next: Option<usize>,
}

impl Fields<'_> {
    /// Formats `text`. Fields can be nested `depth` levels deep.
    fn format(&mut self, text: &str, depth: usize) -> Result<String, Error> {
        if depth == 0 {
            return Err(error("format: the fields are nested too deep"));
        }
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            out.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                out.push_str(brace);
                rest = after;
                continue;
            }
            let end = match brace {
                "{" => closing_brace(rest),
                _ => None,
            };
            let end = end.ok_or_else(|| error(format!("format: a single `{brace}`")))?;
            out.push_str(&self.field(&rest[..end], depth)?);
            reserve(self.state, out.len())?;
            rest = &rest[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn field(&mut self, field: &str, depth: usize) -> Result<String, Error> {
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = match name.split_once('!') {
            Some((name, conversion)) => (name, Some(conversion)),
            None => (name, None),
        };
        let value = self.value(name)?;
        let value = match conversion {
            None => value,
            Some("s") => Value::from(text_of(&value)?),
            Some("r" | "a") => Value::from(repr_of(&value)?),
            Some(other) => return Err(error(format!("format: unknown conversion `!{other}`"))),
        };
        let spec = if spec.contains('{') { self.format(spec, depth - 1)? } else { spec.to_owned() };
        if spec.is_empty() {
            return text_of(&value);
        }
        check_width(&spec)?;
        match Type::of(&value) {
            Type::Bool | Type::Int | Type::Float | Type::Str => {
                if let (Some(spec), Some(number)) = (spec.strip_suffix('%'), as_float(&value)) {
                    // a width would have to include the percent sign
                    if !spec.is_empty() && !spec.starts_with('.') {
                        return Err(error("format: a percentage with a width is not supported"));
                    }
                    let hundred = Value::from(number * 100.0);
                    let text =
                        format(FormatStyle::StrFormat, &format!("{{:{spec}f}}"), &[hundred])?;
                    return Ok(text + "%");
                }
                let value = match Type::of(&value) {
                    Type::Bool => Value::from(i64::from(value.is_true())),
                    _ => value,
                };
                format(FormatStyle::StrFormat, &format!("{{:{spec}}}"), &[value])
            }
            other => Err(error(format!("format: {} accepts no format `{spec}`", other.name()))),
        }
    }

    /// Returns the value of a field name such as `0`, `name.attribute` or `name[key]`.
    fn value(&mut self, name: &str) -> Result<Value, Error> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(end);
        let mixed = || error("format: fields with and without numbers are mixed");
        let mut value = if first.is_empty() {
            let index = self.next.ok_or_else(mixed)?;
            self.next = Some(index + 1);
            self.positional.get(index).cloned()
        } else if let Ok(index) = first.parse::<usize>() {
            if self.next.is_some_and(|next| next > 0) {
                return Err(mixed());
            }
            self.next = None;
            self.positional.get(index).cloned()
        } else {
            self.named.iter().find(|(known, _)| known == first).map(|(_, value)| value.clone())
        }
        .ok_or_else(|| error(format!("format: the value of the field `{name}` is missing")))?;
        while !rest.is_empty() {
            let found = if let Some(after) = rest.strip_prefix('.') {
                let end = after.find(['.', '[']).unwrap_or(after.len());
                rest = &after[end..];
                attribute(&value, &after[..end])?
            } else {
                let after = rest.strip_prefix('[').unwrap_or(rest);
                let end = after.find(']').ok_or_else(|| error("format: expected `]`"))?;
                rest = &after[end + 1..];
                let key = &after[..end];
                let key = key.parse::<usize>().map_or_else(|_| Value::from(key), Value::from);
                item(&value, &key)?
            };
            if found.is_undefined() {
                return Err(error(format!("format: the field `{name}` does not exist")));
            }
            value = found;
        }
        Ok(value)
    }
}

/// Returns the offset of the brace that closes a field.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}
