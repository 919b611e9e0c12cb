//! The header `Retry-After` (RFC 9110).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::tz::TimeZone;
use std::time::{Duration, SystemTime};

/// The obsolete forms of a date in HTTP, always in UTC: that of RFC 850, and that of `asctime`.
const OBSOLETE_DATES: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Returns the wait that the header value requests: a number of seconds, or a date. A date before
/// `now` requests no wait. `None` if the value is invalid.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date: SystemTime = http_date(value)?.into();
    Some(date.duration_since(now).unwrap_or_default())
}

fn http_date(text: &str) -> Option<Timestamp> {
    let obsolete = |format: &&str| {
        let date = DateTime::strptime(format, text).ok()?;
        date.to_zoned(TimeZone::UTC).ok().map(|date| date.timestamp())
    };
    let current = DateTimeParser::new().parse_timestamp(text).ok();
    current.or_else(|| OBSOLETE_DATES.iter().find_map(obsolete))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_all_forms_of_a_date_give_the_wait() {
        // `email.utils.parsedate_to_datetime("Sun, 06 Nov 1994 08:49:37 GMT").timestamp()`
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 90);
        let wait = |seconds| Some(Duration::from_secs(seconds));
        for (value, expected) in [
            ("0", wait(0)),
            (" 120 ", wait(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", wait(90)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", wait(90)),
            ("Sun Nov  6 08:49:37 1994", wait(90)),
            // in the past
            ("Sun, 06 Nov 1994 08:00:00 GMT", wait(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), expected, "{value:?}");
        }
    }
}
