//! Makes the tokens for a list of targets, and the text of a password file with them.

use pgiam_core::token::endpoint::is_custom_cluster_endpoint;
use pgiam_core::{Client, ErrorKind, RegionSource, Token, TokenRequest};
use pgiam_libpq::passfile;
use zeroize::Zeroizing;

use crate::args::SigningArguments;
use crate::failure::Failure;
use crate::mfa;
use crate::output::warn;
use crate::targets::Target;

/// Tokens that were made together.
pub(crate) struct TokenSet {
    /// One for each target, in the same order.
    pub(crate) tokens: Vec<Token>,
    /// When the first of them expires, in Unix seconds.
    pub(crate) expires_at: i64,
}

/// Makes tokens for a list of targets, any number of times.
pub(crate) struct TokenMaker {
    pub(crate) targets: Vec<Target>,
    region: Option<String>,
    clients: Vec<ProfileClient>,
}

/// The client for the targets with this profile.
struct ProfileClient {
    profile: Option<String>,
    client: Client,
}

impl TokenMaker {
    /// The flags override the targets' own region and profile.
    pub(crate) fn new(targets: Vec<Target>, signing: &SigningArguments) -> Result<Self, Failure> {
        let mut clients: Vec<ProfileClient> = Vec::new();
        for Target { profile, .. } in &targets {
            if !clients.iter().any(|known| known.profile == *profile) {
                let client = mfa::client(signing.settings(profile.as_deref())?);
                clients.push(ProfileClient { profile: profile.clone(), client });
            }
        }
        Ok(Self { targets, region: signing.region.clone(), clients })
    }

    /// Makes a token for each target.
    pub(crate) fn make(&self) -> Result<TokenSet, Failure> {
        let mut set = TokenSet { tokens: Vec::with_capacity(self.targets.len()), expires_at: i64::MAX };
        for target in &self.targets {
            let token = self.token(target)?;
            set.expires_at = set.expires_at.min(token.expires_at());
            set.tokens.push(token);
        }
        Ok(set)
    }

    fn token(&self, target: &Target) -> Result<Token, Failure> {
        let known = self.clients.iter().find(|known| known.profile == target.profile);
        let known = known.ok_or_else(|| Failure::failed("internal error: no client for the profile"))?;
        let request = TokenRequest {
            host: &target.endpoint.host,
            port: target.endpoint.port.into(),
            region: self.region.as_deref().or(target.region.as_deref()),
            user: &target.user,
        };
        known.client.generate_token(&request).map_err(|error| match error.kind() {
            ErrorKind::InvalidArgument => Failure::usage(error.message()),
            _ => Failure::failed(error.message()),
        })
    }

    /// The lines of a password file. Each host is listed as given and in lower case, for programs that convert it.
    pub(crate) fn passfile(&self, set: &TokenSet) -> Result<Zeroizing<String>, Failure> {
        let mut text = Zeroizing::new(Vec::with_capacity(4096 * self.targets.len()));
        for (target, token) in self.targets.iter().zip(&set.tokens) {
            let lower = target.host.to_ascii_lowercase();
            for host in [Some(&target.host), Some(&lower).filter(|lower| **lower != target.host)].into_iter().flatten()
            {
                passfile::push_line(&mut text, host, &target.port.to_string(), &target.user, token.as_str().as_bytes())
                    .map_err(Failure::usage)?;
            }
        }
        String::from_utf8(std::mem::take(&mut *text))
            .map(Zeroizing::new)
            .map_err(|_| Failure::failed("internal error: a password file is not UTF-8"))
    }
}

/// Prints warnings about tokens that the server may not accept.
pub(crate) fn warn_if_doubtful(tokens: &[Token]) {
    for token in tokens {
        for warning in [doubtful_region(token), custom_endpoint(token)].into_iter().flatten() {
            warn(&warning);
        }
    }
}

/// The region is a guess, and the server accepts the token only if the guess is right.
fn doubtful_region(token: &Token) -> Option<String> {
    if matches!(token.region_source(), RegionSource::Argument | RegionSource::EndpointName) {
        return None;
    }
    let source = token.region_source().describe();
    let (host, region) = (token.host(), token.region());
    Some(if token.endpoint_recognized() {
        format!(
            "{host} does not contain its region; {region} is from {source}. The token is valid only if the database is in \
             that region: pass --region to be sure"
        )
    } else {
        format!(
            "{host} is not an endpoint name of RDS, Aurora or Aurora DSQL, and region {region} is from {source}. The \
             token is valid only if they are the server's own name and region: pass the name of the endpoint, or --region"
        )
    })
}

fn custom_endpoint(token: &Token) -> Option<String> {
    let host = token.host();
    is_custom_cluster_endpoint(host).then(|| {
        format!(
            "{host} is an Aurora custom endpoint, for which Aurora accepts no tokens: sign for the cluster's own \
             endpoint, with PGIAM_HOST=ENDPOINT or iam_host=ENDPOINT"
        )
    })
}
