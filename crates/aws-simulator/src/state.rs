//! The state that all connections share: options, settings that can change while the simulator runs, issued
//! credentials, injected faults and the log.

use std::collections::HashMap;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, Weak};
use std::time::{Duration, SystemTime};

use crate::account::{Account, Logins};
use crate::credentials::{Credentials, EndpointCredentials, Issue, Keys};
use crate::faults::{Fault, Faults};
use crate::issued_tokens::{SessionTokens, SsoTokens};
use crate::log::Log;
use crate::options::SimulatorOptions;
use crate::route::Route;
use crate::services::signin::SignIn;
use crate::sync::{Gate, lock};
use crate::time::shifted;
use crate::{ACCOUNT_ID, INSTANCE_ID};

/// The role of the task behind the container endpoint.
pub(crate) const CONTAINER_ROLE: &str = "task-role";

/// The shared state.
pub(crate) struct State {
    pub(crate) options: SimulatorOptions,
    settings: Mutex<Settings>,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) gate: Gate,
    pub(crate) connections: Connections,
    pub(crate) keys: Keys,
    /// The credentials of the instance metadata service.
    pub(crate) instance: EndpointCredentials,
    /// The credentials of the container endpoint.
    pub(crate) task: EndpointCredentials,
    pub(crate) imds_tokens: SessionTokens,
    pub(crate) sso_tokens: SsoTokens,
    pub(crate) sign_in: SignIn,
}

/// Settings that a test can change.
pub(crate) struct Settings {
    pub(crate) role: Option<String>,
    pub(crate) container_token: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) mfa: Option<Mfa>,
    pub(crate) web_identity_token: String,
    pub(crate) clock_offset: i64,
    pub(crate) account: Account,
    /// The resource id and the users of the database whose logins the policies decide.
    pub(crate) database: Option<(String, Vec<String>)>,
    /// Bodies that replace those of successful responses.
    pub(crate) bodies: HashMap<Route, String>,
}

/// An MFA device that AssumeRole demands.
#[derive(Clone)]
pub(crate) struct Mfa {
    pub(crate) serial: String,
    /// What it shows now; `None` when that code was used.
    pub(crate) code: Option<String>,
}

impl State {
    pub(crate) fn new(options: SimulatorOptions) -> io::Result<Self> {
        Ok(Self {
            settings: Mutex::new(Settings {
                role: options.role.clone(),
                container_token: options.container_token.clone(),
                external_id: options.external_id.clone(),
                mfa: None,
                web_identity_token: options.web_identity_token.clone(),
                clock_offset: 0,
                account: Account::default(),
                database: None,
                bodies: HashMap::new(),
            }),
            faults: Faults::default(),
            log: Log::default(),
            gate: Gate::default(),
            connections: Connections::default(),
            keys: Keys::new(options.credentials_dir.clone())?,
            instance: EndpointCredentials::default(),
            task: EndpointCredentials::default(),
            imds_tokens: SessionTokens::default(),
            sso_tokens: SsoTokens::new(&options),
            sign_in: SignIn::default(),
            options,
        })
    }

    pub(crate) fn settings(&self) -> MutexGuard<'_, Settings> {
        lock(&self.settings)
    }

    /// Writes into the files of credentials what the policies allow now.
    pub(crate) fn publish_policies(&self) -> io::Result<()> {
        let logins = {
            let settings = self.settings();
            let Some((id, users)) = &settings.database else { return Ok(()) };
            let resource = format!("arn:aws:rds-db:{}:{ACCOUNT_ID}:dbuser:{id}", self.options.region);
            Logins { resource, users: users.clone(), account: settings.account.clone() }
        };
        self.keys.set_logins(logins)
    }

    /// The simulator's time: the clock of the options plus the offset.
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

    /// New credentials of a role session.
    pub(crate) fn issue(&self, role: &str, session: &str, lifetime: Duration, now: SystemTime) -> Issue<'_> {
        self.issue_to(format!("arn:aws:sts::{ACCOUNT_ID}:assumed-role/{role}/{session}"), lifetime, now)
    }

    pub(crate) fn issue_to(&self, principal: String, lifetime: Duration, now: SystemTime) -> Issue<'_> {
        Issue { keys: &self.keys, principal, lifetime, session_token_length: self.options.session_token_length, now }
    }

    /// Replaces the credentials of instance and container; returns those of the instance.
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

/// The context of one request: its route, and the current time for it.
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

    /// The expiration to write for credentials with this expiration.
    pub(crate) fn expiration(&self, real: Option<SystemTime>) -> Option<SystemTime> {
        if self.serves_expired { Some(shifted(self.now, -3600)) } else { real }
    }
}

/// The open connections, which are shut down when the simulator stops.
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

    /// Interrupts every read and write.
    pub(crate) fn shut_down(&self) {
        for stream in lock(&self.open).drain(..) {
            if let Some(stream) = stream.upgrade() {
                // Fails for a connection that the peer has closed, which needs no shutdown.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}
