//! The simulator's Rust API: start, control, inspect; dropping it stops it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::account::Account;
use crate::credentials::Credentials;
use crate::faults::{Fault, Times};
use crate::log::LoggedRequest;
use crate::options::SimulatorOptions;
use crate::route::Route;
use crate::server;
use crate::services::signin::KeyFormat;
use crate::state::{Mfa, State};

/// A running simulator. Threads can share it by reference; dropping it stops it.
pub struct Simulator {
    state: Arc<State>,
    address: SocketAddr,
    ipv6_address: Option<SocketAddr>,
    acceptors: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Binds the port and accepts connections.
    ///
    /// # Errors
    ///
    /// If the port is in use, `[::1]` is requested and not available, or the credentials directory cannot be created.
    pub fn start(options: SimulatorOptions) -> io::Result<Self> {
        let mut listeners = vec![TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?];
        if options.ipv6 {
            listeners.push(TcpListener::bind((Ipv6Addr::LOCALHOST, options.port))?);
        }
        let address = listeners[0].local_addr()?;
        let ipv6_address = listeners.get(1).map(TcpListener::local_addr).transpose()?;

        let mut simulator =
            Self { state: Arc::new(State::new(options)?), address, ipv6_address, acceptors: Vec::new() };
        for listener in listeners {
            let state = Arc::clone(&simulator.state);
            let acceptor =
                thread::Builder::new().name("simulator".to_owned()).spawn(move || server::serve(&listener, &state))?;
            simulator.acceptors.push(acceptor);
        }
        Ok(simulator)
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `http://[::1]:PORT`, if [`SimulatorOptions::ipv6`] is set. The port is a different one unless it was given.
    pub fn url_ipv6(&self) -> Option<String> {
        self.ipv6_address.map(|address| format!("http://{address}"))
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The simulator's time now.
    pub fn now(&self) -> SystemTime {
        self.state.now()
    }

    /// Moves the simulator's clock: this many seconds ahead of the clock in its options, or behind when negative.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.state.settings().clock_offset = seconds;
    }

    // --- requests ---

    /// Every request since the start or the last [`clear_requests`](Self::clear_requests), in order of arrival.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.state.log.entries()
    }

    /// The requests of one route.
    pub fn requests_for(&self, route: Route) -> Vec<LoggedRequest> {
        let mut requests = self.requests();
        requests.retain(|request| request.route == route);
        requests
    }

    /// The same, and clears the log: no request is missed or returned twice.
    pub fn take_requests(&self) -> Vec<LoggedRequest> {
        self.state.log.take()
    }

    /// Clears the log.
    pub fn clear_requests(&self) {
        self.state.log.clear();
    }

    /// Waits until the log has at least `count` requests; returns false after `timeout`.
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> bool {
        self.state.log.wait_for(count, timeout)
    }

    /// The number of accepted connections, including those that a fault reset immediately.
    pub fn connections(&self) -> u64 {
        self.state.connections.accepted()
    }

    // --- faults ---

    /// Applies `fault` to the next requests of `route`: to a number of them, or to all with [`Times::Forever`]. One
    /// fault applies to a request: the oldest that was injected for its route.
    pub fn inject(&self, route: Route, fault: Fault, times: impl Into<Times>) {
        self.state.faults.inject(route, fault, times.into());
    }

    /// Applies `fault` to one in `one_in` requests of `route`, chosen at random among those that no other fault is for.
    pub fn inject_at_random(&self, route: Route, fault: Fault, one_in: u32) {
        self.state.faults.inject_at_random(route, fault, one_in);
    }

    /// Removes all injected faults. Requests to which one already applies are not affected.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// Waits until at least `count` responses wait because of [`Fault::Hold`]; returns false after `timeout`.
    pub fn wait_for_held(&self, count: usize, timeout: Duration) -> bool {
        self.state.gate.wait_for_held(count, timeout)
    }

    /// Sends every response that waits because of [`Fault::Hold`].
    pub fn release(&self) {
        self.state.gate.release();
    }

    // --- credentials ---

