//! Parsing and formatting of bytes, durations and numbers.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const TIME_UNITS: [(&str, f64); 5] =
    [("ms", 0.001), ("min", 60.0), ("s", 1.0), ("h", 3600.0), ("d", 86_400.0)];

/// Parses bytes from a number and a unit, such as `38GB` or `1.5 GiB`.
///
/// # Errors
/// A description of the expected format.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected = || {
        format!(
            "\"{text}\" is not a size: expected a number and a unit, such as \"38GB\" (10^9 \
             bytes) or \"38GiB\" (2^30); units are B, kB, MB, GB, TB, KiB, MiB, GiB, TiB"
        )
    };
    let (number, unit) = split(text).ok_or_else(expected)?;
    let scale =
        BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, s)| *s).ok_or_else(expected)?;
    let bytes = number * scale as f64;
    // above 2^53 a float cannot represent each number of bytes, and no host has so much memory
    if bytes > (1u64 << 53) as f64 { Err(expected()) } else { Ok(bytes.round() as u64) }
}

/// Parses a duration from a number and a unit, such as `15min`, or from several, such as `1h
/// 30min`.
///
/// # Errors
/// A description of the expected format.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || {
        format!(
            "\"{text}\" is not a duration: expected a number and a unit, such as \"15min\", \
             \"90s\" or \"1h 30min\", more than zero; units are ms, s, min, h, d"
        )
    };
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(is_number).len();
        let after = rest[number..].trim_start();
        let unit = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let value: f64 = rest[..number].parse().map_err(|_| expected())?;
        let scale = TIME_UNITS
            .iter()
            .find(|(name, _)| *name == &after[..unit])
            .map(|(_, scale)| *scale)
            .ok_or_else(expected)?;
        seconds += value * scale;
        rest = after[unit..].trim_start();
    }
    if seconds > 0.0 && seconds < 1e9 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(expected())
    }
}

fn is_number(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

fn split(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let value: f64 = number.trim_end().parse().ok()?;
    (number.starts_with(is_number) && value >= 0.0).then(|| (value, &text[number.len()..]))
}

/// Formats bytes with the decimal unit that gives three digits.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, scale) in [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        let value = bytes as f64 / scale;
        if value >= 0.9995 {
            let digits = if value >= 100.0 {
                0
            } else if value >= 10.0 {
                1
            } else {
                2
            };
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{bytes} B")
}

/// Formats a duration in milliseconds, seconds or minutes.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 100.0 {
        let text = format!("{seconds:.2}");
        format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
    } else {
        let minutes = format!("{:.1}", seconds / 60.0);
        format!("{} min", minutes.trim_end_matches(".0"))
    }
}

/// Formats a count with its noun: `1 file`, `2 files`.
pub fn counted(number: usize, name: &str) -> String {
    if number == 1 { format!("1 {name}") } else { format!("{number} {name}s") }
}

/// Formats a number with its digits in groups of three: 70553706496 as 70,553,706,496.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (index + 3 - first).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_parsed() {
        assert_eq!(parse_bytes("38GB"), Ok(38_000_000_000));
        assert_eq!(parse_bytes("1.5 GiB"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("0B"), Ok(0));
        for bad in ["38", "GB", "38gb", "-1GB", "38 GB extra", "1e30GB", "", "inf GB", "nanB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_parsed() {
        assert_eq!(parse_duration("15min"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("1h 30min"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for bad in ["15", "min", "15 minutes", "0s", "-1s", "", "1h30", "1e9d", "é", "1 é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_formatted_with_units() {
        assert_eq!(grouped(70_553_706_496), "70,553,706,496");
        assert_eq!((grouped(999), grouped(1000)), ("999".into(), "1,000".into()));
        assert_eq!(format_bytes(39_700_000_000), "39.7 GB");
        assert_eq!(format_bytes(999), "999 B");
        assert_eq!(format_bytes(1_000_000), "1.00 MB");
        assert_eq!(format_duration(Duration::from_secs(900)), "15 min");
        assert_eq!(format_duration(Duration::from_millis(1500)), "1.5 s");
    }
}
