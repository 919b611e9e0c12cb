//! The built-in filters of jinja2 (`filters.py`).

use super::arguments::{Arguments, integer, split, text};
use super::html::escaped;
use super::iterators::{generator, is_generator};
use super::lookup::item;
use super::operators::order;
use super::strings::{capitalized, justified, lines, replaced};
use super::types::{Type, error, is_space, iterable, undefined};
use super::values::{charge, collected, repr_of, reserve, text_of};
use super::wrapping;
use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueOrKwargs};
use minijinja::{Error, State};
use std::cmp::Ordering;

type Args = Rest<ValueOrKwargs>;
type Filtered = Result<Value, Error>;

/// Returns the items over which Python iterates.
fn items(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    collected(state, iterable(value.clone())?.try_iter()?)
}

/// Returns the items of a value for the filters that regard any false value as empty.
fn items_if_true(state: &State, value: &Value) -> Result<Vec<Value>, Error> {
    if value.is_true() { items(state, value) } else { Ok(Vec::new()) }
}

/// Returns the attribute `path` of a value, for example `a.b.0` (`make_attrgetter`).
fn by_path(value: &Value, path: &Value, default: Option<&Value>) -> Filtered {
    let Some(path) = path.as_str() else { return item(value, path) };
    let mut found = value.clone();
    for part in path.split('.') {
        let key = part.parse::<usize>().map_or_else(|_| Value::from(part), Value::from);
        found = item(&found, &key)?;
        if let Some(default) = default.filter(|_| found.is_undefined()) {
            found = default.clone();
        }
    }
    Ok(found)
}

/// Returns the key by which a value is compared.
fn key(value: &Value, attribute: Option<&Value>, case_sensitive: bool) -> Filtered {
    let found = match attribute.filter(|attribute| !attribute.is_none()) {
        Some(attribute) => by_path(value, attribute, None)?,
        None => value.clone(),
    };
    Ok(match found.as_str() {
        Some(text) if !case_sensitive => Value::from(text.to_lowercase()),
        _ => found,
    })
}

