//! The methods of `str`.

use super::arguments::{Arguments, integer};
use super::formatting::{format_map, str_format};
use super::types::{Type, error, is_space};
use super::values::{charge, is_printable, reserve};
use minijinja::value::{Tuple, Value};
use minijinja::{Error, ErrorKind, State};
use unicode_general_category::{GeneralCategory, get_general_category};

/// The memory of one part of a text that is split, in bytes.
const BYTES_PER_PART: usize = 48;

/// Calls a method of a text.
pub(super) fn call(
    state: &State,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let read = args.iter().filter_map(Value::as_str).map(str::len).sum::<usize>();
    let splits = matches!(method, "split" | "rsplit" | "splitlines");
    charge(state, (text.len() + read).saturating_mul(if splits { BYTES_PER_PART } else { 1 }))?;
    if let Some(changed) = without_arguments(text, method) {
        Arguments::new(method, [], args)?;
        return Ok(changed);
    }
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let args = Arguments::new(method, ["chars"], args)?;
            let chars = args.nullable_text(0)?;
            let removed = |letter: char| chars.map_or(is_space(letter), |set| set.contains(letter));
            Ok(Value::from(match method {
                "strip" => text.trim_matches(removed),
                "lstrip" => text.trim_start_matches(removed),
                _ => text.trim_end_matches(removed),
            }))
        }
        "split" | "rsplit" => {
            let args = Arguments::new(method, ["sep", "maxsplit"], args)?;
            let limit = usize::try_from(args.integer_or(1, -1)?).unwrap_or(usize::MAX);
            parts(split(text, args.nullable_text(0)?, limit, method == "rsplit")?)
        }
        "splitlines" => {
            let args = Arguments::new(method, ["keepends"], args)?;
            parts(lines(text, args.is_true_or(0, false)))
        }
        "partition" | "rpartition" => {
            let args = Arguments::new(method, ["sep"], args)?;
            let separator = non_empty(args.text(0)?)?;
            let place =
                if method == "partition" { text.find(separator) } else { text.rfind(separator) };
            let [before, middle, after] = match place {
                Some(at) => [&text[..at], separator, &text[at + separator.len()..]],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(Value::from(Tuple::from([before, middle, after].map(Value::from).to_vec())))
        }
        "replace" => {
            let args = Arguments::new(method, ["old", "new", "count"], args)?;
            let count = usize::try_from(args.integer_or(2, -1)?).unwrap_or(usize::MAX);
            replaced(state, text, args.text(0)?, args.text(1)?, count).map(Value::from)
        }
        "removeprefix" => {
            let args = Arguments::new(method, ["prefix"], args)?;
            Ok(Value::from(text.strip_prefix(args.text(0)?).unwrap_or(text)))
        }
        "removesuffix" => {
            let args = Arguments::new(method, ["suffix"], args)?;
            Ok(Value::from(text.strip_suffix(args.text(0)?).unwrap_or(text)))
        }
        "startswith" | "endswith" => {
            let args = Arguments::new(method, ["prefix", "start", "end"], args)?;
            let part = part(text, &args)?;
            let matches = |affix: &Value| -> Result<bool, Error> {
                let affix = super::arguments::text(method, affix)?;
                Ok(part.is_some_and(|(part, _)| match method {
                    "startswith" => part.starts_with(affix),
                    _ => part.ends_with(affix),
                }))
            };
            let affix = args.required(0)?;
            if Type::of(affix) != Type::Tuple {
                return matches(affix).map(Value::from);
            }
            for affix in affix.try_iter()? {
                if matches(&affix)? {
                    return Ok(Value::from(true));
                }
            }
            Ok(Value::from(false))
        }
        "find" | "rfind" | "index" | "rindex" => {
            let args = Arguments::new(method, ["sub", "start", "end"], args)?;
            let sought = args.text(0)?;
            let place = part(text, &args)?.and_then(|(part, start)| {
                let at =
                    if method.starts_with('r') { part.rfind(sought) } else { part.find(sought) };
                Some(start + part[..at?].chars().count())
            });
            match place {
                Some(place) => Ok(Value::from(place)),
                None if method.ends_with("find") => Ok(Value::from(-1)),
                None => Err(error(format!("{method}: the text was not found"))),
            }
        }
        "count" => {
            let args = Arguments::new(method, ["sub", "start", "end"], args)?;
            let sought = args.text(0)?;
            Ok(Value::from(part(text, &args)?.map_or(0, |(part, _)| part.matches(sought).count())))
        }
        "center" | "ljust" | "rjust" => {
            let args = Arguments::new(method, ["width", "fillchar"], args)?;
            let width = integer(method, args.required(0)?)?;
            justified(state, text, method, width, args.text_or(1, " ")?).map(Value::from)
        }
        "zfill" => {
            let args = Arguments::new(method, ["width"], args)?;
            let width = integer(method, args.required(0)?)?;
            let sign = if text.starts_with(['+', '-']) { &text[..1] } else { "" };
            let digits = &text[sign.len()..];
            let digits = justified(state, digits, "rjust", width - sign.len() as i64, "0")?;
            Ok(Value::from(format!("{sign}{digits}")))
        }
        "expandtabs" => {
            let args = Arguments::new(method, ["tabsize"], args)?;
            with_expanded_tabs(state, text, args.integer_or(0, 8)?).map(Value::from)
        }
        "join" => {
            let args = Arguments::new(method, ["iterable"], args)?;
            let mut out = String::new();
            for (at, item) in
                super::types::iterable(args.required(0)?.clone())?.try_iter()?.enumerate()
            {
                let item = super::arguments::text(method, &item)?;
                let length = item.len() + if at > 0 { text.len() } else { 0 };
                charge(state, length)?;
                reserve(state, out.len() + length)?;
                out.push_str(if at > 0 { text } else { "" });
                out.push_str(item);
            }
            Ok(Value::from(out))
        }
        "format" => str_format(state, text, args).map(Value::from),
        "format_map" => {
            let args = Arguments::new(method, ["mapping"], args)?;
            format_map(state, text, args.required(0)?).map(Value::from)
        }
        "encode" | "maketrans" | "translate" => {
            Err(error(format!("{method}: the method is not supported in a chat template")))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

/// Calls a method without parameters. `None` if the method does not exist or has parameters.
fn without_arguments(text: &str, method: &str) -> Option<Value> {
    let all = |holds: fn(char) -> bool| Value::from(!text.is_empty() && text.chars().all(holds));
    let is_cased = |letter: char| letter.is_lowercase() || letter.is_uppercase();
    Some(match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "casefold" => Value::from(casefolded(text)),
        "swapcase" => Value::from(swapped(text)),
        "title" => Value::from(titled(text)),
        "capitalize" => Value::from(capitalized(text)),
        "islower" => {
            Value::from(text.chars().any(is_cased) && !text.chars().any(char::is_uppercase))
        }
        "isupper" => {
            Value::from(text.chars().any(is_cased) && !text.chars().any(char::is_lowercase))
        }
        "isspace" => all(is_space),
        "isalpha" => all(is_letter),
        "isalnum" => all(|letter| is_letter(letter) || letter.is_numeric()),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isnumeric" => all(char::is_numeric),
        "isascii" => Value::from(text.is_ascii()),
        "isprintable" => Value::from(text.chars().all(is_printable)),
        "isidentifier" => {
            let mut letters = text.chars();
            let begins = letters.next().is_some_and(|first| first == '_' || is_letter(first));
            Value::from(begins && letters.all(|letter| letter == '_' || letter.is_alphanumeric()))
        }
        "istitle" => Value::from(is_titled(text)),
        _ => return None,
    })
}

fn is_letter(letter: char) -> bool {
    matches!(
        get_general_category(letter),
        GeneralCategory::UppercaseLetter
            | GeneralCategory::LowercaseLetter
            | GeneralCategory::TitlecaseLetter
            | GeneralCategory::ModifierLetter
            | GeneralCategory::OtherLetter
    )
}

fn is_decimal(letter: char) -> bool {
    get_general_category(letter) == GeneralCategory::DecimalNumber
}

/// Returns whether Python regards a character as a digit: a decimal digit, or a digit that is
/// superscript, subscript or in a circle (`Numeric_Type=Digit`).
fn is_digit(letter: char) -> bool {
    is_decimal(letter)
        || matches!(u32::from(letter),
            0xb2 | 0xb3 | 0xb9 | 0x1369..=0x1371 | 0x19da | 0x2070 | 0x2074..=0x2079
            | 0x2080..=0x2089 | 0x2460..=0x2468 | 0x2474..=0x247c | 0x2488..=0x2490 | 0x24ea
            | 0x24f5..=0x24fd | 0x24ff | 0x2776..=0x277e | 0x2780..=0x2788 | 0x278a..=0x2792
            | 0x10a40..=0x10a43 | 0x10e60..=0x10e68 | 0x11052..=0x1105a | 0x1f100..=0x1f10a)
}

/// Returns the text for comparisons without case. Characters whose folded form is neither their
/// lower case nor in this table are rare.
fn casefolded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            'ß' | 'ẞ' => out.push_str("ss"),
            'ς' => out.push('σ'),
            'ſ' => out.push('s'),
            'µ' => out.push('μ'),
            'ﬀ'..='ﬆ' => out.extend(letter.to_uppercase().flat_map(char::to_lowercase)),
            _ => out.extend(letter.to_lowercase()),
        }
    }
    out
}

