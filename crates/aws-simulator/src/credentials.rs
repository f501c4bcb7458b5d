//! The credentials that were issued or registered: the owner of each key and its expiration. Every service issues
//! credentials through this module and STS looks keys up in it. A directory of files makes them available to other
//! processes.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::account::Logins;
use crate::random;
use crate::sync::lock;
use crate::time::unix_seconds;

/// One set of credentials, and the principal that they authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ASIA…` for temporary credentials, `AKIA…` for long-lived ones.
    pub access_key_id: String,
    /// The secret key.
    pub secret_access_key: String,
    /// `None` for long-lived credentials.
    pub session_token: Option<String>,
    /// `None` for long-lived credentials.
    pub expiration: Option<SystemTime>,
    /// The principal's ARN, as `GetCallerIdentity` returns it.
    pub principal: String,
}

impl Credentials {
    /// New temporary credentials with unique keys.
    pub(crate) fn temporary(principal: String, expiration: SystemTime, session_token_length: usize) -> Self {
        Self {
            access_key_id: format!("ASIA{}", random::base32(16)),
            secret_access_key: secret_access_key(),
            session_token: Some(session_token(session_token_length)),
            expiration: Some(expiration),
            principal,
        }
    }

    /// New long-lived credentials of an IAM user, for [`Simulator::register_credentials`].
    ///
    /// [`Simulator::register_credentials`]: crate::Simulator::register_credentials
    pub fn of_user(name: &str) -> Self {
        Self {
            access_key_id: format!("AKIA{}", random::base32(16)),
            secret_access_key: secret_access_key(),
            session_token: None,
            expiration: None,
            principal: format!("arn:aws:iam::{}:user/{name}", crate::ACCOUNT_ID),
        }
    }
}

/// Part of every secret that the simulator generates, so that a test can search for it where no secret is allowed.
pub const PLANTED: &str = "PLANTED";

fn secret_access_key() -> String {
    format!("{PLANTED}{}", random::base64(40 - PLANTED.len()))
}

/// Real session tokens begin like this and contain `/`, `+` and `=`, which must be percent-encoded in a URL.
fn session_token(length: usize) -> String {
    const OPENING: &str = "IQoJb3JpZ2luX2VjE";
    let fixed = OPENING.len() + PLANTED.len() + 3;
    if length < fixed {
        return random::base64(length);
    }
    format!("{OPENING}{PLANTED}{}/+=", random::base64(length - fixed))
}

/// Every known key, and the directory with a file for each.
pub(crate) struct Keys {
    known: Mutex<HashMap<String, Credentials>>,
    directory: Option<PathBuf>,
    logins: Mutex<Option<Logins>>,
}

impl Keys {
    pub(crate) fn new(directory: Option<PathBuf>) -> io::Result<Self> {
        if let Some(directory) = &directory {
            fs::create_dir_all(directory)?;
        }
        Ok(Self { known: Mutex::default(), directory, logins: Mutex::default() })
    }

    /// Stores these credentials. Their file is written before any client receives them.
    pub(crate) fn record(&self, credentials: &Credentials) -> io::Result<()> {
        self.write(credentials)?;
        lock(&self.known).insert(credentials.access_key_id.clone(), credentials.clone());
        Ok(())
    }

    fn write(&self, credentials: &Credentials) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let users = lock(&self.logins).as_ref().map(|logins| logins.of(&credentials.principal));
        write_file(directory, credentials, users)
    }

    /// From now on the files say who may log in to the database.
    pub(crate) fn set_logins(&self, logins: Logins) -> io::Result<()> {
        *lock(&self.logins) = Some(logins);
        let known: Vec<Credentials> = lock(&self.known).values().cloned().collect();
        known.iter().try_for_each(|credentials| self.write(credentials))
    }

    pub(crate) fn find(&self, access_key_id: &str) -> Option<Credentials> {
        lock(&self.known).get(access_key_id).cloned()
    }
}