    /// Replaces the credentials of instance and container and returns those of the instance.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn rotate(&self) -> Credentials {
        self.state.rotate().expect(CANNOT_WRITE)
    }

    /// How often the instance's credentials were replaced, by [`rotate`](Self::rotate) or because they were about to
    /// expire.
    pub fn rotations(&self) -> u64 {
        self.state.instance.rotations()
    }

    /// The credentials that the metadata service would return now.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn instance_credentials(&self) -> Credentials {
        let issue = self.state.issue_for_instance(self.state.now());
        self.state.instance.current(issue).expect(CANNOT_WRITE)
    }

    /// The credentials that the container endpoint would return now.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn container_credentials(&self) -> Credentials {
        let issue = self.state.issue_for_container(self.state.now());
        self.state.task.current(issue).expect(CANNOT_WRITE)
    }

    /// Instance and container return exactly these, even if they have expired, until the next
    /// [`rotate`](Self::rotate).
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.register_credentials(&credentials);
        self.state.instance.fix(credentials.clone());
        self.state.task.fix(credentials);
    }

    /// Sets the expiration of the current and all later credentials of instance and container: in the past, soon, or
    /// one that does not advance when they rotate. `None` restores normal expirations.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn set_expiration(&self, expiration: Option<SystemTime>) {
        self.state.set_expiration(expiration).expect(CANNOT_WRITE);
    }

    /// The exact body of every successful response of `route` from now on; `None` restores the service's own. Tokens
    /// and signatures are still checked.
    pub fn set_body(&self, route: Route, body: Option<&str>) {
        let bodies = &mut self.state.settings().bodies;
        match body {
            Some(body) => bodies.insert(route, body.to_owned()),
            None => bodies.remove(&route),
        };
    }

    /// Registers these credentials, so that STS accepts them, and writes their file.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn register_credentials(&self, credentials: &Credentials) {
        self.state.keys.record(credentials).expect(CANNOT_WRITE);
    }

    /// The credentials of an access key id that was issued or registered.
    pub fn find_credentials(&self, access_key_id: &str) -> Option<Credentials> {
        self.state.keys.find(access_key_id)
    }

    // --- settings of the services ---

    /// Replaces the account: databases, identities, metrics and log lines.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn set_account(&self, account: Account) {
        self.state.settings().account = account;
        self.state.publish_policies().expect(CANNOT_WRITE);
    }

    /// From now on the account's policies decide who may log in to the database with this resource id as one of these
    /// users: the files of the credentials directory say so, for the server that reads them.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn decide_logins(&self, resource_id: &str, users: &[&str]) {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        self.state.settings().database = Some((resource_id.to_owned(), users));
        self.state.publish_policies().expect(CANNOT_WRITE);
    }

    /// The account now, including changes by `Modify…` and `Put…`.
    pub fn account(&self) -> Account {
        self.state.settings().account.clone()
    }

    /// Attaches a role to the instance, or none. Its credentials are replaced.
    ///
    /// # Panics
    ///
    /// If the credentials directory cannot be written.
    pub fn set_role(&self, role: Option<&str>) {
        self.state.settings().role = role.map(str::to_owned);
        self.rotate();
    }

    /// Revokes every IMDS session token issued so far: a request with one gets 401.
    pub fn revoke_imds_tokens(&self) {
        self.state.imds_tokens.revoke();
    }

    /// The `Authorization` header that the container endpoint requires; `None` for any or none.
    pub fn set_container_token(&self, token: Option<&str>) {
        self.state.settings().container_token = token.map(str::to_owned);
    }

    /// The external id that AssumeRole requires; `None` for none.
    pub fn set_external_id(&self, external_id: Option<&str>) {
        self.state.settings().external_id = external_id.map(str::to_owned);
    }

    /// AssumeRole demands this MFA device and the code that it shows now, which is good for one use.
    pub fn set_mfa(&self, serial: &str, code: &str) {
        self.state.settings().mfa = Some(Mfa { serial: serial.to_owned(), code: Some(code.to_owned()) });
    }

    /// Logs somebody in as `aws login` does, and returns what the AWS CLI writes into its cache. `login_session` is the
    /// ARN of the user or of the role's session; the credentials last 15 minutes.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn log_in(&self, login_session: &str, key: KeyFormat) -> Value {
        self.state.sign_in.log_in(&self.state, login_session, key).expect(CANNOT_WRITE)
    }

    /// The one web identity token that STS accepts.
    pub fn set_web_identity_token(&self, token: &str) {
        token.clone_into(&mut self.state.settings().web_identity_token);
    }

    /// Revokes every SSO access token, including the configured one; the refresh token stays valid.
    pub fn revoke_sso_access_tokens(&self) {
        self.state.sso_tokens.revoke_access();
    }
}

const CANNOT_WRITE: &str = "write to the simulator's credentials directory";

impl Drop for Simulator {
    fn drop(&mut self) {
        self.state.gate.stop();
        for address in [Some(self.address), self.ipv6_address].into_iter().flatten() {
            // Wakes the acceptor. If the attempt fails, connections are waiting and the acceptor is not asleep.
            let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        }
        for acceptor in self.acceptors.drain(..) {
            // A panic there has been printed already and must not hide a panic of the test.
            let _ = acceptor.join();
        }
    }
}