fn swapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_uppercase() {
            out.extend(letter.to_lowercase());
        } else {
            out.extend(letter.to_uppercase());
        }
    }
    out
}

/// Returns the text with a capital at the begin of each group of letters, as `str.title`.
fn titled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for letter in text.chars() {
        if inside {
            out.extend(letter.to_lowercase());
        } else {
            out.push_str(&title_case(letter));
        }
        inside = letter.is_lowercase() || letter.is_uppercase();
    }
    out
}

/// Returns a character as the begin of a word. Digraphs and ligatures become a capital and a small
/// letter.
fn title_case(letter: char) -> String {
    // the digraphs that have a form for titles
    let titled = match letter {
        'Ǆ'..='ǆ' => Some('ǅ'),
        'Ǉ'..='ǉ' => Some('ǈ'),
        'Ǌ'..='ǌ' => Some('ǋ'),
        'Ǳ'..='ǳ' => Some('ǲ'),
        // the apostrophe before this letter has no case
        'ŉ' => return "ʼN".into(),
        _ => None,
    };
    if let Some(titled) = titled {
        return titled.into();
    }
    let mut upper = letter.to_uppercase();
    let first = upper.next().unwrap_or(letter);
    std::iter::once(first).chain(upper.flat_map(char::to_lowercase)).collect()
}