/// Sorts values by their keys.
fn sorted(
    state: &State,
    mut values: Vec<(Vec<Value>, Value)>,
    reverse: bool,
) -> Result<Vec<Value>, Error> {
    let mut failed = None;
    values.sort_by(|(left, _), (right, _)| {
        let mut found = Ordering::Equal;
        for (left, right) in left.iter().zip(right) {
            match order(state, left, right, "<") {
                Ok(order) => found = order.unwrap_or(Ordering::Equal),
                Err(error) => failed = failed.take().or(Some(error)),
            }
            if found != Ordering::Equal {
                break;
            }
        }
        if reverse { found.reverse() } else { found }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(values.into_iter().map(|(_, value)| value).collect()),
    }
}

pub(super) fn attr(value: &Value, name: &str) -> Filtered {
    let of = Type::of(value);
    if of != Type::Object && of != Type::Undefined && !of.has_method(name) {
        return Ok(Value::UNDEFINED);
    }
    super::lookup::attribute(value, name)
}

pub(super) fn batch(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("batch", ["linecount", "fill_with"], &args)?;
    let size = usize::try_from(integer("batch", args.required(0)?)?).unwrap_or(0).max(1);
    let mut batches: Vec<Vec<Value>> =
        items(state, value)?.chunks(size).map(<[Value]>::to_vec).collect();
    let fill = args.optional(1).filter(|fill| !fill.is_none());
    if let (Some(fill), Some(last)) = (fill, batches.last_mut()) {
        state.consume_fuel(size as u64)?;
        last.resize(size, fill.clone());
    }
    Ok(generator(batches.into_iter().map(Value::from).collect::<Vec<_>>()))
}

pub(super) fn slice(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("slice", ["slices", "fill_with"], &args)?;
    let count = usize::try_from(integer("slice", args.required(0)?)?).unwrap_or(0);
    if count == 0 {
        return Err(error("slice: expected at least 1 slice"));
    }
    state.consume_fuel(count as u64)?;
    let items = items(state, value)?;
    let (size, longer) = (items.len() / count, items.len() % count);
    let mut rest = items.as_slice();
    let mut slices = Vec::new();
    for at in 0..count {
        let (slice, after) = rest.split_at(size + usize::from(at < longer));
        let mut slice = slice.to_vec();
        slice.extend(args.optional(1).filter(|fill| !fill.is_none() && at >= longer).cloned());
        slices.push(Value::from(slice));
        rest = after;
    }
    Ok(generator(slices))
}

pub(super) fn capitalize(value: &Value) -> Result<String, Error> {
    Ok(capitalized(&text_of(value)?))
}

pub(super) fn center(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("center", ["width"], &args)?;
    justified(state, &text_of(value)?, "center", args.integer_or(0, 80)?, " ")
}

pub(super) fn dictsort(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("dictsort", ["case_sensitive", "by", "reverse"], &args)?;
    if Type::of(value) != Type::Dict {
        return Err(error("dictsort: expected a dict"));
    }
    let by_value = match args.text_or(1, "key")? {
        "key" => false,
        "value" => true,
        other => return Err(error(format!("dictsort: expected key or value, found {other:?}"))),
    };
    let pairs = items(state, value)?.into_iter().map(|name| {
        let item = value.get_item(&name)?;
        let sorted_by = if by_value { &item } else { &name };
        let sorted_by = key(sorted_by, None, args.is_true_or(0, false))?;
        Ok((vec![sorted_by], Value::from(Tuple::from([name, item]))))
    });
    let pairs = pairs.collect::<Result<Vec<_>, Error>>()?;
    Ok(Value::from(sorted(state, pairs, args.is_true_or(2, false))?))
}

pub(super) fn escape(state: &State, value: &Value) -> Filtered {
    if value.is_safe() { Ok(value.clone()) } else { forceescape(state, value) }
}

pub(super) fn forceescape(state: &State, value: &Value) -> Filtered {
    let out = escaped(&text_of(value)?);
    reserve(state, out.len())?;
    Ok(Value::from_safe_string(out))
}

pub(super) fn filesizeformat(value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("filesizeformat", ["binary"], &args)?;
    let bytes = number(value).ok_or_else(|| error("filesizeformat: expected a number"))?;
    let binary = args.is_true_or(0, false);
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".into());
    }
    if bytes < base {
        return Ok(format!("{} Bytes", bytes.trunc()));
    }
    let mut unit = base;
    let mut prefix = 'k';
    for next in ["k", "M", "G", "T", "P", "E", "Z", "Y"] {
        prefix = next.chars().next().unwrap_or('k');
        unit *= base;
        if bytes < unit {
            break;
        }
    }
    let prefix = if binary { format!("{}i", prefix.to_ascii_uppercase()) } else { prefix.into() };
    Ok(format!("{:.1} {prefix}B", base * bytes / unit))
}

/// Returns a value as by Python's `float`.
fn number(value: &Value) -> Option<f64> {
    match Type::of(value) {
        Type::Bool => Some(if value.is_true() { 1.0 } else { 0.0 }),
        Type::Int => value.to_string().parse().ok(),
        Type::Float => f64::try_from(value.clone()).ok(),
        Type::Str => parsed_float(value.as_str()?),
        _ => None,
    }
}

fn parsed_float(text: &str) -> Option<f64> {
    let text = text.trim_matches(is_space);
    let bytes = text.as_bytes();
    // underscores separate digits
    let separated = text.match_indices('_').all(|(at, _)| {
        at > 0
            && bytes[at - 1].is_ascii_digit()
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    });
    if !separated { None } else { text.replace('_', "").parse().ok() }
}

fn parsed_integer(text: &str, base: i64) -> Option<i128> {
    let text = text.trim_matches(is_space);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = |prefix: &str| {
        let begin = digits.get(..2)?.eq_ignore_ascii_case(prefix).then_some(2)?;
        Some(digits[begin..].strip_prefix('_').unwrap_or(&digits[begin..]))
    };
    let (base, digits) = match (base, prefixed("0x"), prefixed("0o"), prefixed("0b")) {
        (0 | 16, Some(digits), _, _) => (16, digits),
        (0 | 8, _, Some(digits), _) => (8, digits),
        (0 | 2, _, _, Some(digits)) => (2, digits),
        (0, ..) => (10, digits),
        (base @ 2..=36, ..) => (base, digits),
        _ => return None,
    };
    let well_separated =
        !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    let digits = digits.replace('_', "");
    if !well_separated || digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(&digits, u32::try_from(base).ok()?).ok().map(|number| sign * number)
}

