//! The date that templates get: always the same, so that the same chat always makes the same prompt. It
//! is the default of Llama 3.1's template.

use minijinja::{Error, ErrorKind};

/// The date, by the codes of `strftime`.
const TODAY: [(char, &str); 10] = [
    ('d', "26"),
    ('m', "07"),
    ('Y', "2024"),
    ('y', "24"),
    ('b', "Jul"),
    ('B', "July"),
    ('a', "Fri"),
    ('A', "Friday"),
    ('j', "208"),
    ('%', "%"),
];

/// Formats the date as `strftime` does.
pub(super) fn pinned_date(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let code = letters.next().unwrap_or('%');
        match TODAY.iter().find(|(known, _)| *known == code) {
            Some((_, text)) => out.push_str(text),
            // the time of day is midnight
            None if "HMS".contains(code) => out.push_str("00"),
            None => {
                let what = format!("strftime_now does not support %{code}");
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        }
    }
    Ok(out)
}
