//! Host names to addresses, by the C library and within a deadline.
//!
//! `getaddrinfo` knows no deadline, so it runs on a thread of its own that takes no signals ([`spawn_without_signals`]).
//! After a time-out this thread remains until the C library gives up, by its default after 5 seconds for each name server
//! and try; it has the name and nothing else, and its result is dropped. Where the system has no thread to give, the look-up
//! runs on the calling thread and may take that long. Literal addresses need neither.
//!
//! The C library reads `RES_OPTIONS`, `LOCALDOMAIN` and its own files at a look-up, as it does for libpq's look-up of
//! the database server.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::error::reason;
use crate::sys::spawn_without_signals;

/// Whether an address may be connected to.
pub(crate) type AddressRule = fn(IpAddr) -> bool;

/// Resolves names within the time that ureq allows, and refuses a name when any of its addresses breaks the rule.
#[derive(Debug)]
pub(crate) struct BoundedResolver {
    pub(crate) rule: Option<AddressRule>,
}

/// The room that ureq has for the addresses of a name.
const MOST_ADDRESSES: usize = 16;

/// Why a name has no address to connect to.
#[derive(Debug)]
pub(crate) enum ResolveError {
    /// The look-up failed, with the reason.
    Failed(String),
    /// An address of the name breaks the rule.
    Forbidden,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) => write!(f, "cannot resolve the host name: {why}"),
            Self::Forbidden => {
                f.write_str("the host name has an address that credentials are not requested from over plain http")
            }
        }
    }
}

impl std::error::Error for ResolveError {}

impl From<ResolveError> for ureq::Error {
    fn from(error: ResolveError) -> Self {
        Self::Other(Box::new(error))
    }
}

impl Resolver for BoundedResolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => look_up(host, port, timeout)?,
        };
        if self.rule.is_some_and(|allows| !addresses.iter().all(|address| allows(address.ip()))) {
            return Err(ResolveError::Forbidden.into());
        }
        let mut resolved = self.empty();
        addresses.into_iter().take(MOST_ADDRESSES).for_each(|address| resolved.push(address));
        Ok(resolved)
    }
}

fn look_up(host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
    let name = host.to_owned();
    let look_up = move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
    match within(*timeout.after, spawn_without_signals, look_up) {
        None => Err(ureq::Error::Timeout(timeout.reason)),
        Some(Ok(addresses)) if addresses.is_empty() => Err(ResolveError::Failed("it has no address".into()).into()),
        Some(Ok(addresses)) => Ok(addresses),
        Some(Err(error)) => {
            // The standard library's text for what getaddrinfo says; it has no kind for it.
            let why = reason(&error).replace("failed to lookup address information: ", "");
            Err(ResolveError::Failed(why).into())
        }
    }
}

/// Runs `work` on another thread and waits for its result, no longer than `limit`. Without a thread it runs here.
fn within<T: Send + 'static>(
    limit: Duration,
    spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>,
    work: impl Fn() -> T + Clone + Send + 'static,
) -> Option<T> {
    let result = Arc::new((Mutex::new(None), Condvar::new()));
    let (there, to_fill) = (work.clone(), Arc::clone(&result));
    let started = spawn(Box::new(move || {
        let value = there();
        *to_fill.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        to_fill.1.notify_one();
    }));
    match started {
        Ok(()) => {
            let (value, filled) = &*result;
            let value = value.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut value, _) = filled
                .wait_timeout_while(value, limit, |value| value.is_none())
                .unwrap_or_else(PoisonError::into_inner);
            value.take()
        }
        Err(_) => Some(work()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_look_up_that_does_not_end_is_over_at_the_deadline() {
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let hangs = move || held.lock().unwrap().recv().is_ok();
        assert_eq!(within(Duration::from_millis(20), spawn_without_signals, hangs), None);
        drop(release);
    }

    #[test]
    fn a_name_is_looked_up_here_where_no_thread_can_be_had() {
        let here = std::thread::current().id();
        let no_thread = |_| Err(io::Error::from_raw_os_error(libc::EAGAIN));
        assert_eq!(within(Duration::ZERO, no_thread, move || std::thread::current().id()), Some(here));
    }
}