pub(super) fn int(value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("int", ["default", "base"], &args)?;
    let base = args.integer_or(1, 10)?;
    let found = match Type::of(value) {
        Type::Undefined => return Err(undefined("int")),
        Type::Int => return Ok(value.clone()),
        Type::Str => parsed_integer(value.as_str().unwrap_or_default(), base),
        _ => None,
    };
    let found = found.or_else(|| {
        let number = number(value).filter(|number| number.is_finite())?;
        Some(number.trunc() as i128)
    });
    Ok(match found {
        Some(number) => i64::try_from(number).map_or_else(|_| Value::from(number), Value::from),
        None => args.optional(0).cloned().unwrap_or_else(|| Value::from(0)),
    })
}

pub(super) fn float(value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("float", ["default"], &args)?;
    if value.is_undefined() {
        return Err(undefined("float"));
    }
    let default = || args.optional(0).cloned().unwrap_or_else(|| Value::from(0.0));
    Ok(number(value).map_or_else(default, Value::from))
}

pub(super) fn first(value: &Value) -> Filtered {
    Ok(iterable(value.clone())?.try_iter()?.next().unwrap_or_default())
}

pub(super) fn last(state: &State, value: &Value) -> Filtered {
    if is_generator(value) {
        return Err(error("last: a generator has no last item"));
    }
    Ok(items(state, value)?.pop().unwrap_or_default())
}

pub(super) fn format(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let (positional, named) = split(&args)?;
    let values = match (positional.is_empty(), named.is_empty()) {
        (false, false) => {
            return Err(error("format: expected positional or named values, found both"));
        }
        (true, false) => Value::from_pairs(named),
        _ => Value::from(Tuple::from(positional.to_vec())),
    };
    super::formatting::percent(state, &text_of(value)?, &values)
}

pub(super) fn indent(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("indent", ["width", "first", "blank"], &args)?;
    let source = text("indent", value)?;
    let indentation = match args.optional(0) {
        Some(width) if width.as_str().is_some() => width.as_str().unwrap_or_default().to_owned(),
        width => {
            let width = width.map_or(Ok(4), |width| integer("indent", width))?;
            let width = usize::try_from(width).unwrap_or(0);
            reserve(state, width)?;
            " ".repeat(width)
        }
    };
    let mut out = String::new();
    // jinja2 adds a newline, so that a text without lines has one line
    let source = format!("{source}\n");
    for (at, line) in lines(&source, false).into_iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let indented = match at {
            0 => args.is_true_or(1, false),
            _ => args.is_true_or(2, false) || !line.is_empty(),
        };
        if indented {
            out.push_str(&indentation);
        }
        out.push_str(line);
        reserve(state, out.len())?;
    }
    Ok(out)
}

pub(super) fn items_of(state: &State, value: &Value) -> Filtered {
    match Type::of(value) {
        Type::Undefined => Ok(generator(Vec::new())),
        Type::Dict => {
            Ok(generator(items(state, &super::containers::call(state, value, "items", &[])?)?))
        }
        other => Err(error(format!("items: expected a dict, found {}", other.name()))),
    }
}

pub(super) fn join(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("join", ["d", "attribute"], &args)?;
    let separator = args.optional(0).map_or(Ok(String::new()), text_of)?;
    let mut out = String::new();
    for (at, value) in items(state, value)?.iter().enumerate() {
        let value = match args.optional(1).filter(|attribute| !attribute.is_none()) {
            Some(attribute) => text_of(&by_path(value, attribute, None)?)?,
            None => text_of(value)?,
        };
        let length = value.len() + separator.len();
        charge(state, length)?;
        reserve(state, out.len() + length)?;
        if at > 0 {
            out.push_str(&separator);
        }
        out.push_str(&value);
    }
    Ok(out)
}

