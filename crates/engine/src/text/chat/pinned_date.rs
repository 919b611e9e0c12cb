//! The date that templates receive. It is constant, so that the same chat always renders to the
//! same prompt: 26 July 2024, the default of Llama 3.1's template.

use minijinja::{Error, ErrorKind};

/// A part of the date.
#[derive(Clone, Copy)]
enum Part {
    Text(&'static str),
    /// A number with its default width, and the character that fills it up.
    Number(u32, usize, char),
}

/// The parts of the date by their codes in `strftime` of glibc, in the locale C. The time of day is
/// midnight. Python's local time has no name and no offset of its zone; `%s` regards it as UTC.
const DATE: [(char, Part); 40] = [
    ('%', Part::Text("%")),
    ('A', Part::Text("Friday")),
    ('B', Part::Text("July")),
    ('C', Part::Number(20, 2, '0')),
    ('D', Part::Text("07/26/24")),
    ('F', Part::Text("2024-07-26")),
    ('G', Part::Number(2024, 4, '0')),
    ('H', Part::Number(0, 2, '0')),
    ('I', Part::Number(12, 2, '0')),
    ('M', Part::Number(0, 2, '0')),
    ('P', Part::Text("am")),
    ('R', Part::Text("00:00")),
    ('S', Part::Number(0, 2, '0')),
    ('T', Part::Text("00:00:00")),
    ('U', Part::Number(29, 2, '0')),
    ('V', Part::Number(30, 2, '0')),
    ('W', Part::Number(30, 2, '0')),
    ('X', Part::Text("00:00:00")),
    ('Y', Part::Number(2024, 4, '0')),
    ('Z', Part::Text("")),
    ('a', Part::Text("Fri")),
    ('b', Part::Text("Jul")),
    ('c', Part::Text("Fri Jul 26 00:00:00 2024")),
    ('d', Part::Number(26, 2, '0')),
    ('e', Part::Number(26, 2, ' ')),
    ('g', Part::Number(24, 2, '0')),
    ('h', Part::Text("Jul")),
    ('j', Part::Number(208, 3, '0')),
    ('k', Part::Number(0, 2, ' ')),
    ('l', Part::Number(12, 2, ' ')),
    ('m', Part::Number(7, 2, '0')),
    ('n', Part::Text("\n")),
    ('p', Part::Text("AM")),
    ('r', Part::Text("12:00:00 AM")),
    ('s', Part::Number(1_721_952_000, 1, '0')),
    ('t', Part::Text("\t")),
    ('u', Part::Number(5, 1, '0')),
    ('w', Part::Number(5, 1, '0')),
    ('x', Part::Text("07/26/24")),
    ('y', Part::Number(24, 2, '0')),
];

/// The codes that Python replaces before it calls glibc. They accept no flags.
const OF_PYTHON: [(char, &str); 2] = [('f', "000000"), ('z', "")];

/// The maximum length of a formatted date, in bytes.
const MAX_BYTES: usize = 1 << 16;

/// Formats the date as `datetime.strftime` of Python does on Linux.
///
/// # Errors
/// The format contains a code that glibc does not support, or the result is too long.
pub(super) fn pinned_date(format: &str) -> Result<String, Error> {
    let invalid = |what: String| Error::new(ErrorKind::InvalidOperation, what);
    let (mut out, mut rest) = (String::new(), format);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = &rest[at..];
        let inner = &directive[1..];
        let flags = inner.len() - inner.trim_start_matches(['-', '_', '0', '^', '#']).len();
        let (flags, inner) = inner.split_at(flags);
        let digits = inner.len() - inner.trim_start_matches(|l: char| l.is_ascii_digit()).len();
        let (width, inner) = inner.split_at(digits);
        // the modifiers E and O have no effect in the locale C
        let inner = inner.strip_prefix(['E', 'O']).unwrap_or(inner);
        let mut letters = inner.chars();
        let code = letters.next();
        rest = letters.as_str();
        let plain = flags.is_empty() && width.is_empty();
        if let Some((_, text)) = OF_PYTHON.iter().find(|(known, _)| plain && Some(*known) == code) {
            out.push_str(text);
            continue;
        }
        if code.is_none() && plain {
            out.push('%');
            continue;
        }
        let Some((_, part)) = DATE.iter().find(|(known, _)| Some(*known) == code) else {
            let directive = &directive[..directive.len() - rest.len()];
            return Err(invalid(format!("strftime_now does not support {directive}")));
        };
        let width = if width.is_empty() { Some(0) } else { width.parse::<usize>().ok() };
        let width = width.filter(|width| out.len() + width <= MAX_BYTES).ok_or_else(|| {
            invalid(format!("strftime_now: the date is longer than {MAX_BYTES} bytes"))
        })?;
        out.push_str(&formatted(*part, code, flags, width));
        if out.len() > MAX_BYTES {
            return Err(invalid(format!(
                "strftime_now: the date is longer than {MAX_BYTES} bytes"
            )));
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Formats a part with the flags of its directive.
fn formatted(part: Part, code: Option<char>, flags: &str, width: usize) -> String {
    let padding = flags.chars().rfind(|flag| "-_0".contains(*flag));
    let (text, width, default) = match part {
        Part::Text(text) => (text.to_owned(), width, ' '),
        Part::Number(number, own_width, fill) => {
            let width = if padding == Some('-') && width == 0 { 0 } else { width.max(own_width) };
            (number.to_string(), width, fill)
        }
    };
    // `#` changes the case of names, and makes the time of day small
    let text = if flags.contains('#') && matches!(code, Some('p' | 'Z')) {
        text.to_lowercase()
    } else if flags.contains('^') || (flags.contains('#') && !matches!(code, Some('c' | 'P'))) {
        text.to_uppercase()
    } else {
        text
    };
    let fill = match padding {
        Some('0') => '0',
        Some('_') => ' ',
        Some(_) => return text,
        None => default,
    };
    let missing = width.saturating_sub(text.len());
    format!("{}{text}", fill.to_string().repeat(missing))
}
