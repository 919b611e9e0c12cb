//! A request of the hub's client.

use std::ops::Range;

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    /// Whether it was sent to the address of large files.
    pub(super) to_storage: bool,
}

impl Request {
    /// Parses the head of a request.
    pub(super) fn parse(head: &str, to_storage: bool) -> Request {
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        Request {
            method: first.next().unwrap_or_default(),
            target: first.next().unwrap_or_default(),
            headers,
            to_storage,
        }
    }

    /// Returns a header by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    /// Returns the requested range of a content of `bytes`; `None` for all of it.
    pub(super) fn range(&self, bytes: u64) -> Option<Range<u64>> {
        let range = self.header("range")?;
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        let end = if to.is_empty() { bytes } else { to.parse::<u64>().ok()? + 1 };
        Some(from.parse().ok()?..end.min(bytes))
    }
}