pub(super) fn length(value: &Value) -> Result<usize, Error> {
    match Type::of(value) {
        Type::Undefined => Ok(0),
        Type::Str | Type::List | Type::Tuple | Type::Dict | Type::Object => {
            value.len().ok_or_else(|| error("length: the value has no length"))
        }
        other => Err(error(format!("length: {} has no length", other.name()))),
    }
}

pub(super) fn list(state: &State, value: &Value) -> Filtered {
    Ok(Value::from(items(state, value)?))
}

pub(super) fn map(state: &mut State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let (positional, named) = split(&args)?;
    if positional.is_empty() {
        let options = Arguments::new("map", ["", "attribute", "default"], &args)?;
        let (path, default) = (options.required(1)?, options.optional(2));
        let mapped = items_if_true(state, value)?;
        let mapped = mapped.iter().map(|value| by_path(value, path, default));
        return Ok(generator(mapped.collect::<Result<Vec<_>, _>>()?));
    }
    let filter = text("map", &positional[0])?.to_owned();
    let mut mapped = Vec::new();
    for value in items_if_true(state, value)? {
        let mut args = vec![value];
        args.extend_from_slice(&positional[1..]);
        if !named.is_empty() {
            args.push(Value::from(named.iter().cloned().collect::<Kwargs>()));
        }
        mapped.push(state.apply_filter(&filter, &args)?);
    }
    Ok(generator(mapped))
}

fn extreme(state: &State, value: &Value, args: Args, best: Ordering) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("min or max", ["case_sensitive", "attribute"], &args)?;
    let mut found: Option<(Value, Value)> = None;
    for value in items(state, value)? {
        let key = key(&value, args.optional(1), args.is_true_or(0, false))?;
        let better = match &found {
            None => true,
            Some((other, _)) => order(state, &key, other, "<")? == Some(best),
        };
        if better {
            found = Some((key, value));
        }
    }
    Ok(found.map(|(_, value)| value).unwrap_or_default())
}

pub(super) fn min(state: &State, value: &Value, args: Args) -> Filtered {
    extreme(state, value, args, Ordering::Less)
}

pub(super) fn max(state: &State, value: &Value, args: Args) -> Filtered {
    extreme(state, value, args, Ordering::Greater)
}

pub(super) fn pprint(state: &State, value: &Value) -> Result<String, Error> {
    const MAX_WIDTH: usize = 80;
    let out = repr_of(value)?;
    reserve(state, out.len())?;
    if out.chars().count() > MAX_WIDTH && value.as_object().is_some() {
        return Err(error(format!(
            "pprint: a value of more than {MAX_WIDTH} characters is not supported"
        )));
    }
    Ok(out)
}

pub(super) fn replace(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("replace", ["old", "new", "count"], &args)?;
    let count = match args.optional(2).filter(|count| !count.is_none()) {
        Some(count) => usize::try_from(integer("replace", count)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    let (old, new) = (text_of(args.required(0)?)?, text_of(args.required(1)?)?);
    replaced(state, &text_of(value)?, &old, &new, count)
}

pub(super) fn reverse(state: &State, value: &Value) -> Filtered {
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.chars().rev().collect::<String>()));
    }
    let mut items = items(state, value)?;
    items.reverse();
    // only a value with a known order has an iterator in reverse
    Ok(if is_generator(value) { Value::from(items) } else { generator(items) })
}

pub(super) fn round(value: &Value, args: Args) -> Filtered {
    const MAX_PRECISION: i64 = 300;
    let args = args.into_values();
    let args = Arguments::new("round", ["precision", "method"], &args)?;
    let precision = args.integer_or(0, 0)?;
    if precision.abs() > MAX_PRECISION {
        return Err(error(format!("round: the precision is larger than {MAX_PRECISION}")));
    }
    let of = Type::of(value);
    if !matches!(of, Type::Bool | Type::Int | Type::Float) {
        return Err(error(format!("round: expected a number, found {}", of.name())));
    }
    let number = number(value).unwrap_or(0.0);
    let scale = 10_f64.powi(i32::try_from(precision).unwrap_or(0));
    Ok(match args.text_or(1, "common")? {
        "common" if of != Type::Float && precision >= 0 => super::operators::positive(value)?,
        // the text of a number is rounded exactly, half to even
        "common" if precision >= 0 => {
            let digits = usize::try_from(precision).unwrap_or(0);
            Value::from(format!("{number:.digits$}").parse::<f64>().unwrap_or(number))
        }
        "common" => {
            let rounded = (number * scale).round_ties_even() / scale;
            if of == Type::Float { Value::from(rounded) } else { Value::from(rounded as i64) }
        }
        "ceil" => Value::from((number * scale).ceil() / scale),
        "floor" => Value::from((number * scale).floor() / scale),
        _ => return Err(error("round: expected common, ceil or floor as the method")),
    })
}

