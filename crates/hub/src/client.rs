//! The requests to the hub: the commit of a revision, the files of a commit, the bytes of a file.
//!
//! The client of hf-hub is not used, because it follows pages to any address with the token, reads
//! answers of any length, and cannot resume ranges. A repository may also offer its files by
//! another protocol (xet). It is not needed, because the hub serves all files by plain HTTP ranges.

use crate::attempt_error::AttemptError;
use crate::connection_error::connection_error;
use crate::content_hash::is_commit;
use crate::error::HubError;
use crate::file_stream::FileStream;
use crate::listing::{self, ListedFile, TreeEntry};
use crate::request_context::RequestContext;
use crate::response_error::{Body, ErrorResponse};
use crate::retry_after::retry_after;
use crate::settings::Settings;
use crate::tls;
use crate::token::Token;
use modelgate_protocol::FailureKind;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, LINK, RANGE, RETRY_AFTER,
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use url::Url;

/// The maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum time for a complete answer that is not a file.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// The maximum number of pages of a listing. Each page has up to a thousand files.
const MAX_PAGES: usize = 200;
/// The maximum size of an answer that is not a file, in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// The maximum size of the body of an error, in bytes. A larger body is ignored.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// The maximum number of listed repositories of an owner.
const MAX_REPOSITORIES: &str = "1000";

/// A client of a hub.
pub(crate) struct HubClient {
    settings: Arc<Settings>,
    http: Client,
}

/// The used part of the answer to `GET /api/models/{repo}/revision/{revision}`.
#[derive(Deserialize)]
struct RevisionInfo {
    sha: Option<String>,
}

/// The used part of an entry of the answer to `GET /api/models`.
#[derive(Deserialize)]
struct RepositoryInfo {
    id: String,
}

impl HubClient {
    /// Creates a client.
    ///
    /// # Errors
    /// The certificates of the operating system cannot be read.
    pub(crate) fn new(settings: Arc<Settings>) -> Result<HubClient, HubError> {
        let tls = tls::client_config().map_err(no_client)?;
        let http = Client::builder()
            .user_agent(concat!("modelgate/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .connect_timeout(CONNECT_TIMEOUT.min(settings.timeout))
            .read_timeout(settings.timeout)
            // each parallel download has its own connection
            .http1_only()
            .build()
            .map_err(no_client)?;
        Ok(HubClient { settings, http })
    }

    /// Requests the commit of the revision in `context`.
    pub(crate) async fn commit(
        &self,
        context: &RequestContext<'_>,
    ) -> Result<String, AttemptError> {
        let url = self.url(&["api", "models", context.repo, "revision"], &[context.revision]);
        let info: RevisionInfo = parse(context, self.send(context, &url).await?).await?;
        let sha = info.sha.unwrap_or_default();
        if is_commit(&sha) {
            return Ok(sha);
        }
        Err(invalid_response(context, &format!("expected the hash of a commit, found {sha:?}")))
    }

    /// Requests the listing of the files of the commit in `context`.
    pub(crate) async fn listing(
        &self,
        context: &RequestContext<'_>,
    ) -> Result<Vec<ListedFile>, AttemptError> {
        let mut url = self.url(&["api", "models", context.repo, "tree"], &[context.revision]);
        url.set_query(Some("recursive=true"));
        let mut entries: Vec<TreeEntry> = Vec::new();
        for _ in 0..MAX_PAGES {
            let response = self.send(context, &url).await?;
            let next =
                next_page(&response).map_err(|message| invalid_response(context, &message))?;
            let page: Vec<TreeEntry> = parse(context, response).await?;
            entries.extend(page);
            if entries.len() > listing::MAX_FILES {
                let message = format!("more than {} files are listed", listing::MAX_FILES);
                return Err(invalid_response(context, &message));
            }
            match next {
                Some(next) if next.origin() == url.origin() => url = next,
                // a mirror may keep the address of the hub: the token is sent only to the mirror
                Some(next) => url.set_query(next.query()),
                None => {
                    let files = listing::files(entries);
                    return files.map_err(|message| invalid_response(context, &message));
                }
            }
        }
        Err(invalid_response(context, &format!("the listing has more than {MAX_PAGES} pages")))
    }

    /// Requests the file in `context`, whose listed size is `bytes`: the bytes `range`, or the
    /// complete file if `range` is `None`. Returns `None` if the server refuses the range.
    pub(crate) async fn file(
        &self,
        context: &RequestContext<'_>,
        range: Option<Range<u64>>,
        bytes: u64,
    ) -> Result<Option<FileStream>, AttemptError> {
        let file = context.file.unwrap_or_default();
        let url = self.url(
            &[context.repo, "resolve", context.revision],
            &file.split('/').collect::<Vec<_>>(),
        );
        let mut request = self.get(&url).header(ACCEPT_ENCODING, "identity");
        if let Some(range) = &range {
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end - 1));
        }
        let response = request.send().await.map_err(|error| connection_error(context, error))?;
        if range.is_some() && response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(None);
        }
        let response = successful(context, response).await?;
        FileStream::of(response, range, bytes)
            .map_err(|message| invalid_response(context, &message))
    }

    /// Requests the names (`owner/name`) of the repositories of an owner. Empty if the request
    /// fails.
    pub(crate) async fn repositories(
        &self,
        context: &RequestContext<'_>,
        owner: &str,
    ) -> Vec<String> {
        let mut url = self.url(&["api", "models"], &[]);
        url.query_pairs_mut().append_pair("author", owner).append_pair("limit", MAX_REPOSITORIES);
        let Ok(response) = self.send(context, &url).await else {
            return Vec::new();
        };
        let repositories: Result<Vec<RepositoryInfo>, _> = parse(context, response).await;
        repositories.unwrap_or_default().into_iter().map(|repository| repository.id).collect()
    }

    /// Returns an address below the address of the hub. Each of `paths` may consist of several
    /// segments, such as the name of a repository. Each of `segments` is one segment, even if it
    /// contains `/`.
    fn url(&self, paths: &[&str], segments: &[&str]) -> Url {
        let mut url = self.settings.endpoint.clone();
        // the address in the settings always has a path
        if let Ok(mut all) = url.path_segments_mut() {
            all.pop_if_empty();
            all.extend(paths.iter().flat_map(|path| path.split('/'))).extend(segments);
        }
        url
    }

    /// Returns a request with the token.
    fn get(&self, url: &Url) -> RequestBuilder {
        let request = self.http.get(url.clone());
        match self.settings.token().and_then(Token::header) {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        }
    }

    /// Requests an answer that is not a file.
    async fn send(
        &self,
        context: &RequestContext<'_>,
        url: &Url,
    ) -> Result<Response, AttemptError> {
        let response = self.get(url).timeout(ANSWER_TIMEOUT).send().await;
        successful(context, response.map_err(|error| connection_error(context, error))?).await
    }
}

