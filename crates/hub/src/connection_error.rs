//! Classifies errors of a connection: the kind, the hint, and whether a retry may succeed.

use crate::attempt_error::AttemptError;
use crate::error::HubError;
use crate::request_context::RequestContext;
use crate::variables;
use modelgate_model::units::format_duration;
use modelgate_protocol::FailureKind;
use std::error::Error;

/// Returns the error of a request whose connection failed with `error`.
pub(crate) fn connection_error(
    context: &RequestContext<'_>,
    error: reqwest::Error,
) -> AttemptError {
    // the addresses of files contain signatures
    let error = error.without_url();
    let (is_temporary, hub_error) = classify(context, &error);
    let hub_error = hub_error.with_source(error);
    if is_temporary { AttemptError::temporary(hub_error) } else { AttemptError::fatal(hub_error) }
}

/// Returns whether a retry may succeed, and the error.
fn classify(context: &RequestContext<'_>, error: &reqwest::Error) -> (bool, HubError) {
    let causes = causes(error);
    let host = context.host();
    if error.is_timeout() {
        let message =
            format!("{host} sent nothing for {}", format_duration(context.settings.timeout));
        let hint = format!(
            "check the network and the proxy (HTTPS_PROXY); set {} to more seconds; downloaded \
             parts are kept",
            variables::HF_HUB_DOWNLOAD_TIMEOUT
        );
        return (true, context.error(FailureKind::Timeout, &message, hint));
    }
    if is_name_resolution(&causes) {
        let message = format!("the name {host} cannot be resolved: {causes}");
        let hint = format!(
            "check the network and its name servers; or, without a network, download the files \
             on another host and set {}=1; check {} if it is set",
            variables::OFFLINE[0],
            variables::HF_ENDPOINT
        );
        return (true, context.error(FailureKind::NameResolution, &message, hint));
    }
    if error.is_connect() && is_tls(&causes) {
        let message = format!("cannot establish a TLS connection to {host}: {causes}");
        let hint = "set SSL_CERT_FILE to the CA certificate of the proxy; or correct the clock of \
                    the host; or check that the server supports HTTPS";
        return (false, context.error(FailureKind::Tls, &message, hint));
    }
    if error.is_redirect() || error.is_builder() {
        return (false, context.invalid_response(&causes));
    }
    let (message, hint) = if error.is_connect() {
        (
            format!("cannot connect to {host}: {causes}"),
            format!(
                "check the network, the firewall and the proxy (HTTPS_PROXY); or correct {}, \
                 the address of the hub; or allow the storage hosts of the hub in the firewall, \
                 because it stores large files on other hosts",
                variables::HF_ENDPOINT
            ),
        )
    } else {
        (
            format!("the connection to {host} was closed early: {causes}"),
            "start again: the download resumes after the downloaded parts".to_owned(),
        )
    };
    (true, context.error(FailureKind::Connection, &message, hint))
}

/// Returns whether the name of the host could not be resolved.
fn is_name_resolution(causes: &str) -> bool {
    let causes = causes.to_lowercase();
    ["dns error", "failed to lookup address"].iter().any(|words| causes.contains(words))
}

/// Returns whether the connection is not trusted. A connection that was closed during the handshake
/// does not count.
fn is_tls(causes: &str) -> bool {
    let causes = causes.to_lowercase();
    let contains_any = |words: &[&str]| words.iter().any(|words| causes.contains(words));
    contains_any(&["certificate", "tls", "received corrupt message", "handshake"])
        && !contains_any(&["eof", "close_notify", "reset by peer", "broken pipe"])
}

/// Returns the texts of an error and its causes, outermost first, without addresses, because they
/// contain signatures.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(without_addresses(&error.to_string()));
        next = error.source();
    }
    // an error often repeats the text of its cause
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
    let is_kept = |word: &&str| !word.contains("://");
    text.split(' ').filter(is_kept).collect::<Vec<_>>().join(" ").replace(" for url", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_connection_is_not_a_tls_failure() {
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
    fn addresses_are_removed_from_messages() {
        let text = "error sending request for url (https://cdn/blob?signature=abc)";
        assert_eq!(without_addresses(text), "error sending request");
    }
}
