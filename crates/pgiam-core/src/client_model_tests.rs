//! Models of the client's cached credentials: who fetches, who waits, what a failure means. The source is the model's own;
//! everything else is the real client, on the threads of `sync/primitives_for_tests.rs`.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::Client;
use crate::config::environment::Environment;
use crate::error::{Error, ErrorKind};
use crate::sync::primitives::{Fault, explore, finds, join_background, switch};
use crate::time::{Clock, Moment, system_time};
use crate::token::request::TokenRequest;

const START: i64 = 1_700_000_000;
const HOUR: i64 = 3600;

/// What the source does from now on.
#[derive(Clone)]
enum Source {
    Works,
    Fails,
    /// Waits until the gate is open, then works.
    Waits(Arc<Gate>),
}

/// The source of one execution.
struct World {
    source: Source,
    /// How often it was asked.
    fetches: u32,
    asked_now: u32,
    /// Part of the key's id: whatever changes at the source.
    version: u32,
}

thread_local! {
    static WORLD: RefCell<World> = const {
        RefCell::new(World { source: Source::Works, fetches: 0, asked_now: 0, version: 1 })
    };
}

fn set_source(source: Source) {
    WORLD.with_borrow_mut(|world| world.source = source);
}

fn fetches() -> u32 {
    WORLD.with_borrow(|world| world.fetches)
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }
}

/// In place of the real sources.
pub(super) mod chain {
    use aws_credential_types::Credentials;

    use super::{Error, ErrorKind, HOUR, Source, WORLD, switch, system_time};
    pub(crate) use crate::credentials::chain::{Step, without_repetition};
    // The compiler would call the sources unused.
    const _: fn(&Context<'_>, &mut Vec<Step>) -> Result<Provided, Error> = crate::credentials::chain::provide;

    use crate::credentials::{Context, Provided};

    pub(crate) fn provide(context: &Context<'_>, _trail: &mut Vec<Step>) -> Result<Provided, Error> {
        let (source, version, alone) = WORLD.with_borrow_mut(|world| {
            world.fetches += 1;
            world.asked_now += 1;
            (world.source.clone(), world.version, world.asked_now == 1)
        });
        switch();
        if let Source::Waits(gate) = &source {
            gate.wait();
        }
        WORLD.with_borrow_mut(|world| world.asked_now -= 1);
        if !alone {
            return Err(Error::new(ErrorKind::Internal, "two fetches at a time"));
        }
        if matches!(source, Source::Fails) {
            return Err(Error::new(ErrorKind::Provider, "the source fails"));
        }
        let end = Some(system_time(context.clock.now() + HOUR));
        let credentials = Credentials::new(format!("AKID{version}"), "secret", None, end, "model");
        let source = crate::credentials::Source::WebIdentity;
        Ok(Provided { credentials, source, identity: None, by: "a model".into() })
    }
}

/// A client, its clock, and what the test does with both.
#[derive(Clone)]
struct Subject {
    client: Client,
    time: Arc<AtomicI64>,
}

impl Subject {
    fn new() -> Self {
        WORLD.replace(World { source: Source::Works, fetches: 0, asked_now: 0, version: 1 });
        let time = Arc::new(AtomicI64::new(0));
        let hands = Arc::clone(&time);
        let clock = Clock::from_moments(move || {
            let passed = hands.load(Ordering::Relaxed);
            Moment { unix_seconds: START + passed, monotonic_seconds: passed }
        });
        let none =
            [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("HOME", "/nonexistent")];
        let environment: Environment = none.into_iter().collect();
        Self { client: Client::builder().environment(environment).clock(clock).build(), time }
    }

    fn warm() -> Self {
        let subject = Self::new();
        subject.token().unwrap();
        subject
    }

    fn at(&self, passed: i64) {
        self.time.store(passed, Ordering::Relaxed);
    }

    fn request() -> TokenRequest<'static> {
        let host = "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
        TokenRequest { host, port: 5432, region: None, user: "app_user" }
    }

    /// The id of the key that signed.
    fn token(&self) -> Result<String, Error> {
        let outcome = self.client.generate_token(&Self::request());
        outcome.map(|token| key_of(token.as_str())).inspect_err(never_two)
    }

    fn try_token(&self) -> Result<Option<String>, Error> {
        let outcome = self.client.try_generate_token(&Self::request());
        outcome.map(|token| token.map(|token| key_of(token.as_str()))).inspect_err(never_two)
    }

