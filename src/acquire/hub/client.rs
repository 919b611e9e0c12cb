//! Asks the hub: which commit a revision is, which files it has, and bytes of a file.
//!
//! What the hub's answers about repositories look like is hf-hub's knowledge. The requests are sent
//! here: hf-hub's client would look for a token of its own, follow pages to any address with it, read
//! answers of any length, drop the SHA-256 of large files from listings, and take bytes by another
//! protocol where a repository offers one (xet). The hub serves every file by plain ranges, so that
//! there is one way here, and it is the one that is tested. Knows no cache and no disk.

use super::fault::{Asked, Fault, Said};
use super::listing::{self, Listed, TreeEntry};
use super::settings::Settings;
use hf_hub::repository::ModelInfo;
use modelgate_protocol::{Failure, FailureKind, Stage};
use reqwest::header::{AUTHORIZATION, CONTENT_RANGE, HeaderMap, LINK, RANGE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// For a connection alone.
const CONNECTING: Duration = Duration::from_secs(10);
/// The hub's waits up to this are waited; a longer one is told.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// The first wait before another try; each one is twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait of ours.
const MOST_BACKOFF: Duration = Duration::from_secs(30);
/// For an answer that is no file.
const ANSWERING: Duration = Duration::from_secs(120);
/// Pages of a listing; each has a thousand files.
const MOST_PAGES: usize = 200;
/// Bytes of an answer that is no file.
const LARGEST_ANSWER: usize = 16 << 20;
/// Bytes of an error's body that are looked at.
const LARGEST_ERROR: usize = 64 << 10;
/// Repositories of an owner among which a near name is looked for.
const NEIGHBOURS: &str = "1000";

/// A connection to a hub.
pub(super) struct Hub {
    settings: Arc<Settings>,
    http: Client,
}

/// Bytes of a file, as they come.
pub(super) struct Bytes {
    response: Response,
    /// All of the file comes, from its beginning, whatever range was asked for.
    pub(super) is_whole: bool,
}

impl Hub {
    pub(super) fn new(settings: Arc<Settings>) -> Result<Hub, Failure> {
        let http = Client::builder()
            .user_agent(concat!("modelgate/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECTING.min(settings.timeout))
            .read_timeout(settings.timeout)
            // files that come at the same time each have a connection of their own
            .http1_only()
            .build()
            .map_err(|error| {
                let message = format!("the client for the hub cannot be made: {error}");
                let hint =
                    "the system's certificates must be readable (SSL_CERT_FILE names others)";
                Failure::new(Stage::Acquire, FailureKind::Tls, message, hint)
            })?;
        Ok(Hub { settings, http })
    }

    /// The commit that a revision is.
    pub(super) async fn commit(&self, asked: &Asked<'_>) -> Result<String, Fault> {
        let url = self.url(&["api", "models", asked.repo, "revision"], &[asked.revision]);
        let answer = bounded(asked, self.send(asked, &url, None).await?, LARGEST_ANSWER).await?;
        let info: ModelInfo = serde_json::from_slice(&answer)
            .map_err(|error| Fault::never(asked.bad_answer(&error.to_string())))?;
        let sha = info.sha.unwrap_or_default();
        match listing::ContentHash::named(&sha) {
            Some(listing::ContentHash::GitBlob(commit)) => Ok(commit),
            _ => Err(Fault::never(asked.bad_answer(&format!("{sha:?} is no commit")))),
        }
    }

    /// The files of a commit.
    pub(super) async fn listing(&self, asked: &Asked<'_>) -> Result<Vec<Listed>, Fault> {
        let mut url = self.url(&["api", "models", asked.repo, "tree"], &[asked.revision]);
        url.set_query(Some("recursive=true"));
        let mut entries: Vec<TreeEntry> = Vec::new();
        for _ in 0..MOST_PAGES {
            let response = self.send(asked, &url, None).await?;
            let next =
                next_page(&response).map_err(|what| Fault::never(asked.bad_answer(&what)))?;
            let page = bounded(asked, response, LARGEST_ANSWER).await?;
            let page: Vec<TreeEntry> = serde_json::from_slice(&page)
                .map_err(|error| Fault::never(asked.bad_answer(&error.to_string())))?;
            entries.extend(page);
            if entries.len() > listing::MOST_FILES {
                let what = format!("over {} files are listed", listing::MOST_FILES);
                return Err(Fault::never(asked.bad_answer(&what)));
            }
            match next {
                Some(next) if next.origin() == url.origin() => url = next,
                Some(_) => {
                    let what = "the listing goes on at another address";
                    return Err(Fault::never(asked.bad_answer(what)));
                }
                None => {
                    let files = listing::files(entries);
                    return files.map_err(|what| Fault::never(asked.bad_answer(&what)));
                }
            }
        }
        Err(Fault::never(asked.bad_answer(&format!("the listing has over {MOST_PAGES} pages"))))
    }

    /// The bytes `range` of the file that is asked for, or the whole of it where the server serves
    /// no ranges. `bytes` is the file's size.
    pub(super) async fn bytes(
        &self,
        asked: &Asked<'_>,
        range: Range<u64>,
        bytes: u64,
    ) -> Result<Bytes, Fault> {
        let file = asked.file.unwrap_or_default();
        let url = self
            .url(&[asked.repo, "resolve", asked.revision], &file.split('/').collect::<Vec<_>>());
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let response = self.send(asked, &url, Some(header)).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return match response.content_length() {
                Some(length) if length == bytes => Ok(Bytes { response, is_whole: true }),
                // of what does not say its length nothing is taken for a file
                length => {
                    let length = length.map_or("an unknown number of".into(), |l| l.to_string());
                    let what = format!("{length} bytes, expected the {bytes} that are listed");
                    Err(Fault::never(asked.bad_answer(&what)))
                }
            };
        }
        let said = text(response.headers(), &CONTENT_RANGE).unwrap_or_default();
        let expected = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
        if said != expected {
            let what = format!("Content-Range is {said:?}, expected {expected:?}");
            return Err(Fault::never(asked.bad_answer(&what)));
        }
        Ok(Bytes { response, is_whole: false })
    }

    /// Names of the repositories of an owner; empty where they cannot be had.
    pub(super) async fn repositories(&self, asked: &Asked<'_>, owner: &str) -> Vec<String> {
        let mut url = self.url(&["api", "models"], &[]);
        url.query_pairs_mut().append_pair("author", owner).append_pair("limit", NEIGHBOURS);
        let Ok(response) = self.send(asked, &url, None).await else {
            return Vec::new();
        };
        let answer = bounded(asked, response, LARGEST_ANSWER).await.unwrap_or_default();
        let models: Vec<ModelInfo> = serde_json::from_slice(&answer).unwrap_or_default();
        models.into_iter().map(|model| model.id).collect()
    }

    /// The address of `parts` below the hub's, of which a repository's name is two, and of `more`,
    /// of which each is one whatever it holds.
    fn url(&self, parts: &[&str], more: &[&str]) -> Url {
        let mut url = self.settings.endpoint.clone();
        // settings take no address that has no path
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(parts.iter().flat_map(|part| part.split('/'))).extend(more);
        }
        url
    }

    async fn send(
        &self,
        asked: &Asked<'_>,
        url: &Url,
        range: Option<String>,
    ) -> Result<Response, Fault> {
        let mut request = self.http.get(url.clone());
        if let Some(header) = self.settings.token.as_ref().and_then(super::token::Token::header) {
            request = request.header(AUTHORIZATION, header);
        }
        request = match range {
            Some(range) => request.header(RANGE, range),
            None => request.timeout(ANSWERING),
        };
        let response = request.send().await.map_err(|error| asked.connection(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let host = response.url().clone();
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (code, message) = (header("x-error-code"), header("x-error-message"));
        let wait = text(response.headers(), &RETRY_AFTER)
            .and_then(|seconds| seconds.trim().parse().ok())
            .or_else(|| header("ratelimit").as_deref().and_then(until_reset))
            .map(Duration::from_secs);
        let message = match message {
            Some(message) => Some(message),
            None => {
                let body = bounded(asked, response, LARGEST_ERROR).await.unwrap_or_default();
                let body: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
                body.and_then(|body| body["error"].as_str().map(str::to_owned))
            }
        };
        Err(asked.status(&host, status, &Said { code, message, wait }))
    }
}

impl Bytes {
    /// The next bytes; none at the end.
    pub(super) async fn next(&mut self, asked: &Asked<'_>) -> Result<Option<bytes::Bytes>, Fault> {
        self.response.chunk().await.map_err(|error| asked.connection(&error))
    }
}

/// How often, and after which waits, something is tried that brought nothing.
pub(super) struct Patience<'a> {
    settings: &'a Settings,
    tries: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(settings: &'a Settings) -> Patience<'a> {
        Patience { settings, tries: 0 }
    }

    /// Something came of the last try.
    pub(super) fn restore(&mut self) {
        self.tries = 0;
    }

    /// Waits until it may be tried again.
    ///
    /// # Errors
    /// The fault, where it may not.
    pub(super) async fn wait(&mut self, fault: Fault) -> Result<(), Failure> {
        let Some(least) = fault.again.filter(|least| *least <= LONGEST_WAIT) else {
            return Err(fault.failure);
        };
        if self.tries >= self.settings.retries {
            let mut failure = fault.failure;
            failure.message += &format!("; tried {} times", self.tries + 1);
            return Err(failure);
        }
        let backoff = FIRST_WAIT.saturating_mul(1 << self.tries.min(16)).min(MOST_BACKOFF);
        self.tries += 1;
        // so that many hosts that were cut off at once do not come back at once
        tokio::time::sleep(least.max(backoff.mul_f64(0.5 + 0.5 * fastrand::f64()))).await;
        Ok(())
    }
}

/// What `ask` gives, tried again where that may help.
pub(super) async fn patiently<T, F: Future<Output = Result<T, Fault>>>(
    settings: &Settings,
    mut ask: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut patience = Patience::new(settings);
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(fault) => patience.wait(fault).await?,
        }
    }
}

/// The body, where it is no larger than `most`.
async fn bounded(asked: &Asked<'_>, mut response: Response, most: usize) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| asked.connection(&error))? {
        if body.len() + chunk.len() > most {
            let what = format!("over {most} bytes where less is expected");
            return Err(Fault::never(asked.bad_answer(&what)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn text<'a>(headers: &'a HeaderMap, name: &reqwest::header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The seconds to wait in `"api";r=0;t=55`, by which the hub says what is left of a limit and when it
/// is whole again.
fn until_reset(limit: &str) -> Option<u64> {
    let value = |name: &str| limit.split(';').find_map(|part| part.trim().strip_prefix(name));
    (value("r=")? == "0").then(|| value("t=")?.parse().ok())?
}

/// The address under which a listing goes on (RFC 8288); none where this was all of it.
fn next_page(response: &Response) -> Result<Option<Url>, String> {
    let Some(links) = text(response.headers(), &LINK) else {
        return Ok(None);
    };
    next_link(links, response.url())
}

/// The target of the link to what is next among `links`, which came from `url`.
fn next_link(links: &str, url: &Url) -> Result<Option<Url>, String> {
    for link in links.split('<').skip(1) {
        let Some((target, parameters)) = link.split_once('>') else {
            continue;
        };
        let mut parameters = parameters.split([';', ',']).map(str::trim);
        let is_next = |parameter: &str| {
            let relation = parameter.strip_prefix("rel=");
            relation.is_some_and(|relation| relation.trim_matches('"') == "next")
        };
        if parameters.any(is_next) {
            let next = url.join(target).map_err(|_| format!("the listing goes on at {target:?}"));
            return next.map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_goes_on_where_its_link_says() {
        let url = Url::parse("https://hub/api/models/o/n/tree/c?recursive=true").expect("a URL");
        let next = |links: &str| next_link(links, &url).map(|url| url.map(String::from));
        let expected = Ok(Some("https://hub/api/models/o/n/tree/c?cursor=a,b".to_owned()));
        for links in [
            "<https://hub/api/models/o/n/tree/c?cursor=a,b>; rel=\"next\"",
            "</api/models/o/n/tree/c?cursor=a,b>; rel=next",
            "<https://hub/first>; rel=\"first\", <?cursor=a,b>;rel=\"next\"",
        ] {
            assert_eq!(next(links), expected, "{links}");
        }
        assert_eq!(next("<https://hub/first>; rel=\"first\""), Ok(None));
        assert!(next("<http://[>; rel=\"next\"").is_err());
    }

    #[test]
    fn a_limit_that_is_used_up_says_until_when() {
        assert_eq!(until_reset("\"api\";r=0;t=55"), Some(55));
        assert_eq!(until_reset("\"api\";r=12;t=55"), None);
        assert_eq!(until_reset("nonsense"), None);
    }
}
