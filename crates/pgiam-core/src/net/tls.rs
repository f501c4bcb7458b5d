//! TLS for the sources that are asked over https: the trust store and the cryptography.
//!
//! Nothing here is read until such a source is used; the system's trust store is then read once per process.

use std::path::Path;
use std::sync::Arc;

use once_cell::race::OnceBox;
use rustls::crypto::{CryptoProvider, KeyProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::SigningKey;
use ureq::tls::{PemItem, RootCerts};

use crate::error::reason;
use crate::sys;

/// The largest trust store that is read. The system's has about 220 KiB.
const MAX_BUNDLE: usize = 8 * 1024 * 1024;

/// The cryptography of every TLS connection: the cipher suites, key exchanges and signatures that rustls has with ring,
/// without client certificates. For a connection to a database whose certificate is examined.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { key_provider: &NoClientKeys, ..rustls::crypto::ring::default_provider() })
}

/// pgiam has no client certificates, so the products need no code that signs with one.
#[derive(Debug)]
struct NoClientKeys;

impl KeyProvider for NoClientKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
        Err(rustls::Error::General("pgiam has no client certificates".into()))
    }
}

/// The trust store: the given file of certificates, and nothing else, or the system's.
pub(crate) fn roots(bundle: Option<&Path>) -> Result<RootCerts, String> {
    if let Some(path) = bundle {
        return read_roots(path);
    }
    static SYSTEM: OnceBox<RootCerts> = OnceBox::new();
    SYSTEM.get_or_try_init(|| read_system_roots().map(Box::new)).cloned()
}

fn read_system_roots() -> Result<RootCerts, String> {
    match SYSTEM_BUNDLES.map(Path::new).into_iter().find(|path| path.exists()) {
        Some(path) => read_roots(path),
        None => {
            Err("no trust store is installed (package ca-certificates), and AWS_CA_BUNDLE does not name one".into())
        }
    }
}

/// Where distributions keep the system's trust store: Debian and Alpine, Fedora and RHEL, older RHEL, openSUSE, BSD.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn read_roots(path: &Path) -> Result<RootCerts, String> {
    let pem = sys::read_bounded(path, MAX_BUNDLE).map_err(|error| format!("{}: {}", path.display(), reason(&error)))?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!("{}: the file has no certificate in PEM form", path.display()));
    }
    Ok(RootCerts::from(certificates))
}
