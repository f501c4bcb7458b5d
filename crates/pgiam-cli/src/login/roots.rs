//! The root certificates with which libpq compares the server's.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::Context;

/// What libpq compares the certificate with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// Nothing: `sslmode=require` without a root certificate, or with one that does not exist.
    None,
    File(PathBuf),
    System,
}

/// Where distributions keep the system's trust store.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

impl Roots {
    /// As libpq does: `sslrootcert`, else `~/.postgresql/root.crt`, which need not exist unless the certificate must be
    /// verified.
    pub(crate) fn of(context: &Context<'_>, sslmode: &str) -> Self {
        match context.connection.sslrootcert.as_ref().map(|given| given.value.as_str()) {
            Some("system") => Self::System,
            Some(path) if !path.is_empty() => {
                let found = (context.surroundings.read)(Path::new(path));
                let is_missing = found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
                if is_missing && !sslmode.starts_with("verify") { Self::None } else { Self::File(path.into()) }
            }
            _ => {
                let environment = context.surroundings.environment.get("HOME").ok().flatten().map(PathBuf::from);
                let home = environment.or_else(context.surroundings.home_directory);
                let file = home.unwrap_or_default().join(".postgresql/root.crt");
                let needed = sslmode.starts_with("verify");
                if needed || (context.surroundings.read)(&file).is_ok() { Self::File(file) } else { Self::None }
            }
        }
    }

    /// The certificates.
    pub(crate) fn read(&self, context: &Context<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
        let path = match self {
            Self::None => return Ok(Vec::new()),
            Self::File(path) => path.as_path(),
            Self::System => SYSTEM_BUNDLES
                .map(Path::new)
                .into_iter()
                .find(|path| path.exists())
                .ok_or("the system has no trust store (package ca-certificates)")?,
        };
        let text = (context.surroundings.read)(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
        if certificates.is_empty() {
            return Err(format!("{}: the file has no certificate in PEM form", path.display()));
        }
        Ok(certificates)
    }
}
