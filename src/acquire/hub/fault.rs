//! What goes wrong between here and the hub: its class, whether it is worth another try, and the
//! remedy. Every answer and every error of a connection ends up here, and nowhere else. Sends nothing,
//! and knows no disk.

use super::settings::Settings;
use crate::env;
use crate::manifest::format_duration;
use modelgate_protocol::{Failure, FailureKind, Stage};
use reqwest::StatusCode;
use std::error::Error;
use std::time::Duration;
use url::Url;

/// What was asked for when it went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The repository.
    pub(super) repo: &'a str,
    /// The revision or commit.
    pub(super) revision: &'a str,
    /// The file; none for what is about the repository.
    pub(super) file: Option<&'a str>,
    pub(super) settings: &'a Settings,
}

/// A failure, and whether the same may go well a little later.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) failure: Failure,
    /// The least time to wait before another try; none where a try would be in vain.
    pub(super) again: Option<Duration>,
}

impl Fault {
    pub(super) fn never(failure: Failure) -> Fault {
        Fault { failure, again: None }
    }
}

/// What an answer says beside its status.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// `X-Error-Code`.
    pub(super) code: Option<String>,
    /// `X-Error-Message`, or the `error` of a JSON body.
    pub(super) message: Option<String>,
    /// `Retry-After` in seconds.
    pub(super) wait: Option<Duration>,
}

/// The longest remark of a server that is repeated.
const LONGEST_REMARK: usize = 300;

