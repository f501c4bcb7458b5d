//! The connections that got tokens: what their resets and their error messages need.
//!
//! A reset logs in with the password of the first connect, and no function of libpq changes that. But `PQpass` returns
//! where libpq keeps the password, and there is room behind it (`pgiam_libpq::memory_file`): a new token is written
//! there before the reset. `PQpass` is for the host that libpq is at; with several hosts the others get their tokens when
//! libpq has moved on to them.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::null;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use pgiam_libpq::conninfo::Parameters;
use pgiam_libpq::functions::PGconn;
use pgiam_libpq::hosts::port_number;
use pgiam_libpq::plan::{Host, Plan, Renewal};
use pgiam_libpq::rules;
use pgiam_libpq::tokens::{Request, TokenMaker, Unavailable, Wait};

use crate::libpq::Libpq;

/// Makes tokens within the limit of a call.
pub(crate) fn token_maker(wait: Wait) -> TokenMaker {
    match wait {
        Wait::Bounded => TokenMaker::bounded(),
        Wait::Blocking | Wait::Never => TokenMaker::new(wait == Wait::Blocking),
    }
}

/// What is remembered of a connection.
pub(crate) struct Remembered {
    renewal: Option<Renewal>,
    /// pgiam's own keywords of this connection.
    pub(crate) own: Parameters,
    /// Whether libpq was given another password file than the program's, which is `passfile`.
    pub(crate) hides_passfile: bool,
    pub(crate) passfile: Option<CString>,
    /// Addresses of the passwords that were renewed since the last reset began. Two hosts may have the same name and
    /// port, but each has its own password.
    renewed: ArcSwap<Vec<usize>>,
    /// What was not found since the last reset began.
    unavailable: ArcSwap<Unavailable>,
    /// Why there was no token.
    failure: ArcSwapOption<String>,
    /// Why no token was used, in case the login fails.
    hint: Option<String>,
    /// Error messages that were returned since the last reset began.
    shown: ArcSwap<Vec<Arc<CString>>>,
}

impl Remembered {
    /// What a plan leaves to remember, if anything.
    pub(crate) fn of_plan(plan: &mut Plan) -> Option<Self> {
        let (renewal, failure, hint) = (plan.renewal.take(), plan.failure.take(), plan.hint.take());
        (renewal.is_some() || failure.is_some() || hint.is_some() || plan.hides_passfile).then(|| Self {
            renewal,
            own: std::mem::take(&mut plan.own),
            hides_passfile: plan.hides_passfile,
            passfile: plan.passfile.take(),
            renewed: ArcSwap::default(),
            unavailable: ArcSwap::default(),
            failure: ArcSwapOption::new(failure.map(Arc::new)),
            hint,
            shown: ArcSwap::default(),
        })
    }

    /// Whether a reset may connect to another host than before.
    pub(crate) fn has_several_hosts(&self) -> bool {
        self.renewal.as_ref().is_some_and(|renewal| renewal.several)
    }

    /// A reset begins: every host needs a new token, and libpq discards its error message.
    pub(crate) fn begin_reset(&self) {
        self.renewed.store(Arc::default());
        self.unavailable.store(Arc::default());
        // A program may still have a pointer to the last one.
        self.shown.rcu(|shown| shown.last().cloned().into_iter().collect::<Vec<_>>());
    }

    /// Replaces the token of the host that libpq is at, once in a reset.
    ///
    /// # Safety
    ///
    /// `connection` is this record's, and no other thread uses it.
    pub(crate) unsafe fn renew(&self, libpq: &Libpq, connection: *mut PGconn, wait: Wait) {
        let Some(renewal) = &self.renewal else { return };
        // SAFETY: the caller's promise.
        let Some(at) = (unsafe { current_host(renewal, libpq, connection) }) else { return };
        // SAFETY: the caller's promise; PQpass returns the connection's own memory, or a constant empty text.
        let place = unsafe { libpq.ask::<*mut c_char>(c"PQpass", connection) }.unwrap_or(std::ptr::null_mut());
        if place.is_null() {
            return;
        }
        // SAFETY: a NUL-terminated text that nobody changes meanwhile.
        let old_length = match unsafe { CStr::from_ptr(place) }.to_str() {
            Ok(old) if rules::is_token(old) => old.len(),
            _ => return,
        };
        if self.renewed.load().contains(&(place as usize)) {
            return;
        }
        self.renewed.rcu(|renewed| [renewed.as_slice(), &[place as usize]].concat());
        let request = Request {
            endpoint: at.endpoint.clone(),
            user: &renewal.user,
            region: renewal.region.as_deref(),
            profile: renewal.profile.as_deref(),
        };
        let mut unavailable = **self.unavailable.load();
        if unavailable.concerns(&request) {
            return;
        }
        let failure = match token_maker(wait).make(&request) {
            Ok(token) if token.len() <= at.room => {
                // SAFETY: the place has room for `at.room` bytes and a NUL, no less than the old token, and contains one
                // of our tokens, so it is not libpq's constant; the rest of the old token is wiped.
                unsafe {
                    std::ptr::copy_nonoverlapping(token.as_ptr(), place.cast::<u8>(), token.len());
                    let end = old_length.max(token.len());
                    std::ptr::write_bytes(place.cast::<u8>().add(token.len()), 0, end - token.len() + 1);
                }
                None
            }
            Ok(_) => Some("the new token is longer than libpq has room for; make a new connection".to_owned()),
            Err(failed) => Some(format!("no new token for {}: {}", at.host, unavailable.note(failed))),
        };
        self.unavailable.store(Arc::new(unavailable));
        self.failure.store(failure.map(Arc::new));
    }

