//! The configuration of TLS: the trusted certificates of the operating system, and the cryptography
//! of ring.

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use std::sync::Arc;

/// Returns the configuration. `SSL_CERT_FILE` and `SSL_CERT_DIR` change the trusted certificates.
///
/// # Errors
/// The certificates of the operating system cannot be read.
pub(crate) fn client_config() -> Result<ClientConfig, rustls::Error> {
    // given explicitly, because the default provider is global state of the process
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
