//! A simulation of 10,000 instances, each with a pool of four connections, against the published limits of the services:
//! how many requests a second reach them when all start at once, when they are restarted one after the other, and in the
//! hours after that. The waits and the times of refreshes are the product's own rules; time is simulated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgiam_core::rules;

const INSTANCES: usize = 10_000;
const CONNECTIONS: usize = 4;
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
/// The longest time that a pool keeps a connection.
const CONNECTION_LIFETIME: i64 = 30 * MINUTE;
/// Of a role session at STS, by default.
const CREDENTIALS_LIFETIME: i64 = HOUR;
const END: i64 = 4 * HOUR;
/// From here on it is the steady state: long after the start.
const STEADY: i64 = 2 * HOUR;
/// Until a service answers.
const ANSWER: i64 = 50;

/// New logins with IAM in a second that a database accepts (Amazon RDS user guide, IAM database authentication).
const RDS: u32 = 200;
/// AssumeRole and others together, in an account and region. Assumed: Service Quotas shows each account its own limit.
const STS: u32 = 600;
/// Of one node's EKS Pod Identity Agent (`RequestRate` in its `configuration/config.go`).
const AGENT: u32 = 1000;
const PODS_PER_NODE: usize = 100;
/// Packets to link-local services of a network interface (AWS Knowledge Center, VPC DNS throttling), with 12 packets for
/// a connection with one request.
const IMDS: u32 = 1024 / 12;
const IMDS_REQUESTS: u32 = 3;

/// A service that refuses requests above its limit. Each group of instances has one of its own.
struct Service {
    limit: u32,
    group: usize,
    requests: u32,
    seconds: Vec<(i64, u32)>,
    /// The most requests in a second, refused ones included: in the first hours, and in the steady state.
    peaks: [u32; 2],
}

impl Service {
    fn new(limit: u32, group: usize, requests: u32) -> Self {
        Self { limit, group, requests, seconds: vec![(-1, 0); INSTANCES.div_ceil(group)], peaks: [0, 0] }
    }

    fn accepts(&mut self, instance: usize, now: i64) -> bool {
        let second = &mut self.seconds[instance / self.group];
        if second.0 != now / SECOND {
            *second = (now / SECOND, 0);
        }
        second.1 += self.requests;
        let peak = &mut self.peaks[usize::from(now >= STEADY)];
        *peak = (*peak).max(second.1);
        second.1 <= self.limit
    }
}

/// How the instances start.
#[derive(Clone, Copy)]
enum Start {
    /// All within one second.
    AtOnce,
    /// So many in a second.
    Rolling(i64),
}

/// What an application does after a failed login.
#[derive(Clone, Copy)]
enum Retry {
    EverySecond,
    /// A random part of 1, 2, 4 and up to 64 seconds.
    Jittered,
}

#[derive(Clone, Copy)]
struct Fleet {
    start: Start,
    retry: Retry,
    /// The part of a connection's lifetime that is random.
    pool_jitter: f64,
    /// Seconds before the end at which the refresh begins.
    refresh_window: fn(i64) -> i64,
    /// It logs in so often that credentials are renewed as soon as that is due, through a proxy that has connections.
    is_busy: bool,
}

/// What a fleet should do.
const ADVISED: Fleet = Fleet {
    start: Start::AtOnce,
    retry: Retry::Jittered,
    pool_jitter: 0.25,
    refresh_window: rules::refresh_window,
    is_busy: false,
};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A connection is to be opened.
    Login { failures: u32 },
    /// A request for credentials, on behalf of a login or in the background.
    Fetch { attempt: u32, is_waited_for: bool },
}

#[derive(Clone)]
struct Instance {
    /// When the credentials end; 0: none.
    end: i64,
    refresh_at: i64,
    refresh_failures: u32,
    is_fetching: bool,
    /// Failures so far of the logins that wait for the fetch.
    waiting: Vec<u32>,
    connections: usize,
}

/// The figures of a run.
struct Outcome {
    credentials_peaks: [u32; 2],
    rds_peaks: [u32; 2],
    /// Seconds until all had credentials, and all connections were open.
    all_fetched: f64,
    all_connected: f64,
}

