//! Classifies responses with an error status: the kind, the hint, and whether a retry may succeed.

use crate::attempt_error::AttemptError;
use crate::request_context::RequestContext;
use crate::settings::Settings;
use modelgate_model::units::format_duration;
use modelgate_protocol::FailureKind;
use reqwest::StatusCode;
use std::time::Duration;
use url::Url;

/// The maximum length of a quoted server message in characters.
const MAX_SERVER_MESSAGE_CHARS: usize = 300;

const LOGIN_HINT: &str = "run `hf auth login`, or set HF_TOKEN to a token from \
                          https://huggingface.co/settings/tokens";

/// A response with an error status.
#[derive(Debug, Clone)]
pub(crate) struct ErrorResponse {
    /// The final URL of the request, after redirects.
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    /// The header `X-Error-Code`.
    pub(crate) code: Option<String>,
    /// The header `X-Error-Message`.
    pub(crate) message: Option<String>,
    pub(crate) body: Body,
    /// The time to wait, from the header `Retry-After` or `RateLimit`.
    pub(crate) wait: Option<Duration>,
}

/// The body of a response with an error status, as far as it shows who sent the response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Empty,
    /// A JSON object, as the hub sends it, with the value of its key `error` if that is a text.
    Json(Option<String>),
    /// Any other text, for example a page of a proxy.
    Page,
}

impl Body {
    /// Returns the kind of the body `text`.
    pub(crate) fn of(text: &[u8]) -> Body {
        match serde_json::from_slice::<serde_json::Value>(text) {
            Ok(serde_json::Value::Object(object)) => {
                Body::Json(object.get("error").and_then(|error| error.as_str()).map(str::to_owned))
            }
            _ if text.trim_ascii().is_empty() => Body::Empty,
            _ => Body::Page,
        }
    }
}

impl ErrorResponse {
    /// Returns the error for this response. A response of another host that does not have the form
    /// of the hub is an error of the storage.
    pub(crate) fn error(&self, context: &RequestContext<'_>) -> AttemptError {
        let is_answer = self.has_form_of_hub();
        if !is_answer && self.url.origin() != context.settings.endpoint.origin() {
            return self.storage_error(context);
        }
        let AttemptError { error, retry_after } = match self.status.as_u16() {
            400..=407 | 409..=428 | 430..=499 if !is_answer && self.body == Body::Page => {
                let message =
                    format!("{}, with a page instead of the answer of a hub", self.status);
                AttemptError::fatal(context.invalid_response(&message))
            }
            _ => self.hub_error(context),
        };
        let mut error = error.answered_by_hub(is_answer);
        if let Some(file) = context.settings.ignored_token_file()
            && matches!(error.kind, FailureKind::TokenMissing | FailureKind::RepositoryNotFound)
        {
            error.hint += &format!(
                "; the token in {} is not used, because another user owns that file or its folder \
                 is writable for all users: remove the file, or correct its owner",
                file.display()
            );
        }
        AttemptError { error, retry_after }
    }

    /// Returns whether the headers or the body have the form of an error of the hub.
    fn has_form_of_hub(&self) -> bool {
        self.code.is_some() || self.message.is_some() || matches!(self.body, Body::Json(_))
    }

