//! TLS settings, made for each use: nothing is installed for the whole process.

use crate::ClientError;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// TLS 1.2 and 1.3 by ring, trusting the certificate authorities of the Mozilla list.
pub(crate) fn client_config() -> Result<ClientConfig, ClientError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::crypto)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
