//! The simulator as a test holds it: started, steered, asked, and ended by drop.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crate::account::Account;
use crate::credentials::Credentials;
use crate::faults::{Fault, Times};
use crate::log::LoggedRequest;
use crate::options::SimulatorOptions;
use crate::route::Route;
use crate::server;
use crate::state::State;

/// A running simulator. Share it among threads by reference; dropping it ends it.
pub struct Simulator {
    state: Arc<State>,
    address: SocketAddr,
    ipv6_address: Option<SocketAddr>,
    acceptors: Vec<JoinHandle<()>>,
}

impl Simulator {
    /// Binds the port and starts to serve.
    ///
    /// # Errors
    ///
    /// When the port is taken, `[::1]` is asked for and absent, or the credentials directory cannot be created.
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

    /// `http://[::1]:PORT`, when [`SimulatorOptions::ipv6`] asked for it. The port is another one unless it was given.
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

    // --- what was asked ---

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

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state.log.clear();
    }

    /// Waits until the log holds at least `count` requests; false when `timeout` passed first.
    pub fn wait_for_requests(&self, count: usize, timeout: Duration) -> bool {
        self.state.log.wait_for(count, timeout)
    }

    /// How many connections were accepted, those among them that were refused at once included.
    pub fn connections(&self) -> u64 {
        self.state.connections.accepted()
    }

    // --- faults ---

    /// Lets `fault` meet the next requests of `route`: a number of them, or all with [`Times::Forever`]. Each request
    /// meets one fault, the oldest that concerns it; faults injected one after the other play in that order.
    pub fn inject(&self, route: Route, fault: Fault, times: impl Into<Times>) {
        self.state.faults.inject(route, fault, times.into());
    }

    /// Removes all faults that wait. Those under way go on.
    pub fn clear_faults(&self) {
        self.state.faults.clear();
    }

    /// Waits until at least `count` answers are held by [`Fault::Hold`] at once; false when `timeout` passed first.
    pub fn wait_for_held(&self, count: usize, timeout: Duration) -> bool {
        self.state.gate.wait_for_held(count, timeout)
    }

    /// Lets go every answer that [`Fault::Hold`] holds now.
    pub fn release(&self) {
        self.state.gate.release();
    }

    // --- credentials ---

    /// Gives instance and container new credentials at once and returns those of the instance.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn rotate(&self) -> Credentials {
        self.state.rotate().expect(CANNOT_WRITE)
    }

    /// How often the instance's credentials were replaced, by [`rotate`](Self::rotate) or because they came close to
    /// their end.
    pub fn rotations(&self) -> u64 {
        self.state.instance.rotations()
    }

    /// The credentials that the metadata service would hand out now.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn instance_credentials(&self) -> Credentials {
        let issue = self.state.issue_for_instance(self.state.now());
        self.state.instance.current(issue).expect(CANNOT_WRITE)
    }

    /// The credentials that the container endpoint would hand out now.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn container_credentials(&self) -> Credentials {
        let issue = self.state.issue_for_container(self.state.now());
        self.state.task.current(issue).expect(CANNOT_WRITE)
    }

    /// Instance and container hand out exactly these, whatever their expiration says, until the next
    /// [`rotate`](Self::rotate).
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.register_credentials(&credentials);
        self.state.instance.fix(credentials.clone());
        self.state.task.fix(credentials);
    }

    /// Every expiration that instance and container tell from now on, of the credentials held and of later ones:
    /// in the past, close by, or one that does not advance when they rotate. `None` lets expirations run again.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn set_expiration(&self, expiration: Option<SystemTime>) {
        self.state.set_expiration(expiration).expect(CANNOT_WRITE);
    }

    /// The body of every good answer of `route` from now on, exactly; `None` for the service's own again. The checks
    /// before it (tokens, signatures) stay in force.
    pub fn set_body(&self, route: Route, body: Option<&str>) {
        let bodies = &mut self.state.settings().bodies;
        match body {
            Some(body) => bodies.insert(route, body.to_owned()),
            None => bodies.remove(&route),
        };
    }

    /// Makes STS know these credentials, and writes their file.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn register_credentials(&self, credentials: &Credentials) {
        self.state.keys.record(credentials).expect(CANNOT_WRITE);
    }

    /// What is known of an access key id that was issued or registered here.
    pub fn find_credentials(&self, access_key_id: &str) -> Option<Credentials> {
        self.state.keys.find(access_key_id)
    }

    // --- settings of the services ---

    /// Replaces what exists in the account: databases, identities, metrics and log lines.
    pub fn set_account(&self, account: Account) {
        self.state.settings().account = account;
    }

    /// What exists in the account now, changes by `Modify…` and `Put…` included.
    pub fn account(&self) -> Account {
        self.state.settings().account.clone()
    }

    /// Attaches a role to the instance, or none. The credentials held are replaced.
    ///
    /// # Panics
    ///
    /// When the credentials directory cannot be written.
    pub fn set_role(&self, role: Option<&str>) {
        self.state.settings().role = role.map(str::to_owned);
        self.rotate();
    }

    /// No IMDS session token given out so far is good any longer: the next request with one is answered 401.
    pub fn revoke_imds_tokens(&self) {
        self.state.imds_tokens.revoke();
    }

    /// What the `Authorization` header must be at the container endpoint; `None` for anything.
    pub fn set_container_token(&self, token: Option<&str>) {
        self.state.settings().container_token = token.map(str::to_owned);
    }

    /// The external id that AssumeRole demands; `None` for none.
    pub fn set_external_id(&self, external_id: Option<&str>) {
        self.state.settings().external_id = external_id.map(str::to_owned);
    }

    /// The one web identity token that STS accepts.
    pub fn set_web_identity_token(&self, token: &str) {
        token.clone_into(&mut self.state.settings().web_identity_token);
    }

    /// No SSO access token is good any longer, the configured one included; the refresh token stays good.
    pub fn revoke_sso_access_tokens(&self) {
        self.state.sso_tokens.revoke_access();
    }
}

const CANNOT_WRITE: &str = "write to the simulator's credentials directory";

impl Drop for Simulator {
    fn drop(&mut self) {
        self.state.gate.stop();
        for address in [Some(self.address), self.ipv6_address].into_iter().flatten() {
            // Wakes the acceptor. When the attempt fails, connections are waiting and it is awake anyhow.
            let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
        }
        for acceptor in self.acceptors.drain(..) {
            // A panic there has been printed already, and must not hide a test's own.
            let _ = acceptor.join();
        }
    }
}