/// The file is renamed into place, so that a reader never sees a part of it. Its mode is 0644 because the server that
/// reads it may run as another user.
fn write_file(directory: &Path, credentials: &Credentials, allowed_users: Option<Vec<String>>) -> io::Result<()> {
    let name = &credentials.access_key_id;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an access key id is used as a file name and must consist of letters and digits",
        ));
    }
    let mut content = json!({
        "access_key_id": credentials.access_key_id,
        "secret_access_key": credentials.secret_access_key,
        "session_token": credentials.session_token,
        "expiration": credentials.expiration.map(unix_seconds),
        "principal": credentials.principal,
    });
    if let Some(users) = allowed_users {
        content["allowed_users"] = users.into();
    }
    let draft = directory.join(format!(".{name}.{}", random::base32(8)));
    let mut file = fs::File::create(&draft)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(content.to_string().as_bytes())?;
    drop(file);
    fs::rename(&draft, directory.join(format!("{name}.json")))
}

/// The credentials that one endpoint returns until they are close to expiring.
#[derive(Default)]
pub(crate) struct EndpointCredentials {
    state: Mutex<EndpointState>,
}

#[derive(Default)]
struct EndpointState {
    credentials: Option<Credentials>,
    /// Return `credentials` even if they have expired.
    fixed: bool,
    pinned_expiration: Option<SystemTime>,
    rotations: u64,
}

/// The properties of new credentials.
pub(crate) struct Issue<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) principal: String,
    pub(crate) lifetime: Duration,
    pub(crate) session_token_length: usize,
    pub(crate) now: SystemTime,
}

impl Issue<'_> {
    /// Makes and records new credentials.
    pub(crate) fn make(self, expiration: Option<SystemTime>) -> io::Result<Credentials> {
        let expiration = expiration.unwrap_or(self.now + self.lifetime);
        let credentials = Credentials::temporary(self.principal, expiration, self.session_token_length);
        self.keys.record(&credentials)?;
        Ok(credentials)
    }
}

impl EndpointCredentials {
    /// Returns the cached credentials, or new ones if there are none or they expire soon: within five minutes, as the
    /// metadata service documents it, or within the last quarter of a shorter lifetime.
    pub(crate) fn current(&self, issue: Issue<'_>) -> io::Result<Credentials> {
        let mut state = lock(&self.state);
        if let Some(credentials) = &state.credentials {
            let margin = Duration::from_secs(300).min(issue.lifetime / 4);
            let lasts = credentials.expiration.is_none_or(|expiration| expiration > issue.now + margin);
            if lasts || state.fixed || state.pinned_expiration.is_some() {
                return Ok(credentials.clone());
            }
        }
        state.replace(issue)
    }

    pub(crate) fn rotate(&self, issue: Issue<'_>) -> io::Result<Credentials> {
        lock(&self.state).replace(issue)
    }

    pub(crate) fn rotations(&self) -> u64 {
        lock(&self.state).rotations
    }

    /// Returns exactly these until the next rotation.
    pub(crate) fn fix(&self, credentials: Credentials) {
        let mut state = lock(&self.state);
        state.credentials = Some(credentials);
        state.fixed = true;
    }

    /// Sets the expiration of the cached and of all later credentials. They are not replaced when it is near.
    pub(crate) fn pin(&self, keys: &Keys, expiration: Option<SystemTime>) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.pinned_expiration = expiration;
        if let (Some(credentials), Some(_)) = (&mut state.credentials, expiration) {
            credentials.expiration = expiration;
            keys.record(credentials)?;
        }
        Ok(())
    }
}

impl EndpointState {
    fn replace(&mut self, issue: Issue<'_>) -> io::Result<Credentials> {
        let credentials = issue.make(self.pinned_expiration)?;
        self.rotations += u64::from(self.credentials.is_some());
        self.credentials = Some(credentials.clone());
        self.fixed = false;
        Ok(credentials)
    }
}