/// Returns the items for which a test holds, or does not hold.
fn selected(
    state: &mut State,
    value: &Value,
    args: Args,
    by_attribute: bool,
    wanted: bool,
) -> Filtered {
    let args = args.into_values();
    let mut args = args.as_slice();
    let mut path = None;
    if by_attribute {
        let (first, rest) =
            args.split_first().ok_or_else(|| error("select: the attribute is missing"))?;
        (path, args) = (Some(first), rest);
    }
    let mut found = Vec::new();
    for value in items_if_true(state, value)? {
        let tested = path.map_or(Ok(value.clone()), |path| by_path(&value, path, None))?;
        let holds = match args.split_first() {
            None => tested.is_true(),
            Some((test, rest)) => {
                let mut args = vec![tested];
                args.extend_from_slice(rest);
                state.perform_test(text("select", test)?, &args)?
            }
        };
        if holds == wanted {
            found.push(value);
        }
    }
    Ok(generator(found))
}

pub(super) fn select(state: &mut State, value: &Value, args: Args) -> Filtered {
    selected(state, value, args, false, true)
}

pub(super) fn reject(state: &mut State, value: &Value, args: Args) -> Filtered {
    selected(state, value, args, false, false)
}

pub(super) fn selectattr(state: &mut State, value: &Value, args: Args) -> Filtered {
    selected(state, value, args, true, true)
}

pub(super) fn rejectattr(state: &mut State, value: &Value, args: Args) -> Filtered {
    selected(state, value, args, true, false)
}

pub(super) fn sort(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("sort", ["reverse", "case_sensitive", "attribute"], &args)?;
    let case_sensitive = args.is_true_or(1, false);
    let attributes: Vec<Option<Value>> = match args.optional(2).filter(|path| !path.is_none()) {
        None => vec![None],
        Some(path) => match path.as_str() {
            Some(paths) => paths.split(',').map(|path| Some(Value::from(path))).collect(),
            None => vec![Some(path.clone())],
        },
    };
    let keyed = items(state, value)?.into_iter().map(|value| {
        let keys = attributes.iter().map(|path| key(&value, path.as_ref(), case_sensitive));
        Ok((keys.collect::<Result<Vec<_>, Error>>()?, value))
    });
    let keyed = keyed.collect::<Result<Vec<_>, Error>>()?;
    Ok(Value::from(sorted(state, keyed, args.is_true_or(0, false))?))
}

pub(super) fn string(state: &State, value: &Value) -> Filtered {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let out = text_of(value)?;
    reserve(state, out.len())?;
    Ok(Value::from(out))
}

pub(super) fn striptags(state: &State, value: &Value) -> Result<String, Error> {
    let mut rest = text_of(value)?;
    charge(state, rest.len())?;
    for (begin, end) in [("<!--", "-->"), ("<", ">")] {
        let mut out = String::new();
        let mut text = rest.as_str();
        while let Some(at) = text.find(begin) {
            let Some(length) = text[at..].find(end) else { break };
            out.push_str(&text[..at]);
            text = &text[at + length + end.len()..];
        }
        out.push_str(text);
        rest = out;
    }
    let words: Vec<&str> = rest.split(is_space).filter(|word| !word.is_empty()).collect();
    let text = words.join(" ");
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&quot;", "\""), ("&#39;", "'")];
    let text = entities.iter().fold(text, |text, (entity, letter)| text.replace(entity, letter));
    Ok(text.replace("&amp;", "&"))
}