struct Simulation {
    fleet: Fleet,
    random: fastrand::Rng,
    queue: BinaryHeap<Reverse<(i64, usize, Event)>>,
    instances: Vec<Instance>,
    source: Service,
    database: Service,
    without_credentials: usize,
    not_connected: usize,
    all_fetched: i64,
    all_connected: i64,
}

fn simulate(fleet: Fleet, source: Service) -> Outcome {
    let idle = Instance {
        end: 0,
        refresh_at: 0,
        refresh_failures: 0,
        is_fetching: false,
        waiting: Vec::new(),
        connections: 0,
    };
    let mut simulation = Simulation {
        fleet,
        random: fastrand::Rng::with_seed(1),
        queue: BinaryHeap::new(),
        instances: vec![idle; INSTANCES],
        source,
        database: Service::new(if fleet.is_busy { u32::MAX } else { RDS }, INSTANCES, 1),
        without_credentials: INSTANCES,
        not_connected: INSTANCES * CONNECTIONS,
        all_fetched: 0,
        all_connected: 0,
    };
    simulation.run();
    Outcome {
        credentials_peaks: simulation.source.peaks,
        rds_peaks: simulation.database.peaks,
        all_fetched: simulation.all_fetched as f64 / SECOND as f64,
        all_connected: simulation.all_connected as f64 / SECOND as f64,
    }
}

impl Simulation {
    fn run(&mut self) {
        for instance in 0..INSTANCES {
            let at = match self.fleet.start {
                Start::AtOnce => self.random.i64(0..SECOND),
                Start::Rolling(per_second) => instance as i64 * SECOND / per_second,
            };
            for _ in 0..CONNECTIONS {
                self.push(at, instance, Event::Login { failures: 0 });
            }
        }
        while let Some(Reverse((now, instance, event))) = self.queue.pop() {
            if now >= END {
                break;
            }
            match event {
                Event::Login { failures } => self.log_in(now, instance, failures),
                Event::Fetch { attempt, is_waited_for } => self.fetch(now, instance, attempt, is_waited_for),
            }
        }
    }

    fn push(&mut self, at: i64, instance: usize, event: Event) {
        self.queue.push(Reverse((at, instance, event)));
    }

    fn log_in(&mut self, now: i64, number: usize, failures: u32) {
        let instance = &mut self.instances[number];
        if instance.end <= now {
            instance.waiting.push(failures);
            if !instance.is_fetching {
                instance.is_fetching = true;
                self.fetch(now, number, 1, true);
            }
            return;
        }
        if instance.refresh_at <= now && !instance.is_fetching {
            instance.is_fetching = true;
            self.push(now, number, Event::Fetch { attempt: 1, is_waited_for: false });
        }
        if self.database.accepts(number, now) {
            self.connected(now, number);
        } else {
            self.retry(now, number, failures);
        }
    }

    fn connected(&mut self, now: i64, number: usize) {
        let instance = &mut self.instances[number];
        if instance.connections < CONNECTIONS {
            instance.connections += 1;
            self.not_connected -= 1;
            if self.not_connected == 0 {
                self.all_connected = now;
            }
        }
        if self.fleet.is_busy {
            return;
        }
        let kept = CONNECTION_LIFETIME as f64 * (1.0 - self.fleet.pool_jitter * self.random.f64());
        self.push(now + kept as i64, number, Event::Login { failures: 0 });
    }

    fn retry(&mut self, now: i64, number: usize, failures: u32) {
        let wait = match self.fleet.retry {
            Retry::EverySecond => SECOND,
            Retry::Jittered => (SECOND << failures.min(6)) * self.random.i64(0..=1000) / 1000,
        };
        self.push(now + wait, number, Event::Login { failures: failures + 1 });
    }

    /// One attempt; the logins that wait for it go on, or fail with it.
    fn fetch(&mut self, now: i64, number: usize, attempt: u32, is_waited_for: bool) {
        if self.source.accepts(number, now) {
            self.fetched(now, number);
        } else if attempt < rules::ATTEMPTS {
            let wait = i64::try_from(rules::wait_after(attempt).as_millis()).unwrap();
            self.push(now + ANSWER + wait, number, Event::Fetch { attempt: attempt + 1, is_waited_for });
        } else {
            let instance = &mut self.instances[number];
            instance.is_fetching = false;
            instance.refresh_at =
                now + rules::back_off(instance.refresh_failures, (instance.end - now) / SECOND) * SECOND;
            instance.refresh_failures += 1;
            let refresh_at = instance.refresh_at;
            for failures in std::mem::take(&mut instance.waiting) {
                self.retry(now + ANSWER, number, failures);
            }
            if self.fleet.is_busy && !is_waited_for {
                self.push(refresh_at, number, Event::Fetch { attempt: 1, is_waited_for: false });
            }
        }
    }

