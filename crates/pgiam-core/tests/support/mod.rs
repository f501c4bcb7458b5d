//! A client in surroundings of its own: no file, no variable and no clock of whoever runs the tests.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aws_simulator::{Simulator, SimulatorOptions};
use pgiam_core::{Client, Clock, Environment, Settings, Token, TokenRequest};

pub(crate) const HOST: &str = "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

pub(crate) fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::default()).unwrap()
}

pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    let none =
        [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("HOME", "/nonexistent")];
    none.into_iter().chain(variables.iter().copied()).collect()
}

pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (keyword, value) in pairs {
        settings.set(keyword, value).unwrap();
    }
    settings
}

pub(crate) fn client(variables: &[(&str, &str)]) -> Client {
    Client::builder().environment(environment(variables)).build()
}

/// A client whose only source is this instance metadata service, and that waits at most half a second.
pub(crate) fn on_instance(simulator: &Simulator) -> Client {
    Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "500")]))
        .build()
}

pub(crate) fn request() -> TokenRequest<'static> {
    TokenRequest { host: HOST, port: 5432, region: None, user: "app_user" }
}

pub(crate) fn access_key_id(token: &Token) -> String {
    let after = token.as_str().split("X-Amz-Credential=").nth(1).unwrap();
    after.split("%2F").next().unwrap().to_owned()
}

/// A clock that tests move.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicI64>);

impl Hands {
    /// Set to the simulator's time, so that its credentials make sense.
    pub(crate) fn at(unix_seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(unix_seconds)))
    }

    pub(crate) fn of(simulator: &Simulator) -> Self {
        let now = simulator.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        Self::at(i64::try_from(now).unwrap())
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::from_fn(move || hands.now())
    }

    pub(crate) fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}
