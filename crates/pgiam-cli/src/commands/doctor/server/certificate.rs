//! The server's certificate: whether it is trusted, whom it names, who issued it.
//!
//! rustls leaves this to us ([`AcceptAny`]), because the names in a certificate that is not trusted are of interest too:
//! behind a tunnel they tell which endpoint answers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Whether a certificate is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Trusted,
    /// None of the root certificates issued it.
    UnknownIssuer,
    Expired,
    Other(String),
}

/// A server's certificate.
#[derive(Debug)]
pub(super) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    /// The DNS names in it.
    pub(super) names: Vec<String>,
    /// The common name of its issuer.
    pub(super) issuer: Option<String>,
    subject: Option<String>,
}

impl Certificate {
    pub(super) fn new(chain: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let first = chain.first().ok_or("the server sent no certificate")?;
        let certificate = EndEntityCert::try_from(first).map_err(|error| format!("the certificate: {error}"))?;
        let names = certificate.valid_dns_names().map(str::to_owned).collect();
        let (issuer, subject) = (common_name(certificate.issuer()), common_name(certificate.subject()));
        Ok(Self { names, issuer, subject, chain })
    }

    /// Whether one of the root certificates issued it, by way of the others that the server sent.
    pub(super) fn trust(&self, roots: &[CertificateDer<'_>], provider: &CryptoProvider) -> Trust {
        let Some((first, others)) = self.chain.split_first() else { return Trust::UnknownIssuer };
        let Ok(certificate) = EndEntityCert::try_from(first) else { return Trust::UnknownIssuer };
        // OpenSSL trusts a certificate that is its own root.
        if roots.contains(first) {
            return Trust::Trusted;
        }
        let anchors: Vec<_> = roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let algorithms = provider.signature_verification_algorithms.all;
        match certificate.verify_for_usage(
            algorithms,
            &anchors,
            others,
            UnixTime::now(),
            KeyUsage::server_auth(),
            None,
            None,
        ) {
            Ok(_) => Trust::Trusted,
            Err(webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity) => Trust::UnknownIssuer,
            Err(webpki::Error::CertExpired { .. }) => Trust::Expired,
            Err(error) => Trust::Other(error.to_string()),
        }
    }

    /// Whether it is for this host.
    pub(super) fn is_for(&self, host: &str) -> bool {
        if self.names.is_empty() && self.subject.as_deref() == Some(host) {
            return true;
        }
        let certificate = self.chain.first().and_then(|first| EndEntityCert::try_from(first).ok());
        let name = ServerName::try_from(host).ok();
        certificate
            .zip(name)
            .is_some_and(|(certificate, name)| certificate.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

/// The common name in a distinguished name: the last attribute 2.5.4.3, of which DER has the identifier, the type, the
/// length and the text.
fn common_name(name: &[u8]) -> Option<String> {
    const IDENTIFIER: &[u8] = &[6, 3, 0x55, 4, 3];
    let at = name.windows(IDENTIFIER.len()).rposition(|window| window == IDENTIFIER)?;
    let [_, length, rest @ ..] = name.get(at + IDENTIFIER.len()..)? else { return None };
    let text = rest.get(..usize::from(*length)).filter(|_| *length < 128)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// Accepts every certificate in the handshake, and checks that the server has its key.
#[derive(Debug)]
pub(super) struct AcceptAny(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_name_of_a_ca_is_read() {
        let name =
            b"\x31\x0b0\x09\x06\x03\x55\x04\x06\x13\x02US\x31\x1d0\x1b\x06\x03\x55\x04\x03\x0c\x14Amazon RDS us-east-1";
        assert_eq!(common_name(name).as_deref(), Some("Amazon RDS us-east-1"));
        assert_eq!(common_name(b"\x06\x03\x55\x04\x03\x0c\xff"), None);
        assert_eq!(common_name(b""), None);
    }
}