/// Returns `response`, or the error that its status means.
async fn successful(
    context: &RequestContext<'_>,
    response: Response,
) -> Result<Response, AttemptError> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(error_response(context, response).await.error(context))
}

fn no_client(error: impl Error + Send + Sync + 'static) -> HubError {
    HubError::new(
        FailureKind::Tls,
        format!("the client for the hub cannot be created: {error}"),
        "make the certificates of the system readable, or set SSL_CERT_FILE to others",
    )
    .with_source(error)
}

fn invalid_response(context: &RequestContext<'_>, message: &str) -> AttemptError {
    AttemptError::fatal(context.invalid_response(message))
}

/// Parses the JSON body of an answer.
async fn parse<T: DeserializeOwned>(
    context: &RequestContext<'_>,
    response: Response,
) -> Result<T, AttemptError> {
    let body = read_body(context, response, MAX_ANSWER_BYTES).await?;
    // the error is not kept as a source, because it may quote the answer
    serde_json::from_slice(&body).map_err(|error| invalid_response(context, &error.to_string()))
}

/// Reads a body of at most `max_bytes` bytes.
async fn read_body(
    context: &RequestContext<'_>,
    mut response: Response,
    max_bytes: usize,
) -> Result<Vec<u8>, AttemptError> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| connection_error(context, error))?
    {
        if body.len() + chunk.len() > max_bytes {
            let message = format!("the answer has more than {max_bytes} bytes");
            return Err(invalid_response(context, &message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads the code, the message and the wait of a response with an error status.
async fn error_response(context: &RequestContext<'_>, response: Response) -> ErrorResponse {
    let header = |name: &str| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (url, status) = (response.url().clone(), response.status());
    let code = header("x-error-code");
    let message = header("x-error-message");
    let wait = text(response.headers(), &RETRY_AFTER)
        .and_then(|value| retry_after(value, SystemTime::now()))
        .or_else(|| header("ratelimit").as_deref().and_then(time_until_reset));
    let body = read_body(context, response, MAX_ERROR_BYTES).await;
    // a long body is a page
    let body = body.map_or(Body::Page, |body| Body::of(&body));
    ErrorResponse { url, status, code, message, body, wait }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the time until a rate limit is reset, if it is exhausted. In `"api";r=0;t=55`, `r` is
/// the number of remaining requests, and `t` the time in seconds.
fn time_until_reset(limit: &str) -> Option<Duration> {
    let value = |name: &str| limit.split(';').find_map(|part| part.trim().strip_prefix(name));
    (value("r=")? == "0").then(|| value("t=")?.parse().ok().map(Duration::from_secs))?
}

/// Returns the address of the next page of a listing (RFC 8288). `None` after the last page.
fn next_page(response: &Response) -> Result<Option<Url>, String> {
    let Some(links) = text(response.headers(), &LINK) else {
        return Ok(None);
    };
    next_link(links, response.url())
}

/// Returns the target of the link to the next page. `links` is the `Link` header of the answer from
/// `url`.
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
            let next = url
                .join(target)
                .map_err(|_| format!("the address of the next page is invalid: {target:?}"));
            return next.map(Some);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_target_of_the_link() {
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
    fn an_exhausted_rate_limit_gives_the_time_until_its_reset() {
        assert_eq!(time_until_reset("\"api\";r=0;t=55"), Some(Duration::from_secs(55)));
        assert_eq!(time_until_reset("\"api\";r=12;t=55"), None);
        assert_eq!(time_until_reset("nonsense"), None);
    }
}