impl Asked<'_> {
    /// The repository's page.
    pub(super) fn page(&self) -> String {
        format!("{}/{}", self.settings.endpoint.as_str().trim_end_matches('/'), self.repo)
    }

    /// What was asked for, for a message.
    fn subject(&self) -> String {
        let Asked { repo, revision, file, .. } = self;
        match file {
            Some(file) => format!("{repo} (revision {revision}), {file}"),
            None => format!("{repo} (revision {revision})"),
        }
    }

    pub(super) fn failure(
        &self,
        kind: FailureKind,
        what: &str,
        hint: impl Into<String>,
    ) -> Failure {
        let message = format!("{}: {what}", self.subject());
        let hidden = self.settings.hide(&message);
        Failure::new(Stage::Acquire, kind, hidden, self.settings.hide(&hint.into()))
    }

    /// An answer that is none of a hub.
    pub(super) fn bad_answer(&self, what: &str) -> Failure {
        self.failure(
            FailureKind::BadAnswer,
            &format!("{} does not answer as a hub does: {what}", self.host()),
            format!(
                "a proxy or a login page may stand in between; {} names the hub, {} now",
                env::HF_ENDPOINT,
                self.settings.endpoint
            ),
        )
    }

    fn host(&self) -> String {
        let url = &self.settings.endpoint;
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        format!("{}{port}", url.host_str().unwrap_or_default())
    }

    fn token_words(&self) -> String {
        match &self.settings.token {
            Some(token) => format!("the token in {}", token.origin()),
            None => "no token".to_owned(),
        }
    }

    /// The fault that an answer with this status, from `url`, is.
    pub(super) fn status(&self, url: &Url, status: StatusCode, said: &Said) -> Fault {
        if url.origin() != self.settings.endpoint.origin() {
            return self.elsewhere(url, status);
        }
        let remark = said.message.as_deref().filter(|message| !message.trim().is_empty());
        let remark = remark.map_or(String::new(), |message| {
            let shown: String = message.chars().take(LONGEST_REMARK).collect();
            format!("; it says: {}", shown.replace(char::is_control, " ").trim())
        });
        let answer = format!("{} answers {status}{remark}", self.host());
        let code = said.code.as_deref().unwrap_or_default();
        let fault = |kind, what: &str, hint: String| {
            Fault::never(self.failure(kind, &format!("{what}: {answer}"), hint))
        };
        let page = self.page();
        let login = "run `hf auth login`, or set HF_TOKEN to a token from the hub's settings \
                     (https://huggingface.co/settings/tokens)";
        let has_token = self.settings.token.is_some();
        let says = |words: &str| remark.to_lowercase().contains(words);
        match (status.as_u16(), code) {
            (403, _) if says("is disabled") => fault(
                FailureKind::RepositoryNotFound,
                "the hub has disabled the repository",
                format!("{page} may say why: take another repository"),
            ),
            (401 | 403, "GatedRepo") | (403, "") if !has_token => fault(
                FailureKind::NoToken,
                "the repository is gated, and there is no token",
                format!("accept the licence on {page}; then {login}"),
            ),
            (401, _) if has_token && (says("invalid credentials") || code != "RepoNotFound") => {
                fault(
                    FailureKind::TokenRefused,
                    &format!("{} is not accepted", self.token_words()),
                    format!("it has expired, was revoked, or is not whole: {login}"),
                )
            }
            (401 | 403, "GatedRepo") => fault(
                FailureKind::LicenceNotAccepted,
                &format!("access is not granted to who {} belongs to", self.token_words()),
                format!(
                    "accept the licence on {page} with that account, and wait where the owner \
                     grants access by hand; a fine-grained token also needs the permission to read \
                     gated repositories"
                ),
            ),
            (401, "") => fault(
                FailureKind::NoToken,
                "the hub wants a token and there is none (it answers so for repositories that do \
                 not exist, too)",
                format!("check the name; if {page} is private or gated, {login}"),
            ),
            (401, "RepoNotFound") | (404, "RepoNotFound") => fault(
                FailureKind::RepositoryNotFound,
                &match &self.settings.token {
                    None => {
                        "no such repository, or a private one, for which there is no token".into()
                    }
                    Some(token) => format!(
                        "no such repository, or a private one that the token in {} does not show",
                        token.origin()
                    ),
                },
                format!("check the name on {page}; if it is private, {login}"),
            ),
            (403, _) if !has_token => fault(
                FailureKind::NoToken,
                "it may not be read without a token",
                format!("look at {page}; then {login}"),
            ),
            (403, _) => fault(
                FailureKind::TokenRefused,
                &format!("{} may not read it", self.token_words()),
                format!(
                    "give the token the permission to read {page}, or take one that has it: {login}"
                ),
            ),
            (404, "RevisionNotFound") => fault(
                FailureKind::RevisionNotFound,
                "no such branch, tag or commit",
                format!("{page}/tree/main lists them; `revision` in the manifest says which"),
            ),
            (404, "EntryNotFound") => fault(
                FailureKind::FileNotFound,
                "no such file",
                format!("{page}/tree/{} lists the files", self.revision),
            ),
            (404, _) => fault(
                FailureKind::RepositoryNotFound,
                "nothing is there under this name",
                format!("check the name on {page}"),
            ),
            (429, _) => Fault {
                again: Some(said.wait.unwrap_or_default()),
                ..fault(
                    FailureKind::RateLimited,
                    &match said.wait {
                        Some(wait) => {
                            format!("the hub asks to wait for {}", format_duration(wait))
                        }
                        None => "the hub asks to wait".to_owned(),
                    },
                    if has_token {
                        "start again after that time; fetching once, before the models are \
                         validated, asks less often"
                            .to_owned()
                    } else {
                        format!(
                            "start again after that time, or with a token, which may ask more \
                                 often: {login}"
                        )
                    },
                )
            },
            (408 | 500..=599, _) => Fault {
                again: Some(said.wait.unwrap_or_default()),
                ..fault(
                    FailureKind::ServerError,
                    "the hub has an error of its own",
                    "https://status.huggingface.co says how it is; start again later: what was \
                     fetched is kept"
                        .to_owned(),
                )
            },
            _ => Fault::never(self.bad_answer(&format!("{status}{remark}"))),
        }
    }

    /// The fault that an answer from another host than the hub's is: large files are kept there.
    fn elsewhere(&self, url: &Url, status: StatusCode) -> Fault {
        let host = url.host_str().unwrap_or_default();
        let what = format!("{host}, to which the hub sends for this file, answers {status}");
        let hint = format!(
            "the hub keeps large files on other hosts: a firewall or proxy must let {host} through, \
             too; start again: what was fetched is kept"
        );
        let server = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let kind = if server { FailureKind::ServerError } else { FailureKind::BadAnswer };
        // a link that has expired is a new one the next time
        Fault { failure: self.failure(kind, &what, hint), again: Some(Duration::ZERO) }
    }

    /// The fault that an error of the connection is.
    pub(super) fn connection(&self, error: &reqwest::Error) -> Fault {
        let causes = causes(error);
        let host = self.host();
        let again = Some(Duration::ZERO);
        if error.is_timeout() {
            let what =
                format!("{host} sent nothing for {}", format_duration(self.settings.timeout));
            let hint = format!(
                "check the network, and the proxy if there is one (HTTPS_PROXY); {} allows more \
                 seconds; what was fetched is kept",
                env::HF_HUB_DOWNLOAD_TIMEOUT
            );
            return Fault { failure: self.failure(FailureKind::Timeout, &what, hint), again };
        }
        if is_name(&causes) {
            let what = format!("the name {host} cannot be resolved: {causes}");
            let hint = format!(
                "check the network and its name servers; without a network fetch elsewhere and set \
                 {}=1; {} names another hub",
                env::OFFLINE[0],
                env::HF_ENDPOINT
            );
            return Fault {
                failure: self.failure(FailureKind::NameResolution, &what, hint),
                again,
            };
        }
        if error.is_connect() && is_tls(&causes) {
            let what = format!("no trusted connection to {host}: {causes}");
            let hint = "a proxy that opens connections needs its certificate among the system's \
                        (SSL_CERT_FILE); check the clock, and that the address is not one of http";
            return Fault::never(self.failure(FailureKind::Tls, &what, hint));
        }
        if error.is_redirect() || error.is_builder() {
            return Fault::never(self.bad_answer(&causes));
        }
        let (what, hint) = if error.is_connect() {
            (
                format!("no connection to {host}: {causes}"),
                format!(
                    "check the network, the firewall, and the proxy if there is one (HTTPS_PROXY); \
                     {} names the hub, which keeps large files on other hosts",
                    env::HF_ENDPOINT
                ),
            )
        } else {
            (
                format!("the connection to {host} was cut: {causes}"),
                "start again: what was fetched is kept, and goes on from there".to_owned(),
            )
        };
        Fault { failure: self.failure(FailureKind::Connect, &what, hint), again }
    }
}

