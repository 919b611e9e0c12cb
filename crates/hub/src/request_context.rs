//! What a request is about, for the errors that it can end with.

use crate::error::HubError;
use crate::settings::Settings;
use crate::variables;
use modelgate_protocol::FailureKind;

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    /// The repository.
    pub(crate) repo: &'a str,
    /// The revision or commit.
    pub(crate) revision: &'a str,
    /// The file; `None` for the repository as a whole.
    pub(crate) file: Option<&'a str>,
    pub(crate) settings: &'a Settings,
}

impl<'a> RequestContext<'a> {
    /// Returns the context of `file` in the same revision.
    pub(crate) fn with_file(self, file: &'a str) -> RequestContext<'a> {
        RequestContext { file: Some(file), ..self }
    }

    /// Returns the address of the repository's page.
    pub(crate) fn page(&self) -> String {
        format!("{}/{}", self.settings.endpoint.as_str().trim_end_matches('/'), self.repo)
    }

    /// Returns the hub's host, with the port if the address has one.
    pub(crate) fn host(&self) -> String {
        let url = &self.settings.endpoint;
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        format!("{}{port}", url.host_str().unwrap_or_default())
    }

    /// Returns an error whose message begins with what was requested. Neither text contains the token.
    pub(crate) fn error(
        &self,
        kind: FailureKind,
        message: &str,
        hint: impl Into<String>,
    ) -> HubError {
        let message = self.settings.hide_token(&format!("{}: {message}", self.subject()));
        HubError::new(kind, message, self.settings.hide_token(&hint.into()))
    }

    /// Returns the error for an answer that a hub does not give.
    pub(crate) fn bad_answer(&self, message: &str) -> HubError {
        self.error(
            FailureKind::BadAnswer,
            &format!("{} does not answer like a hub: {message}", self.host()),
            format!(
                "log in to the network if it has a login page; check the proxy; check {}, which \
                 is {} now",
                variables::HF_ENDPOINT,
                self.settings.endpoint
            ),
        )
    }

    /// Returns what was requested, for a message.
    fn subject(&self) -> String {
        let RequestContext { repo, revision, file, .. } = self;
        match file {
            Some(file) => format!("{repo} (revision {revision}), {file}"),
            None => format!("{repo} (revision {revision})"),
        }
    }
}
