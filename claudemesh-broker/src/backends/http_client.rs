//! The HTTP client of backends that are reached that way.

use std::sync::Arc;

use reqwest::Client;

/// A client with TLS 1.2 and 1.3 by ring that trusts the certificate authorities of the Mozilla list, and follows nobody
/// elsewhere: what is sent may carry a secret.
///
/// # Errors
/// What is wrong, if TLS cannot be set up.
pub(super) fn http_client() -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.without_url().to_string())
}