/// Whether no address was found for the host's name.
fn is_name(causes: &str) -> bool {
    let causes = causes.to_lowercase();
    ["dns error", "failed to lookup address"].iter().any(|words| causes.contains(words))
}

/// Whether both sides did not come to trust each other; a connection that broke off meanwhile is none
/// of that.
fn is_tls(causes: &str) -> bool {
    let causes = causes.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| causes.contains(words));
    has(&["certificate", "tls", "received corrupt message", "handshake"])
        && !has(&["eof", "close_notify", "reset by peer", "broken pipe"])
}

/// An error and its causes, outermost first.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause| {
        let cause: &'a (dyn Error + 'static) = *cause;
        cause.source()
    })
}

/// The causes of an error, outermost first, without addresses: those hold signatures.
fn causes(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> =
        chain(error).map(|cause| without_addresses(&cause.to_string())).collect();
    // a cause is often said by what it causes
    let mut kept: Vec<String> = Vec::new();
    for text in texts.into_iter().rev() {
        if !kept.iter().any(|inner| text.contains(inner.as_str())) {
            kept.push(text);
        }
    }
    kept.reverse();
    kept.join(": ")
}

fn without_addresses(text: &str) -> String {
    let is_address = |word: &&str| !word.contains("://");
    text.split(' ').filter(is_address).collect::<Vec<_>>().join(" ").replace(" for url", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_off_is_no_matter_of_trust() {
        for (causes, tls) in [
            ("invalid peer certificate: UnknownIssuer", true),
            ("received corrupt message of type InvalidContentType", true),
            ("peer closed connection without sending TLS close_notify", false),
            ("tls handshake eof", false),
            ("Connection reset by peer (os error 104)", false),
        ] {
            assert_eq!(is_tls(causes), tls, "{causes}");
        }
    }

    #[test]
    fn addresses_are_left_out() {
        let text = "error sending request for url (https://cdn/blob?signature=abc)";
        assert_eq!(without_addresses(text), "error sending request");
    }
}