    fn hub_error(&self, context: &RequestContext<'_>) -> AttemptError {
        let status = self.status;
        let server_message = self.server_message();
        let answer = format!("{} returned {status}{server_message}", context.host());
        let code = self.code.as_deref().unwrap_or_default();
        let error = |kind, message: &str, hint: String| {
            AttemptError::fatal(context.error(kind, &format!("{message}: {answer}"), hint))
        };
        let page = context.page();
        let has_token = context.settings.token().is_some();
        let token = describe_token(context.settings);
        let message_contains = |words: &str| server_message.to_lowercase().contains(words);
        match (status.as_u16(), code) {
            (403, _) if message_contains("is disabled") => error(
                FailureKind::RepositoryNotFound,
                "the hub has disabled the repository",
                format!("use another repository; or read {page}, which may show the reason"),
            ),
            (401 | 403, "GatedRepo") | (403, "") if !has_token => error(
                FailureKind::TokenMissing,
                "the repository is gated, and no token is set",
                format!("accept the licence on {page}; then {LOGIN_HINT}"),
            ),
            (401, _)
                if has_token
                    && (message_contains("invalid credentials") || code != "RepoNotFound") =>
            {
                error(
                    FailureKind::TokenRefused,
                    &format!("{token} is not accepted"),
                    format!("{LOGIN_HINT}: this token has expired, was revoked or is incomplete"),
                )
            }
            (401 | 403, "GatedRepo") => error(
                FailureKind::LicenceNotAccepted,
                &format!("the account of {token} has no access to the repository"),
                format!(
                    "accept the licence on {page} with that account, and wait if the owner \
                     grants access manually; a fine-grained token also needs the permission to \
                     read gated repositories"
                ),
            ),
            (401, "") => error(
                FailureKind::TokenMissing,
                "the hub requires a token, and there is none (the hub gives the same answer for \
                 repositories that do not exist)",
                format!("check the name; if {page} is private or gated, {LOGIN_HINT}"),
            ),
            (401 | 404, "RepoNotFound") => error(
                FailureKind::RepositoryNotFound,
                &if has_token {
                    format!(
                        "the repository does not exist, or it is private and {token} does not grant access to it"
                    )
                } else {
                    "the repository does not exist, or it is private and no token is set".to_owned()
                },
                format!("check the name on {page}; if it is private, {LOGIN_HINT}"),
            ),
            (403, _) if !has_token => error(
                FailureKind::TokenMissing,
                "the repository cannot be read without a token",
                format!("open {page}; then {LOGIN_HINT}"),
            ),
            (403, _) => error(
                FailureKind::TokenRefused,
                &format!("{token} has no permission to read the repository"),
                format!(
                    "give the token the permission to read {page}; or use another token: \
                     {LOGIN_HINT}"
                ),
            ),
            (404, "RevisionNotFound") => error(
                FailureKind::RevisionNotFound,
                "no such branch, tag or commit",
                format!(
                    "set `revision` in the manifest to a branch, tag or commit of {page}/tree/main"
                ),
            ),
            (404, "EntryNotFound") => error(
                FailureKind::FileNotFound,
                "no such file",
                format!("{page}/tree/{} lists the files", context.revision),
            ),
            (404, _) => error(
                FailureKind::RepositoryNotFound,
                "the repository was not found",
                format!("check the name on {page}"),
            ),
            (429, _) => AttemptError {
                retry_after: Some(self.wait.unwrap_or_default()),
                ..error(
                    FailureKind::RateLimited,
                    &format!("the hub refuses further requests{}", self.requested_wait()),
                    if has_token {
                        "start again after that time; download with one `prefetch` before the \
                         models are validated"
                            .to_owned()
                    } else {
                        format!(
                            "start again after that time, or use a token, which has a higher \
                             limit: {LOGIN_HINT}"
                        )
                    },
                )
            },
            (408 | 500..=599, _) => AttemptError {
                retry_after: Some(self.wait.unwrap_or_default()),
                ..error(
                    FailureKind::ServerError,
                    &format!("the hub reports an internal error{}", self.requested_wait()),
                    "check https://status.huggingface.co, and start again later: downloaded \
                     parts are kept"
                        .to_owned(),
                )
            },
            _ => {
                AttemptError::fatal(context.invalid_response(&format!("{status}{server_message}")))
            }
        }
    }

    /// Returns the error for a response of another host than the hub. Large files are stored on
    /// such hosts.
    fn storage_error(&self, context: &RequestContext<'_>) -> AttemptError {
        let status = self.status;
        let host = self.url.host_str().unwrap_or_default();
        let message = format!(
            "{host}, to which the hub redirects for this file, returned {status}{}",
            self.requested_wait()
        );
        let hint = format!(
            "allow {host} in the firewall or the proxy, because the hub stores large files on \
             other hosts; start again: downloaded parts are kept"
        );
        let is_temporary = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let kind =
            if is_temporary { FailureKind::ServerError } else { FailureKind::InvalidResponse };
        // the hub replaces an expired address in the next attempt
        let retry_after = Some(self.wait.unwrap_or_default());
        AttemptError { error: context.error(kind, &message, hint), retry_after }
    }

    /// Returns the requested wait as the end of a message, or an empty text.
    fn requested_wait(&self) -> String {
        self.wait.map_or(String::new(), |wait| {
            format!(" and requests a wait of {}", format_duration(wait))
        })
    }

    /// Returns the message of the server as the end of a message, or an empty text.
    fn server_message(&self) -> String {
        let of_body = match &self.body {
            Body::Json(message) => message.as_deref(),
            Body::Empty | Body::Page => None,
        };
        let message = self.message.as_deref().or(of_body);
        let message = message.filter(|message| !message.trim().is_empty());
        message.map_or(String::new(), |message| {
            let shown: String = message.chars().take(MAX_SERVER_MESSAGE_CHARS).collect();
            format!("; server message: {}", shown.replace(char::is_control, " ").trim())
        })
    }
}

