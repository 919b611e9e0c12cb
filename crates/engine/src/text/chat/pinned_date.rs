//! The date that templates receive. It is constant, so that the same chat always renders to the
//! same prompt: 26 July 2024, the default of Llama 3.1's template.

use minijinja::{Error, ErrorKind};

/// The parts of the date by their codes in `strftime`.
const DATE: [(char, &str); 10] = [
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

/// Formats the date as `strftime` does, with midnight as the time of day.
///
/// # Errors
/// The format contains an unsupported code.
pub(super) fn pinned_date(format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let code = letters.next().unwrap_or('%');
        match DATE.iter().find(|(known, _)| *known == code) {
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