    /// Runs a function on this many threads and waits for them.
    fn on_threads(&self, number: u32, work: impl Fn(&Self, u32) + Send + Sync + 'static) {
        let work = Arc::new(work);
        let threads: Vec<_> = (0..number)
            .map(|thread| {
                let (subject, work) = (self.clone(), Arc::clone(&work));
                thread::spawn(move || work(&subject, thread))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

fn key_of(token: &str) -> String {
    let after = token.split("X-Amz-Credential=").nth(1).unwrap();
    after.split("%2F").next().unwrap().to_owned()
}

fn never_two(error: &Error) {
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
}

#[test]
fn callers_without_credentials_share_one_fetch() {
    explore(|| {
        let subject = Subject::new();
        subject.on_threads(3, |subject, _| assert_eq!(subject.token().unwrap(), "AKID1"));
        assert_eq!(fetches(), 1);
    });
}

#[test]
fn a_refresh_that_is_due_runs_once_and_no_caller_waits_for_it() {
    explore(|| {
        let subject = Subject::warm();
        let gate = Arc::new(Gate::default());
        set_source(Source::Waits(Arc::clone(&gate)));
        subject.at(HOUR - 600);
        // A caller that waited would wait for ever: the gate opens once they all have their tokens.
        subject.on_threads(3, |subject, _| assert_eq!(subject.token().unwrap(), "AKID1"));
        gate.open();
        join_background();
        assert_eq!(fetches(), 2);
    });
}

fn a_refresh_that_fails() {
    let subject = Subject::warm();
    set_source(Source::Fails);
    subject.at(HOUR - 600);
    subject.on_threads(3, |subject, _| {
        subject.token().unwrap();
        subject.token().unwrap();
    });
    join_background();
    assert_eq!(fetches(), 2, "the time stands still: no pause has ended");
    // The longest pause after one failure is over.
    subject.at(HOUR - 500);
    subject.on_threads(3, |subject, _| assert_eq!(subject.token().unwrap(), "AKID1"));
    join_background();
    assert_eq!(fetches(), 3);
}

#[test]
fn a_refresh_that_fails_is_seen_by_no_caller_and_comes_again_once_after_a_pause() {
    explore(a_refresh_that_fails);
}

#[test]
fn callers_with_expired_credentials_share_an_error_and_the_next_ones_get_a_token() {
    explore(|| {
        let subject = Subject::warm();
        set_source(Source::Fails);
        subject.at(2 * HOUR);
        subject.on_threads(3, |subject, _| assert_eq!(subject.token().unwrap_err().kind(), ErrorKind::Provider));
        assert!((2..=4).contains(&fetches()));
        set_source(Source::Works);
        subject.on_threads(3, |subject, _| assert_eq!(subject.token().unwrap(), "AKID1"));
    });
}

#[test]
fn a_refresh_that_was_asked_for_has_credentials_of_a_fetch_that_began_after_it() {
    explore(|| {
        let subject = Subject::new();
        subject.on_threads(3, |subject, thread| {
            if thread == 0 {
                WORLD.with_borrow_mut(|world| world.version = 2);
                subject.client.refresh().unwrap();
                assert_eq!(subject.token().unwrap(), "AKID2");
            } else {
                subject.token().unwrap();
            }
        });
        // Nothing that began before has replaced them.
        assert_eq!(subject.token().unwrap(), "AKID2");
        assert!(subject.client.inner.snapshot.load().credentials_are_current);
    });
}

#[test]
fn callers_that_do_not_wait_get_a_token_or_are_told_to_ask_again_beside_one_that_waits() {
    explore(|| {
        let subject = Subject::new();
        subject.on_threads(3, |subject, thread| {
            if thread == 0 {
                subject.token().unwrap();
            } else {
                for _ in 0..2 {
                    assert!(subject.try_token().unwrap().is_none_or(|key| key == "AKID1"));
                }
            }
        });
        join_background();
        assert_eq!(fetches(), 1);
        assert!(subject.try_token().unwrap().is_some());
    });
}

#[test]
fn a_client_may_be_freed_by_any_thread_during_its_refresh_and_is_gone_when_that_ends() {
    explore(|| {
        let subject = Subject::warm();
        let remains = Arc::downgrade(&subject.client.inner);
        subject.at(HOUR - 600);
        let threads = [subject.clone(), subject].map(|subject| {
            thread::spawn(move || {
                subject.token().unwrap();
                drop(subject);
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
        join_background();
        assert_eq!(fetches(), 2);
        assert!(remains.upgrade().is_none());
    });
}

#[test]
fn a_claim_of_a_refresh_in_two_steps_is_found() {
    assert!(finds(Fault::ExchangeInTwoSteps, a_refresh_that_fails));
}
