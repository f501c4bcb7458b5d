//! The connections that were given tokens: what their resets and their error messages need.
//!
//! A reset logs in with the password of the first connect, and no function of libpq changes that. But `PQpass` tells
//! where it stands, and behind it there is room ([`crate::passfile`]): a new token is written there before the reset. It
//! tells so of the host that libpq is at; with several hosts the others get theirs when libpq has come to them.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use pgiam_libpq::conninfo::Parameters;
use pgiam_libpq::own_settings::Endpoint;

use crate::libpq::{Libpq, PGconn};
use crate::tokens::{self, Failure, Wait};

/// A host of a connection that tokens are made for.
pub(crate) struct Host {
    /// As libpq tells it.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) endpoint: Endpoint,
    /// Bytes that a password may have in the place where libpq keeps it.
    pub(crate) room: usize,
}

/// What is remembered of a connection.
pub(crate) struct Served {
    hosts: Vec<Host>,
    /// Whether libpq may go on from one host to another, served or not.
    several: bool,
    user: String,
    region: Option<String>,
    profile: Option<String>,
    /// pgiam's own keywords of this connection.
    pub(crate) own: Parameters,
    /// `Some`: libpq was given a file of ours in place of this one.
    pub(crate) passfile: Option<Option<CString>>,
    /// Where new tokens stand since the last reset began. Two hosts may have the same name and port, but each has its
    /// own place.
    renewed: ArcSwap<Vec<usize>>,
    /// Since the last reset began there were no credentials.
    given_up: AtomicBool,
    /// Why there was no token.
    note: ArcSwapOption<String>,
    /// Error messages that were handed out: they stay where they are while the connection lives.
    shown: ArcSwap<Vec<Arc<CString>>>,
}

impl Served {
    pub(crate) fn new(
        (hosts, several): (Vec<Host>, bool),
        user: &str,
        (region, profile): (Option<String>, Option<String>),
        own: Parameters,
        passfile: Option<Option<CString>>,
        note: Option<String>,
    ) -> Self {
        Self {
            hosts,
            several,
            user: user.to_owned(),
            region,
            profile,
            own,
            passfile,
            renewed: ArcSwap::default(),
            given_up: AtomicBool::new(false),
            note: ArcSwapOption::new(note.map(Arc::new)),
            shown: ArcSwap::default(),
        }
    }

    /// A connection that goes on without a token, and why.
    pub(crate) fn unserved(note: String, own: Parameters) -> Self {
        Self::new((Vec::new(), false), "", (None, None), own, None, Some(note))
    }

    /// Whether a reset may come to another host than the one that the connection was at.
    pub(crate) fn has_several_hosts(&self) -> bool {
        self.several
    }

    /// A reset begins: every host needs a new token.
    pub(crate) fn begin_reset(&self) {
        self.renewed.store(Arc::default());
        self.given_up.store(false, Ordering::Relaxed);
    }

