//! HTTP requests to the hub.

use std::ops::Range;

/// An HTTP request without a body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
    /// Whether the request was sent to the storage host, which serves large files.
    pub(super) to_storage: bool,
}

impl Request {
    /// Parses the request line and the headers.
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

    /// Returns the value of the header `name` (in lower case). `None` if the header is missing.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
    }

    /// Returns the byte range that the request selects from a file of `bytes` bytes. `None` if the
    /// request has no valid `Range` header.
    pub(super) fn range(&self, bytes: u64) -> Option<Range<u64>> {
        let range = self.header("range")?;
        let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
        let end = if to.is_empty() { bytes } else { to.parse::<u64>().ok()? + 1 };
        Some(from.parse().ok()?..end.min(bytes))
    }
}