    fn fetched(&mut self, now: i64, number: usize) {
        let instance = &mut self.instances[number];
        if instance.end == 0 {
            self.without_credentials -= 1;
            if self.without_credentials == 0 {
                self.all_fetched = now;
            }
        }
        instance.end = now + CREDENTIALS_LIFETIME;
        instance.refresh_at = instance.end - (self.fleet.refresh_window)(CREDENTIALS_LIFETIME / SECOND) * SECOND;
        instance.refresh_failures = 0;
        instance.is_fetching = false;
        let refresh_at = instance.refresh_at;
        for failures in std::mem::take(&mut instance.waiting) {
            self.log_in(now, number, failures);
        }
        if self.fleet.is_busy {
            self.push(refresh_at, number, Event::Fetch { attempt: 1, is_waited_for: false });
        }
    }
}

fn sts() -> Service {
    Service::new(STS, INSTANCES, 1)
}

/// A row of the table: requests for credentials, then logins.
fn print(name: &str, outcome: &Outcome) {
    let Outcome { credentials_peaks: [first, steady], rds_peaks: [rds_first, rds_steady], .. } = outcome;
    println!(
        "| {name} | {first} | {:.0} s | {steady} | {rds_first} | {:.0} s | {rds_steady} |",
        outcome.all_fetched.ceil(),
        outcome.all_connected.ceil()
    );
}

#[test]
fn a_fleet_of_10000_instances_stays_below_every_published_limit_in_its_steady_state() {
    let rolling = Fleet { start: Start::Rolling(20), ..ADVISED };
    let busy = Fleet { is_busy: true, ..ADVISED };
    for (name, fleet, source, limit) in [
        ("STS, all at once", ADVISED, sts(), STS),
        ("STS, 20 restarted a second", rolling, sts(), STS),
        ("STS, all at once, busy", busy, sts(), STS),
        ("Pod Identity Agent, all at once, per node", ADVISED, Service::new(AGENT, PODS_PER_NODE, 1), AGENT),
        ("IMDS, all at once, per instance", ADVISED, Service::new(IMDS, 1, IMDS_REQUESTS), IMDS),
    ] {
        let outcome = simulate(fleet, source);
        print(name, &outcome);
        let [first, steady] = outcome.credentials_peaks;
        let [first_logins, steady_logins] = outcome.rds_peaks;
        assert!(steady < limit / 2, "{name}: {steady} requests a second");
        assert!(steady_logins < RDS / 2, "{name}: {steady_logins} logins a second");
        assert!(outcome.all_fetched > 0.0 && outcome.all_connected > 0.0, "{name}: all instances are connected");
        if matches!(fleet.start, Start::Rolling(_)) {
            assert!(first < limit && first_logins < RDS, "{name}: nothing is refused at any time");
        }
    }
}

/// What the advice is worth: a fleet that started at once, without each of its parts.
#[test]
fn without_jitter_the_load_of_a_start_comes_again() {
    let even_pools = simulate(Fleet { pool_jitter: 0.0, ..ADVISED }, sts());
    print("pools without jitter", &even_pools);
    assert!(even_pools.rds_peaks[1] >= RDS, "connections are renewed together");

    let impatient = simulate(Fleet { retry: Retry::EverySecond, ..ADVISED }, sts());
    print("a login tried again each second", &impatient);
    assert!(impatient.rds_peaks[0] > 150 * RDS);

    let busy = Fleet { is_busy: true, ..ADVISED };
    let together = simulate(Fleet { refresh_window: |_| 900, ..busy }, sts());
    print("busy, refreshes without jitter", &together);
    let spread = simulate(busy, sts());
    assert!(together.credentials_peaks[1] > 5 * spread.credentials_peaks[1], "refreshes come together");
}