pub(super) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => title_case(first) + &letters.as_str().to_lowercase(),
        None => String::new(),
    }
}

fn is_titled(text: &str) -> bool {
    let (mut inside, mut found) = (false, false);
    for letter in text.chars() {
        if letter.is_uppercase() {
            if inside {
                return false;
            }
            (inside, found) = (true, true);
        } else if letter.is_lowercase() {
            if !inside {
                return false;
            }
            found = true;
        } else {
            inside = false;
        }
    }
    found
}

fn non_empty(separator: &str) -> Result<&str, Error> {
    if separator.is_empty() { Err(error("the separator is empty")) } else { Ok(separator) }
}

/// Returns the parts of a text as a list.
fn parts(parts: Vec<&str>) -> Result<Value, Error> {
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Splits a text at most `limit` times, from the end if `from_end` is set.
pub(super) fn split<'t>(
    text: &'t str,
    separator: Option<&str>,
    limit: usize,
    from_end: bool,
) -> Result<Vec<&'t str>, Error> {
    let mut parts = Vec::new();
    let mut rest = text;
    if let Some(separator) = separator {
        let separator = non_empty(separator)?;
        while parts.len() < limit {
            let place = if from_end { rest.rfind(separator) } else { rest.find(separator) };
            let Some(at) = place else { break };
            let (before, after) = (&rest[..at], &rest[at + separator.len()..]);
            parts.push(if from_end { after } else { before });
            rest = if from_end { before } else { after };
        }
        parts.push(rest);
    } else if from_end {
        rest = rest.trim_end_matches(is_space);
        while parts.len() < limit && !rest.is_empty() {
            let begin = rest
                .rfind(is_space)
                .map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
            parts.push(&rest[begin..]);
            rest = rest[..begin].trim_end_matches(is_space);
        }
        parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
    } else {
        rest = rest.trim_start_matches(is_space);
        while parts.len() < limit && !rest.is_empty() {
            let end = rest.find(is_space).unwrap_or(rest.len());
            parts.push(&rest[..end]);
            rest = rest[end..].trim_start_matches(is_space);
        }
        parts.extend(Some(rest).filter(|rest| !rest.is_empty()));
    }
    if from_end {
        parts.reverse();
    }
    Ok(parts)
}