    /// libpq's error message, followed by the reason why there was no token. NULL: there is nothing to add.
    ///
    /// # Safety
    ///
    /// `connection` is this record's, and no other thread uses it.
    pub(crate) unsafe fn message(&self, libpq: &Libpq, connection: *mut PGconn, message: &CStr) -> *const c_char {
        let failure = self.failure.load_full();
        let reason = match (&failure, &self.hint) {
            (Some(failure), _) => failure.as_str(),
            // SAFETY: the caller's promise.
            (None, Some(hint)) if unsafe { libpq.failed_with_password(connection) } => hint,
            _ => return null(),
        };
        let mut text = message.to_bytes().to_vec();
        if text.is_empty() {
            return null();
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("pgiam: {reason}\n").as_bytes());
        text.retain(|byte| *byte != 0);
        self.show(CString::new(text).unwrap_or_default())
    }

    /// Keeps a message that is returned.
    fn show(&self, text: CString) -> *const c_char {
        let text = Arc::new(text);
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

    /// Prints on standard error why there was no token, each reason once.
    pub(crate) fn print_failure_once(&self) {
        let Some(failure) = self.failure.load_full() else { return };
        if PRINTED.load().as_ref().is_none_or(|printed| **printed != *failure) {
            PRINTED.store(Some(Arc::clone(&failure)));
            eprintln!("pgiam: {failure}");
        }
    }
}

/// The host that libpq is at, if it gets tokens.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it.
unsafe fn current_host<'a>(renewal: &'a Renewal, libpq: &Libpq, connection: *mut PGconn) -> Option<&'a Host> {
    if !renewal.several {
        return renewal.hosts.first();
    }
    // SAFETY: the caller's promise.
    let (host, port) = unsafe { (libpq.text(c"PQhost", connection)?, libpq.text(c"PQport", connection)?) };
    let port = port_number(&port)?;
    renewal.hosts.iter().find(|candidate| candidate.host == host && candidate.port == port)
}

/// The reason that was printed last.
static PRINTED: ArcSwapOption<String> = ArcSwapOption::const_empty();

/// By the connection's address. Replaced as a whole: a forked child inherits no lock.
static ALL: ArcSwapOption<BTreeMap<usize, Arc<Remembered>>> = ArcSwapOption::const_empty();

/// What is remembered of a connection.
pub(crate) fn find(connection: *mut PGconn) -> Option<Arc<Remembered>> {
    ALL.load().as_ref()?.get(&(connection as usize)).cloned()
}

/// Remembers a new connection, or that there is nothing to remember: its address may have been used before.
pub(crate) fn remember(connection: *mut PGconn, record: Option<Remembered>) {
    let key = connection as usize;
    if key == 0 || (record.is_none() && find(connection).is_none()) {
        return;
    }
    let record = record.map(Arc::new);
    ALL.rcu(|all| {
        let mut all = all.as_ref().map_or_else(BTreeMap::new, |all| all.as_ref().clone());
        match &record {
            Some(record) => all.insert(key, Arc::clone(record)),
            None => all.remove(&key),
        };
        Some(Arc::new(all))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_a_connection_that_is_reset_for_ever_do_not_pile_up() {
        let mut plan = Plan::default();
        plan.failure = Some("no credentials".into());
        let record = Remembered::of_plan(&mut plan).expect("a failure is remembered");
        for attempt in 0..1000 {
            record.begin_reset();
            let text = CString::new(format!("attempt {attempt}")).expect("no NUL");
            let first = record.show(text.clone());
            assert_eq!(first, record.show(text), "the same message has the same address");
        }
        assert!(record.shown.load().len() <= 2);
    }
}
