//! Signs a request to an AWS service with Signature Version 4, by `aws-sigv4`.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

use crate::error::{Error, ErrorKind};
use crate::secret::Secret;
use crate::time::system_time;

/// What a signature is made with.
pub(crate) struct Signer<'a> {
    pub(crate) credentials: &'a Credentials,
    /// The service's name in the signature, such as `sts`.
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl Signer<'_> {
    /// The headers that a POST request to `url` needs besides `headers`, which are signed too.
    pub(crate) fn headers(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Vec<(String, Secret)>, Error> {
        let internal = || {
            let message = format!("internal error: the request to {url} cannot be signed; please report this bug");
            Error::new(ErrorKind::Internal, message)
        };
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(system_time(self.now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| internal())?
            .into();
        let request = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()))
            .map_err(|_| internal())?;
        let (instructions, _) = sign(request, &parameters).map_err(|_| internal())?.into_parts();
        let (signed, _) = instructions.into_parts();
        Ok(signed.iter().map(|header| (header.name().to_owned(), Secret::new(header.value().to_owned()))).collect())
    }
}
