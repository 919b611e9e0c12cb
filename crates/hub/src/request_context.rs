//! The repository, revision and file of a request, for its errors.

use crate::error::HubError;
use crate::settings::Settings;
use crate::variables;
use modelgate_protocol::FailureKind;

/// The repository, revision and file of a request, with the settings of the hub.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestContext<'a> {
    /// The repository, `owner/name`.
    pub(crate) repo: &'a str,
    /// The revision or commit.
    pub(crate) revision: &'a str,
    /// The path of the file. `None` for a request that is not about one file.
    pub(crate) file: Option<&'a str>,
    pub(crate) settings: &'a Settings,
}

impl<'a> RequestContext<'a> {
    /// Returns the context of `file` in the same revision.
    pub(crate) fn with_file(self, file: &'a str) -> RequestContext<'a> {
        RequestContext { file: Some(file), ..self }
    }

    /// Returns the address of the page of the repository.
    pub(crate) fn page(&self) -> String {
        format!("{}/{}", self.settings.endpoint.as_str().trim_end_matches('/'), self.repo)
    }

    /// Returns the host of the hub, with the port if the address contains one.
    pub(crate) fn host(&self) -> String {
        let url = &self.settings.endpoint;
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        format!("{}{port}", url.host_str().unwrap_or_default())
    }

    /// Returns an error with a message that begins with the repository, revision and file. The
    /// token is removed from message and hint.
    pub(crate) fn error(
        &self,
        kind: FailureKind,
        message: &str,
        hint: impl Into<String>,
    ) -> HubError {
        let message = self.settings.hide_token(&format!("{}: {message}", self.subject()));
        HubError::new(kind, message, self.settings.hide_token(&hint.into()))
    }

    /// Returns the error for an answer that is not that of a hub.
    pub(crate) fn invalid_response(&self, message: &str) -> HubError {
        self.error(
            FailureKind::InvalidResponse,
            &format!("{} does not answer like a hub: {message}", self.host()),
            format!(
                "log in to the network if it has a login page; check the proxy; check {} (now \
                 {})",
                variables::HF_ENDPOINT,
                self.settings.endpoint
            ),
        )
    }

    /// Returns the repository, revision and file as the start of a message.
    fn subject(&self) -> String {
        let RequestContext { repo, revision, file, .. } = self;
        match file {
            Some(file) => format!("{repo} (revision {revision}), {file}"),
            None => format!("{repo} (revision {revision})"),
        }
    }
}
