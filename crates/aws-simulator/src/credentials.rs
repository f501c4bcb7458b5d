//! The credentials this simulator has handed out or was told of: who owns a key, and until when. Every service issues
//! through here, STS looks keys up here, and a directory of files tells other processes.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::random;
use crate::sync::lock;
use crate::time::unix_seconds;

/// One set of credentials, and whom it speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ASIA…` for temporary credentials, `AKIA…` for long-lived ones.
    pub access_key_id: String,
    /// The key that signs.
    pub secret_access_key: String,
    /// Absent for long-lived credentials.
    pub session_token: Option<String>,
    /// Absent for long-lived credentials.
    pub expiration: Option<SystemTime>,
    /// The ARN they speak for, as `GetCallerIdentity` tells it.
    pub principal: String,
}

impl Credentials {
    /// New temporary credentials with keys nobody else has.
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

/// In every secret that the simulator makes up, so that a test can look for it where no secret may be.
pub const PLANTED: &str = "PLANTED";

fn secret_access_key() -> String {
    format!("{PLANTED}{}", random::base64(40 - PLANTED.len()))
}

/// Real session tokens begin like this, and contain `/`, `+` and `=`, which a token in a URL must escape.
fn session_token(length: usize) -> String {
    const OPENING: &str = "IQoJb3JpZ2luX2VjE";
    let fixed = OPENING.len() + PLANTED.len() + 3;
    if length < fixed {
        return random::base64(length);
    }
    format!("{OPENING}{PLANTED}{}/+=", random::base64(length - fixed))
}

/// Every key known, and the directory that mirrors them.
pub(crate) struct Keys {
    known: Mutex<HashMap<String, Credentials>>,
    directory: Option<PathBuf>,
}

impl Keys {
    pub(crate) fn new(directory: Option<PathBuf>) -> io::Result<Self> {
        if let Some(directory) = &directory {
            fs::create_dir_all(directory)?;
        }
        Ok(Self { known: Mutex::default(), directory })
    }

    /// Remembers these credentials, and writes their file before anybody can hold them.
    pub(crate) fn record(&self, credentials: &Credentials) -> io::Result<()> {
        if let Some(directory) = &self.directory {
            write_file(directory, credentials)?;
        }
        lock(&self.known).insert(credentials.access_key_id.clone(), credentials.clone());
        Ok(())
    }

    pub(crate) fn find(&self, access_key_id: &str) -> Option<Credentials> {
        lock(&self.known).get(access_key_id).cloned()
    }
}

/// The rename makes the file appear whole; the server process that reads it may be of another user, hence 0644.
fn write_file(directory: &Path, credentials: &Credentials) -> io::Result<()> {
    let name = &credentials.access_key_id;
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an access key id names a file and must be letters and digits",
        ));
    }
    let content = json!({
        "access_key_id": credentials.access_key_id,
        "secret_access_key": credentials.secret_access_key,
        "session_token": credentials.session_token,
        "expiration": credentials.expiration.map(unix_seconds),
        "principal": credentials.principal,
    });
    let draft = directory.join(format!(".{name}.{}", random::base32(8)));
    let mut file = fs::File::create(&draft)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(content.to_string().as_bytes())?;
    drop(file);
    fs::rename(&draft, directory.join(format!("{name}.json")))
}

/// The credentials that one endpoint keeps handing out until they are close to their end.
#[derive(Default)]
pub(crate) struct Standing {
    state: Mutex<StandingState>,
}

#[derive(Default)]
struct StandingState {
    held: Option<Credentials>,
    /// Serve what is held whatever its expiration says.
    fixed: bool,
    pinned_expiration: Option<SystemTime>,
    rotations: u64,
}

/// What new credentials are to be like.
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

impl Standing {
    /// What is held, or new credentials when nothing is, or when it is close to its end: the last five minutes, as the
    /// metadata service promises, or the last quarter of a shorter lifetime.
    pub(crate) fn current(&self, issue: Issue<'_>) -> io::Result<Credentials> {
        let mut state = lock(&self.state);
        if let Some(held) = &state.held {
            let margin = Duration::from_secs(300).min(issue.lifetime / 4);
            let lasts = held.expiration.is_none_or(|expiration| expiration > issue.now + margin);
            if lasts || state.fixed || state.pinned_expiration.is_some() {
                return Ok(held.clone());
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

    /// Serves exactly these until the next rotation.
    pub(crate) fn fix(&self, credentials: Credentials) {
        let mut state = lock(&self.state);
        state.held = Some(credentials);
        state.fixed = true;
    }

    /// What is held and what comes later ends then, and is not replaced for being near its end.
    pub(crate) fn pin(&self, keys: &Keys, expiration: Option<SystemTime>) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.pinned_expiration = expiration;
        if let (Some(held), Some(_)) = (&mut state.held, expiration) {
            held.expiration = expiration;
            keys.record(held)?;
        }
        Ok(())
    }
}

impl StandingState {
    fn replace(&mut self, issue: Issue<'_>) -> io::Result<Credentials> {
        let credentials = issue.make(self.pinned_expiration)?;
        self.rotations += u64::from(self.held.is_some());
        self.held = Some(credentials.clone());
        self.fixed = false;
        Ok(credentials)
    }
}