pub(super) fn sum(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("sum", ["attribute", "start"], &args)?;
    let path = args.optional(0).filter(|path| !path.is_none());
    let mut total = args.optional(1).cloned().unwrap_or_else(|| Value::from(0));
    for value in items(state, value)? {
        let value = path.map_or(Ok(value.clone()), |path| by_path(&value, path, None))?;
        total = match (Type::of(&total), Type::of(&value)) {
            (Type::Bool | Type::Int, Type::Bool | Type::Int) => {
                let sum = i128::try_from(total)?.checked_add(i128::try_from(value)?);
                let sum = sum.ok_or_else(|| error("sum: the sum is too large"))?;
                i64::try_from(sum).map_or_else(|_| Value::from(sum), Value::from)
            }
            (Type::Bool | Type::Int | Type::Float, Type::Bool | Type::Int | Type::Float) => {
                Value::from(super::operators::float(&total)? + super::operators::float(&value)?)
            }
            (Type::List, Type::List) => {
                let mut list = items(state, &total)?;
                list.extend(items(state, &value)?);
                Value::from(list)
            }
            (total, value) => {
                return Err(error(format!(
                    "sum: `+` is not supported between {} and {}",
                    total.name(),
                    value.name()
                )));
            }
        };
    }
    Ok(total)
}

pub(super) fn title(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    let mut begins = true;
    for letter in text_of(value)?.chars() {
        if letter == '-' || is_space(letter) || "({[<".contains(letter) {
            out.push(letter);
            begins = true;
        } else if begins {
            out.extend(letter.to_uppercase());
            begins = false;
        } else {
            out.extend(letter.to_lowercase());
        }
    }
    Ok(out)
}

pub(super) fn tojson(value: Value, args: Args) -> Filtered {
    const OPTIONS: [&str; 4] = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let args = args.into_values();
    let args = Arguments::new("tojson", OPTIONS, &args)?;
    let given = OPTIONS.iter().enumerate().filter_map(|(at, name)| {
        let value = args.optional(at)?;
        let is_flag = matches!(*name, "ensure_ascii" | "sort_keys");
        let value = if is_flag { Value::from(value.is_true()) } else { value.clone() };
        Some(((*name).to_owned(), value))
    });
    if value.is_undefined() {
        return Err(undefined("tojson"));
    }
    if Type::of(&value) == Type::Object && value.kind() != minijinja::value::ValueKind::Map {
        return Err(error("tojson: the value is not serializable; apply the filter list first"));
    }
    super::to_json::to_json(value, given.collect())
}

pub(super) fn trim(value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("trim", ["chars"], &args)?;
    let chars = args.nullable_text(0)?;
    let removed = |letter: char| chars.map_or(is_space(letter), |set| set.contains(letter));
    Ok(text_of(value)?.trim_matches(removed).to_owned())
}

pub(super) fn truncate(value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let args = Arguments::new("truncate", ["length", "killwords", "end", "leeway"], &args)?;
    let source = text_of(value)?;
    let end = args.text_or(2, "...")?;
    let leeway = match args.optional(3).filter(|leeway| !leeway.is_none()) {
        Some(leeway) => integer("truncate", leeway)?,
        None => 5,
    };
    let (length, end_length) = (args.integer_or(0, 255)?, end.chars().count() as i64);
    if length < end_length || leeway < 0 {
        return Err(error("truncate: expected a length of at least that of the end"));
    }
    if source.chars().count() as i64 <= length + leeway {
        return Ok(source);
    }
    let kept = usize::try_from(length - end_length).unwrap_or(0);
    let kept: String = source.chars().take(kept).collect();
    if args.is_true_or(1, false) {
        return Ok(kept + end);
    }
    Ok(kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words).to_owned() + end)
}

pub(super) fn unique(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("unique", ["case_sensitive", "attribute"], &args)?;
    let (mut keys, mut found) = (Vec::new(), Vec::new());
    for value in items(state, value)? {
        let key = key(&value, args.optional(1), args.is_true_or(0, false))?;
        charge(state, keys.len())?;
        if !keys.contains(&key) {
            keys.push(key);
            found.push(value);
        }
    }
    Ok(generator(found))
}

