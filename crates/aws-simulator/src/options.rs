//! Options for starting a simulator.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Returns the current time; tests can supply their own.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Options of a [`Simulator`](crate::Simulator). Start with [`Default`] and change what the test needs:
///
/// ```
/// use aws_simulator::SimulatorOptions;
///
/// let options = SimulatorOptions {
///     region: "us-east-1".to_owned(),
///     keep_alive: true,
///     ..SimulatorOptions::default()
/// };
/// assert_eq!(options.role.as_deref(), Some("app-server-role"));
/// ```
#[derive(Clone)]
pub struct SimulatorOptions {
    /// The port on 127.0.0.1 (and `[::1]`); with 0, the default, the system chooses.
    pub port: u16,
    /// Also listen on `[::1]`. Default: false.
    pub ipv6: bool,
    /// The role attached to the instance; `None` for none. Default: `app-server-role`.
    pub role: Option<String>,
    /// The region of the instance, and the one required in signatures for STS. Default: `eu-central-1`.
    pub region: String,
    /// Lifetime of credentials of instance, container and SSO. Default: 6 hours. STS uses `DurationSeconds`.
    pub lifetime: Duration,
    /// Directory where every issued or registered credential is written as `ACCESS_KEY_ID.json`. Created if it does not
    /// exist. Default: none.
    pub credentials_dir: Option<PathBuf>,
    /// Length of session tokens in bytes. Default: 1000.
    pub session_token_length: usize,
    /// Keep connections open between requests. Default: false, every response has `Connection: close`.
    pub keep_alive: bool,
    /// A pause before every response. Default: none.
    pub delay: Duration,
    /// The simulator's clock. Default: the system's.
    pub now: Clock,
    /// The `Authorization` header that the container endpoint requires. Default: `None`, any or none.
    pub container_token: Option<String>,
    /// The external id that AssumeRole requires. Default: none.
    pub external_id: Option<String>,
    /// The one web identity token that STS accepts. Default: `simulated-web-identity-token`.
    pub web_identity_token: String,
    /// An access token that the SSO portal accepts and that does not expire. Default: `simulated-sso-access-token`.
    pub sso_access_token: String,
    /// The refresh token that OIDC accepts first. Default: `simulated-sso-refresh-token`.
    pub sso_refresh_token: String,
    /// The registered client id of OIDC. Default: `simulated-client-id`.
    pub sso_client_id: String,
    /// That client's secret. Default: `simulated-client-secret`.
    pub sso_client_secret: String,
    /// Lifetime of access tokens from OIDC. Default: 8 hours.
    pub sso_access_token_lifetime: Duration,
}

impl Default for SimulatorOptions {
    fn default() -> Self {
        Self {
            port: 0,
            ipv6: false,
            role: Some("app-server-role".to_owned()),
            region: "eu-central-1".to_owned(),
            lifetime: Duration::from_secs(6 * 3600),
            credentials_dir: None,
            session_token_length: 1000,
            keep_alive: false,
            delay: Duration::ZERO,
            now: Arc::new(SystemTime::now),
            container_token: None,
            external_id: None,
            web_identity_token: "simulated-web-identity-token".to_owned(),
            sso_access_token: "simulated-sso-access-token".to_owned(),
            sso_refresh_token: "simulated-sso-refresh-token".to_owned(),
            sso_client_id: "simulated-client-id".to_owned(),
            sso_client_secret: "simulated-client-secret".to_owned(),
            sso_access_token_lifetime: Duration::from_secs(8 * 3600),
        }
    }
}