fn describe_token(settings: &Settings) -> String {
    settings
        .token()
        .map_or("no token".to_owned(), |token| format!("the token in {}", token.origin()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::Variables;
    use std::path::Path;

    fn response(status: u16, code: &str, message: &str) -> ErrorResponse {
        ErrorResponse {
            url: Url::parse("https://huggingface.co/api").expect("a URL"),
            status: StatusCode::from_u16(status).expect("a status"),
            code: Some(code.to_owned()),
            message: Some(message.to_owned()),
            body: Body::Empty,
            wait: None,
        }
    }

    fn error(response: &ErrorResponse, token: Option<&str>) -> AttemptError {
        let mut variables = Variables::default();
        if let Some(token) = token {
            variables.set("HF_TOKEN", token);
        }
        variables.set("HF_HOME", "/none");
        let settings = Settings::resolve(&variables, Path::new("/none")).expect("settings");
        let context =
            RequestContext { repo: "o/n", revision: "main", file: None, settings: &settings };
        response.error(&context)
    }

    #[test]
    fn the_kind_depends_on_status_code_server_message_and_token() {
        use FailureKind::{
            FileNotFound, InvalidResponse, LicenceNotAccepted, RateLimited, RepositoryNotFound,
            RevisionNotFound, ServerError, TokenMissing, TokenRefused,
        };
        let token = Some("hf_token");
        for (status, code, message, token, kind) in [
            (401, "", "", None, TokenMissing),
            (401, "", "", token, TokenRefused),
            (401, "RepoNotFound", "", None, RepositoryNotFound),
            (401, "RepoNotFound", "", token, RepositoryNotFound),
            (401, "RepoNotFound", "Invalid credentials", token, TokenRefused),
            (401, "GatedRepo", "", None, TokenMissing),
            (403, "GatedRepo", "", token, LicenceNotAccepted),
            (403, "", "", token, TokenRefused),
            (403, "", "Access is disabled.", token, RepositoryNotFound),
            (404, "RevisionNotFound", "", None, RevisionNotFound),
            (404, "EntryNotFound", "", None, FileNotFound),
            (404, "", "", None, RepositoryNotFound),
            (418, "", "", None, InvalidResponse),
            (429, "", "", None, RateLimited),
            (503, "", "", None, ServerError),
        ] {
            let attempt = error(&response(status, code, message), token);
            assert_eq!(attempt.error.kind, kind, "{status} {code} {message}: {attempt:?}");
            let is_temporary = matches!(kind, RateLimited | ServerError);
            assert_eq!(attempt.retry_after.is_some(), is_temporary, "{attempt:?}");
            assert!(attempt.error.message.starts_with("o/n (revision main): "), "{attempt:?}");
        }
    }

    #[test]
    fn a_token_in_a_server_message_is_hidden() {
        let attempt = error(&response(401, "", "no such token: hf_secret"), Some("hf_secret"));
        assert!(
            attempt.error.message.contains("server message: no such token: [token]"),
            "{attempt:?}"
        );
        assert!(!format!("{attempt:?}").contains("hf_secret"), "{attempt:?}");
    }

    /// Returns a response without the headers of the hub.
    fn bare_response(status: u16, body: &str) -> ErrorResponse {
        let body = Body::of(body.as_bytes());
        ErrorResponse { code: None, message: None, body, ..response(status, "", "") }
    }

    #[test]
    fn an_error_without_the_form_of_the_hub_is_not_its_answer() {
        use FailureKind::{
            InvalidResponse, RateLimited, RepositoryNotFound, ServerError, TokenMissing,
        };
        let page = "<html>Access denied by policy</html>";
        let json = "{\"error\": \"Invalid username or password.\"}";
        for (response, kind, is_answer) in [
            (bare_response(401, page), InvalidResponse, false),
            (bare_response(403, page), InvalidResponse, false),
            (bare_response(404, page), InvalidResponse, false),
            (bare_response(407, page), InvalidResponse, false),
            (bare_response(429, page), RateLimited, false),
            (bare_response(502, page), ServerError, false),
            (bare_response(403, ""), TokenMissing, false),
            (bare_response(401, json), TokenMissing, true),
            (bare_response(404, "{\"errors\": []}"), RepositoryNotFound, true),
            (bare_response(404, "[]"), InvalidResponse, false),
            (response(401, "RepoNotFound", ""), RepositoryNotFound, true),
            (ErrorResponse { body: Body::Page, ..response(403, "", "no") }, TokenMissing, true),
        ] {
            let attempt = error(&response, None);
            assert_eq!(attempt.error.kind, kind, "{response:?}: {attempt:?}");
            assert_eq!(attempt.error.is_answer_of_hub, is_answer, "{response:?}: {attempt:?}");
        }
        let attempt = error(&bare_response(401, json), None);
        let expected = "server message: Invalid username or password.";
        assert!(attempt.error.message.ends_with(expected), "{attempt:?}");
    }

    #[test]
    fn a_requested_wait_is_stated_and_kept() {
        let wait = Some(Duration::from_secs(90));
        let url = Url::parse("https://cdn.example/blob").expect("a URL");
        for response in [
            ErrorResponse { wait, ..bare_response(429, "") },
            ErrorResponse { wait, ..bare_response(503, "") },
            ErrorResponse { wait, url, ..bare_response(503, "") },
        ] {
            let attempt = error(&response, None);
            assert_eq!(attempt.retry_after, wait, "{attempt:?}");
            assert!(attempt.error.message.contains("requests a wait of 90 s"), "{attempt:?}");
        }
    }

    #[test]
    fn a_storage_host_with_an_error_is_named() {
        let url = Url::parse("https://cdn.example/blob?signature=abc").expect("a URL");
        let attempt = error(&ErrorResponse { url, ..bare_response(403, "<Error/>") }, None);
        assert_eq!(attempt.error.kind, FailureKind::InvalidResponse);
        assert!(attempt.error.message.contains("cdn.example, to which"), "{attempt:?}");
        assert!(!format!("{attempt:?}").contains("signature"), "{attempt:?}");
        assert_eq!(attempt.retry_after, Some(Duration::ZERO));
    }
}
