//! The configuration of TLS: the certificates that the system trusts, and the cryptography of ring.

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;

/// Returns the configuration. Which certificates are trusted can be changed by `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`.
///
/// # Errors
/// The system's certificates cannot be read.
pub(crate) fn client_config() -> Result<ClientConfig, rustls::Error> {
    // given explicitly: the default provider is a state of the whole process
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