    /// Puts a fresh token in the place of the old one, for the host that libpq is at; once in a reset.
    ///
    /// # Safety
    ///
    /// `connection` is this record's, and no other thread uses it.
    pub(crate) unsafe fn renew(&self, libpq: &Libpq, connection: *mut PGconn, wait: Wait) {
        // SAFETY: the caller's promise.
        let (host, port) = unsafe { (libpq.text(c"PQhost", connection), libpq.text(c"PQport", connection)) };
        let port = port.and_then(|port| port_number(&port));
        let is_here = |candidate: &&Host| Some(&candidate.host) == host.as_ref() && Some(candidate.port) == port;
        let at = if self.several { self.hosts.iter().find(is_here) } else { self.hosts.first() };
        let Some(at) = at else { return };
        // SAFETY: the caller's promise; PQpass gives the connection's own memory, or a constant empty text.
        let place = unsafe { libpq.ask::<*mut c_char>(c"PQpass", connection) }.unwrap_or(std::ptr::null_mut());
        if place.is_null() {
            return;
        }
        // SAFETY: a NUL-terminated text that nobody changes meanwhile.
        let old_length = match unsafe { CStr::from_ptr(place) }.to_str() {
            Ok(old) if tokens::is_token(old) => old.len(),
            _ => return,
        };
        if self.given_up.load(Ordering::Relaxed) || self.renewed.load().contains(&(place as usize)) {
            return;
        }
        self.renewed.rcu(|renewed| [renewed.as_slice(), &[place as usize]].concat());
        let token = tokens::token(&at.endpoint, &self.user, self.region.as_deref(), self.profile.as_deref(), wait);
        self.note.store(
            match token {
                Ok(token) if token.len() <= at.room => {
                    // SAFETY: the place has room for `at.room` bytes and a NUL, no less than the old token, and holds
                    // one of our tokens, so it is not libpq's constant; the rest of the old token is wiped.
                    unsafe {
                        std::ptr::copy_nonoverlapping(token.as_ptr(), place.cast::<u8>(), token.len());
                        let end = old_length.max(token.len());
                        std::ptr::write_bytes(place.cast::<u8>().add(token.len()), 0, end - token.len() + 1);
                    }
                    None
                }
                Ok(_) => Some("the new token is longer than the place that libpq has for it; connect anew".into()),
                Err(Failure { why, of_credentials }) => {
                    self.given_up.store(of_credentials, Ordering::Relaxed);
                    Some(format!("no new token for {}: {why}", at.host))
                }
            }
            .map(Arc::new),
        );
    }

    /// libpq's error message with the reason why there was no token, if there is one.
    pub(crate) fn message(&self, words: &CStr) -> *const c_char {
        let Some(note) = self.note.load_full() else { return null() };
        let mut text = words.to_bytes().to_vec();
        if text.is_empty() {
            return null();
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("pgiam: {note}\n").as_bytes());
        text.retain(|byte| *byte != 0);
        let text = Arc::new(CString::new(text).unwrap_or_default());
        let shown = self.shown.rcu(|shown| {
            let mut all = shown.as_ref().clone();
            if !all.contains(&text) {
                all.push(Arc::clone(&text));
            }
            all
        });
        let known = shown.iter().find(|known| **known == text).unwrap_or(&text);
        known.as_ptr()
    }

    /// Tells on standard error why there was no token, each reason once.
    pub(crate) fn tell_once(&self) {
        let Some(note) = self.note.load_full() else { return };
        if TOLD.load().as_ref().is_none_or(|told| **told != *note) {
            TOLD.store(Some(Arc::clone(&note)));
            eprintln!("pgiam: {note}");
        }
    }
}

/// A port as libpq tells it: versions differ in what they say of an empty place in a list.
pub(crate) fn port_number(text: &str) -> Option<u16> {
    if text.is_empty() { Some(5432) } else { text.trim().parse().ok() }
}

/// The reason that was told last.
static TOLD: ArcSwapOption<String> = ArcSwapOption::const_empty();

/// By the connection's address. Replaced as a whole: no lock that a forked child could inherit.
static ALL: ArcSwapOption<BTreeMap<usize, Arc<Served>>> = ArcSwapOption::const_empty();

/// What is remembered of a connection, if it is served.
pub(crate) fn find(connection: *mut PGconn) -> Option<Arc<Served>> {
    ALL.load().as_ref()?.get(&(connection as usize)).cloned()
}

/// Remembers a new connection, or that there is nothing to remember: its address may be one that was used before.
pub(crate) fn remember(connection: *mut PGconn, served: Option<Served>) {
    let key = connection as usize;
    if key == 0 || (served.is_none() && find(connection).is_none()) {
        return;
    }
    let served = served.map(Arc::new);
    ALL.rcu(|all| {
        let mut all = all.as_ref().map_or_else(BTreeMap::new, |all| all.as_ref().clone());
        match &served {
            Some(served) => all.insert(key, Arc::clone(served)),
            None => all.remove(&key),
        };
        Some(Arc::new(all))
    });
}