pub(super) fn upper(value: &Value) -> Result<String, Error> {
    Ok(text_of(value)?.to_uppercase())
}

pub(super) fn lower(value: &Value) -> Result<String, Error> {
    Ok(text_of(value)?.to_lowercase())
}

/// Returns a text with all bytes escaped that have a meaning in a URL.
fn url_quoted(value: &Value, for_query: bool) -> Result<String, Error> {
    let mut out = String::new();
    for byte in text_of(value)?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if !for_query => out.push('/'),
            b' ' if for_query => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(out)
}

pub(super) fn urlencode(state: &State, value: &Value) -> Result<String, Error> {
    let pairs: Vec<[Value; 2]> = match Type::of(value) {
        Type::Dict => items(state, value)?
            .into_iter()
            .map(|key| Ok([key.clone(), value.get_item(&key)?]))
            .collect::<Result<_, Error>>()?,
        Type::List | Type::Tuple => items(state, value)?
            .iter()
            .map(|pair| {
                <[Value; 2]>::try_from(items(state, pair)?)
                    .map_err(|_| error("urlencode: expected pairs of a key and a value"))
            })
            .collect::<Result<_, Error>>()?,
        _ => {
            let out = url_quoted(value, false)?;
            reserve(state, out.len())?;
            return Ok(out);
        }
    };
    let pairs = pairs
        .iter()
        .map(|[key, value]| Ok(format!("{}={}", url_quoted(key, true)?, url_quoted(value, true)?)));
    Ok(pairs.collect::<Result<Vec<_>, Error>>()?.join("&"))
}

pub(super) fn wordcount(state: &State, value: &Value) -> Result<usize, Error> {
    let source = text_of(value)?;
    charge(state, source.len())?;
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    Ok(source.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()).count())
}

pub(super) fn wordwrap(state: &State, value: &Value, args: Args) -> Result<String, Error> {
    let args = args.into_values();
    let names = ["width", "break_long_words", "wrapstring", "break_on_hyphens"];
    let args = Arguments::new("wordwrap", names, &args)?;
    let width = usize::try_from(args.integer_or(0, 79)?).unwrap_or(0);
    if width == 0 {
        return Err(error("wordwrap: expected a width of at least 1"));
    }
    let separator = args.nullable_text(2)?.unwrap_or("\n");
    let options = (args.is_true_or(1, true), args.is_true_or(3, true));
    let source = text("wordwrap", value)?;
    charge(state, source.len())?;
    let paragraphs: Vec<String> = lines(source, false)
        .into_iter()
        .map(|line| wrapping::wrapped(line, width, options.0, options.1).join(separator))
        .collect();
    let out = paragraphs.join(separator);
    reserve(state, out.len())?;
    Ok(out)
}

pub(super) fn xmlattr(state: &State, value: &Value, args: Args) -> Filtered {
    let args = args.into_values();
    let args = Arguments::new("xmlattr", ["autospace"], &args)?;
    if Type::of(value) != Type::Dict {
        return Err(error("xmlattr: expected a dict"));
    }
    let mut attributes = Vec::new();
    for key in items(state, value)? {
        let item = value.get_item(&key)?;
        if item.is_none() || item.is_undefined() {
            continue;
        }
        let name = text_of(&key)?;
        if name.contains(|letter: char| is_space(letter) || "/>=".contains(letter)) {
            return Err(error(format!("xmlattr: {name:?} is not the name of an attribute")));
        }
        let item = if item.is_safe() { text_of(&item)? } else { escaped(&text_of(&item)?) };
        attributes.push(format!("{}=\"{item}\"", escaped(&name)));
    }
    let mut out = attributes.join(" ");
    if args.is_true_or(0, true) && !out.is_empty() {
        out.insert(0, ' ');
    }
    reserve(state, out.len())?;
    Ok(Value::from_safe_string(out))
}

/// Implements the filters whose results are random, or are only useful in HTML.
pub(super) fn unsupported(_: &Value, _: Args) -> Filtered {
    Err(error("the filters random and urlize are not supported in a chat template"))
}