/// Returns the lines of a text, as `str.splitlines`.
pub(super) fn lines(text: &str, with_ends: bool) -> Vec<&str> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ENDS) {
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + rest[at..].chars().next().map_or(1, char::len_utf8)
        };
        lines.push(if with_ends { &rest[..end] } else { &rest[..at] });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// Replaces at most `count` occurrences.
pub(super) fn replaced(
    state: &State,
    text: &str,
    old: &str,
    new: &str,
    count: usize,
) -> Result<String, Error> {
    let places = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let places = places.min(count);
    let added = places.saturating_mul(new.len());
    reserve(
        state,
        (text.len() - places.saturating_mul(old.len()).min(text.len())).saturating_add(added),
    )?;
    Ok(text.replacen(old, new, count))
}

/// Returns the part of a text between the arguments 1 and 2, which count characters, and the
/// number of characters before it. `None` if the part begins after the end of the text.
fn part<'t, const N: usize>(
    text: &'t str,
    args: &Arguments<N>,
) -> Result<Option<(&'t str, usize)>, Error> {
    let given = |at: usize| match args.optional(at).filter(|value| !value.is_none()) {
        Some(value) => integer("slice", value).map(Some),
        None => Ok(None),
    };
    let (start, end) = (given(1)?, given(2)?);
    if start.is_none() && end.is_none() {
        return Ok(Some((text, 0)));
    }
    let length = text.chars().count() as i64;
    let place = |bound: i64| if bound < 0 { (bound + length).max(0) } else { bound };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(length)).min(length));
    if start > length || end < start {
        return Ok(None);
    }
    let offset = |place: i64| {
        text.char_indices()
            .nth(usize::try_from(place).unwrap_or(0))
            .map_or(text.len(), |(at, _)| at)
    };
    Ok(Some((&text[offset(start)..offset(end)], usize::try_from(start).unwrap_or(0))))
}

/// Returns a text of at least `width` characters, as `str.center`, `str.ljust` or `str.rjust`.
pub(super) fn justified(
    state: &State,
    text: &str,
    method: &str,
    width: i64,
    fill: &str,
) -> Result<String, Error> {
    if fill.chars().count() != 1 {
        return Err(error(format!("{method}: expected one character to fill, found {fill:?}")));
    }
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    reserve(state, missing.saturating_mul(fill.len()).saturating_add(text.len()))?;
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

fn with_expanded_tabs(state: &State, text: &str, size: i64) -> Result<String, Error> {
    let size = usize::try_from(size).unwrap_or(0);
    let (mut out, mut column) = (String::new(), 0);
    for letter in text.chars() {
        match letter {
            '\t' if size > 0 => {
                let width = size - column % size;
                reserve(state, out.len().saturating_add(width))?;
                out.push_str(&" ".repeat(width));
                column += width;
            }
            '\t' => {}
            '\n' | '\r' => {
                out.push(letter);
                column = 0;
            }
            _ => {
                out.push(letter);
                column += 1;
            }
        }
    }
    Ok(out)
}
