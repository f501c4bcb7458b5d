//! What all connections share: the options, the settings that may change while the simulator runs, what was issued,
//! what waits and what was asked.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime};

use crate::account::Account;
use crate::credentials::{Credentials, Issue, Keys, Standing};
use crate::faults::{Fault, Faults};
use crate::issued_tokens::{SessionTokens, SsoTokens};
use crate::log::Log;
use crate::options::SimulatorOptions;
use crate::route::Route;
use crate::sync::{Gate, lock};
use crate::time::shifted;
use crate::{ACCOUNT_ID, INSTANCE_ID};

/// The role of the task behind the container endpoint.
pub(crate) const CONTAINER_ROLE: &str = "task-role";

/// All of it.
pub(crate) struct State {
    pub(crate) options: SimulatorOptions,
    settings: Mutex<Settings>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) gate: Gate,
    pub(crate) connections: Connections,
    pub(crate) keys: Keys,
    /// What the instance metadata service hands out.
    pub(crate) instance: Standing,
    /// What the container endpoint hands out.
    pub(crate) task: Standing,
    pub(crate) imds_tokens: SessionTokens,
    pub(crate) sso_tokens: SsoTokens,
}

/// What a test may change on the way.
pub(crate) struct Settings {
    pub(crate) role: Option<String>,
    pub(crate) container_token: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) web_identity_token: String,
    pub(crate) clock_offset: i64,
    pub(crate) account: Account,
    /// Bodies that take the place of good ones.
    pub(crate) bodies: HashMap<Route, String>,
}

impl State {
    pub(crate) fn new(options: SimulatorOptions) -> io::Result<Self> {
        Ok(Self {
            settings: Mutex::new(Settings {
                role: options.role.clone(),
                container_token: options.container_token.clone(),
                external_id: options.external_id.clone(),
                web_identity_token: options.web_identity_token.clone(),
                clock_offset: 0,
                account: Account::default(),
                bodies: HashMap::new(),
            }),
            faults: Faults::default(),
            log: Log::default(),
            gate: Gate::default(),
            connections: Connections::default(),
            keys: Keys::new(options.credentials_dir.clone())?,
            instance: Standing::default(),
            task: Standing::default(),
            imds_tokens: SessionTokens::default(),
            sso_tokens: SsoTokens::new(&options),
            options,
        })
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// The simulator's time: the clock of the options, moved by the offset set since.
    pub(crate) fn now(&self) -> SystemTime {
        let offset = self.settings().clock_offset;
        shifted((self.options.now)(), offset)
    }

    pub(crate) fn issue_for_instance(&self, now: SystemTime) -> Issue<'_> {
        let role = self.settings().role.clone();
        let role = role.as_deref().unwrap_or("no-role");
        self.issue(role, INSTANCE_ID, self.options.lifetime, now)
    }

    pub(crate) fn issue_for_container(&self, now: SystemTime) -> Issue<'_> {
        self.issue(CONTAINER_ROLE, "task", self.options.lifetime, now)
    }

    /// Credentials of a role session that are about to be issued.
    pub(crate) fn issue(&self, role: &str, session: &str, lifetime: Duration, now: SystemTime) -> Issue<'_> {
        self.issue_to(format!("arn:aws:sts::{ACCOUNT_ID}:assumed-role/{role}/{session}"), lifetime, now)
    }

    pub(crate) fn issue_to(&self, principal: String, lifetime: Duration, now: SystemTime) -> Issue<'_> {
        Issue { keys: &self.keys, principal, lifetime, session_token_length: self.options.session_token_length, now }
    }

    /// New credentials at once, of instance and container; those of the instance are returned.
    pub(crate) fn rotate(&self) -> io::Result<Credentials> {
        let now = self.now();
        self.task.rotate(self.issue_for_container(now))?;
        self.instance.rotate(self.issue_for_instance(now))
    }

    pub(crate) fn set_expiration(&self, expiration: Option<SystemTime>) -> io::Result<()> {
        self.instance.pin(&self.keys, expiration)?;
        self.task.pin(&self.keys, expiration)
    }
}

/// One request on its way through a service: what it is for, and what time it is taken to be.
pub(crate) struct Call {
    pub(crate) route: Route,
    pub(crate) now: SystemTime,
    serves_expired: bool,
}

impl Call {
    pub(crate) fn new(route: Route, now: SystemTime, fault: Option<&Fault>) -> Self {
        let now = match fault {
            Some(Fault::ClockOff(seconds)) => shifted(now, *seconds),
            _ => now,
        };
        Self { route, now, serves_expired: fault == Some(&Fault::ExpiredCredentials) }
    }

    /// The expiration to write for credentials that really end then.
    pub(crate) fn expiration(&self, real: Option<SystemTime>) -> Option<SystemTime> {
        if self.serves_expired { Some(shifted(self.now, -3600)) } else { real }
    }
}

/// The open connections, to be shut down when the simulator ends.
#[derive(Default)]
pub(crate) struct Connections {
    accepted: AtomicU64,
    open: Mutex<Vec<Weak<TcpStream>>>,
}

impl Connections {
    /// The number of the connection just accepted, from 1.
    pub(crate) fn count(&self) -> u64 {
        self.accepted.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn register(&self, stream: Weak<TcpStream>) {
        let mut open = lock(&self.open);
        open.retain(|stream| stream.strong_count() > 0);
        open.push(stream);
    }

    /// Ends every read and write under way.
    pub(crate) fn shut_down(&self) {
        for stream in lock(&self.open).drain(..) {
            if let Some(stream) = stream.upgrade() {
                // A connection that the peer has ended already cannot be shut down, and need not be.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}
