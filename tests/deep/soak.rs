//! The library in use for a long time: five programs log in to a real PostgreSQL over TLS again and again, while new
//! credentials and roles are issued, services fail at random, the metadata service is down for stretches, the server is
//! restarted and the clock is set. Every failed login must be explained by a disturbance of that moment.
//!
//! `PGIAM_SOAK_SECONDS` sets the duration, 180 by default; with `PGIAM_SOAK_DIRECTORY` the figures are left there for
//! `tools/soak-charts`.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_simulator::{Fault, LoggedRequest, Route, Service, Simulator, SimulatorOptions, Times};

use crate::examples::installed;
use crate::support::{ENDPOINT, Server, root, run, temporary_directory};

/// One in so many requests has each of the faults.
const ONE_IN: u32 = 100;
/// What the background refresh has to bridge: it begins a quarter of the lifetime before the end.
const LIFETIME: Duration = Duration::from_secs(60);
const DOWN_EVERY: u64 = 45;
const DOWN_FOR: u64 = 8;
const CLOCK_SET_EVERY: u64 = 30;
const CLOCK_SET_FOR: u64 = 4;
/// Seconds ahead, in turn.
const CLOCK_STEPS: [i64; 3] = [-2 * 3600, 7 * 3600, 365 * 24 * 3600];
const RESTART_EVERY: u64 = 90;
/// The longest time of a fetch: a fault that struck within it can be the reason of a failure.
const FETCH_MAY_TAKE: i64 = 10_500;
/// KiB by which private memory may grow after the warm-up.
const GROWTH: i64 = 1024;

fn faults() -> [Fault; 6] {
    [
        Fault::Refuse,
        Fault::Status(500),
        Fault::Status(503),
        Fault::HangInBody,
        Fault::StatusWithBody(200, r#"{"Code": "Success", "AccessKeyId": "#.to_owned()),
        Fault::Status(404),
    ]
}

/// What the library says of a fault.
fn words(fault: &Fault) -> &'static [&'static str] {
    match fault {
        Fault::Refuse => &["the connection broke"],
        Fault::Status(500) => &["HTTP 500"],
        Fault::Status(503) => &["HTTP 503"],
        Fault::HangInBody => &["within the time limit"],
        Fault::StatusWithBody(..) => &["contains no JSON object", "is not a token", "is not the name of a role", "XML"],
        Fault::Status(_) => &["HTTP 404", "no role is attached"],
        _ => &[],
    }
}

fn now() -> i64 {
    milliseconds(SystemTime::now())
}

fn milliseconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Why a login may fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Reason {
    /// A response of the service was damaged or missing.
    Fault,
    /// The metadata service was down.
    Down,
    /// The server was restarted.
    Restart,
    /// The clock was wrong.
    Clock,
}

const REASONS: [Reason; 4] = [Reason::Fault, Reason::Down, Reason::Restart, Reason::Clock];

/// A disturbance that lasts.
struct Period {
    reason: Reason,
    from: i64,
    to: i64,
}

/// A request that got a fault at random.
struct Struck {
    at: i64,
    service: Service,
    fault: Fault,
}

/// One of the programs.
struct Host {
    name: &'static str,
    service: Service,
    process: Child,
}

/// The wall clock of a program.
struct Clock<'a> {
    commands: &'a mut ChildStdin,
    replies: BufReader<&'a mut ChildStdout>,
}

impl<'a> Clock<'a> {
    fn of(host: &'a mut Host) -> Self {
        let Child { stdin: Some(commands), stdout: Some(replies), .. } = &mut host.process else { panic!("piped") };
        Self { commands, replies: BufReader::new(replies) }
    }

    /// Sets it ahead, and waits until it is.
    fn set(&mut self, seconds: i64) {
        writeln!(self.commands, "{seconds}").unwrap();
        let mut reply = String::new();
        self.replies.read_line(&mut reply).unwrap();
        assert_eq!(reply, "set\n");
    }
}

/// A line that a program wrote about a login.
struct Login {
    host: usize,
    began: i64,
    ended: i64,
    token_took: i64,
    cold: bool,
    result: String,
    message: String,
}

/// What was done, for the explanations.
#[derive(Default)]
struct Disturbances {
    periods: Vec<Period>,
    struck: Vec<Struck>,
    /// When the server refused a token, and which check did.
    refusals: HashSet<(String, String)>,
}

impl Disturbances {
    fn note(&mut self, requests: Vec<LoggedRequest>) {
        self.struck.extend(requests.into_iter().filter_map(|request| {
            Some(Struck { at: milliseconds(request.time), service: request.service, fault: request.fault? })
        }));
    }

    fn under_way(&self, reason: Reason, login: &Login) -> bool {
        self.periods
            .iter()
            .any(|period| period.reason == reason && period.from <= login.ended && login.began <= period.to)
    }

    /// The disturbance that explains a failed login, if one does.
    fn explain(&self, login: &Login, host: &Host) -> Option<Reason> {
        let under_way = |reason| self.under_way(reason, login);
        let explains = match login.failure() {
            Failure::Token => vec![
                (Reason::Clock, host.name == "clock" && under_way(Reason::Clock)),
                (Reason::Down, host.service == Service::Imds && host.name != "clock" && under_way(Reason::Down)),
                (Reason::Fault, self.has_struck(login, host, FETCH_MAY_TAKE, words)),
            ],
            Failure::Refused => vec![
                (Reason::Clock, host.name == "clock" && under_way(Reason::Clock) && self.refused(login, &BY_CLOCK)),
                // Credentials are used past their end while their source is down.
                (Reason::Fault, self.refused(login, &BY_AGE) && self.has_struck(login, host, BY_AGE_AFTER, |_| &[""])),
            ],
            Failure::Connection => vec![(Reason::Restart, under_way(Reason::Restart))],
        };
        explains.iter().find(|(_, explains)| *explains).map(|(reason, _)| *reason)
    }

    /// Whether a request to the program's service got a fault that the message has the words of.
    fn has_struck(
        &self,
        login: &Login,
        host: &Host,
        before: i64,
        words: fn(&Fault) -> &'static [&'static str],
    ) -> bool {
        self.struck.iter().any(|struck| {
            struck.service == host.service
                && (login.began - before..=login.ended).contains(&struck.at)
                && words(&struck.fault).iter().any(|words| login.message.contains(words))
        })
    }

    /// Whether the server's log has a refusal by one of these checks while the login ran.
    fn refused(&self, login: &Login, checks: &[&str]) -> bool {
        let seconds = login.began / 1000..=login.ended / 1000;
        let has = |second, check: &str| self.refusals.contains(&(pgiam_core::rfc3339(second), check.to_owned()));
        seconds.into_iter().any(|second| checks.iter().any(|check| has(second, check)))
    }

    /// Reads the log of the server's decisions.
    fn read_decisions(&mut self, log: &Path) {
        let text = fs::read_to_string(log).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let refused = lines.filter(|line| line["result"] == "refused");
        let word = |line: &serde_json::Value, name: &str| line[name].as_str().unwrap().to_owned();
        self.refusals = refused.map(|line| (word(&line, "time"), word(&line, "check"))).collect();
    }
}

/// The checks of the server that a wrong clock of the client does not pass.
const BY_CLOCK: [&str; 2] = ["expired", "not_yet_valid"];
const BY_AGE: [&str; 1] = ["credentials_expired"];
/// The background refresh, which failed before.
const BY_AGE_AFTER: i64 = 30_000;

/// What failed of a login.
enum Failure {
    /// There was no token.
    Token,
    /// The server refused the token.
    Refused,
    /// The connection failed otherwise.
    Connection,
}

impl Login {
    fn failure(&self) -> Failure {
        match self.result.as_str() {
            "token" => Failure::Token,
            _ if self.message.contains("PAM authentication failed") => Failure::Refused,
            _ => Failure::Connection,
        }
    }
}

/// The services and the server, and where the programs write.
struct Stage {
    server: Server,
    /// Issues credentials that last a minute.
    services: Simulator,
    /// Those of the program whose clock is set: the credentials last six hours, as on EC2.
    lasting: Simulator,
    directory: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let server = Server::start(&[], &[]);
        let services = server.simulator(SimulatorOptions { lifetime: LIFETIME, ..Default::default() });
        let lasting = server.simulator(SimulatorOptions::default());
        let temporary = temporary_directory();
        let directory = std::env::var_os("PGIAM_SOAK_DIRECTORY").map_or(temporary.path().to_owned(), PathBuf::from);
        fs::create_dir_all(&directory).unwrap();
        let stage = Self { server, services, lasting, directory, _temporary: temporary };
        stage.damage(&stage.services);
        stage.damage(&stage.lasting);
        stage
    }

    fn damage(&self, simulator: &Simulator) {
        for fault in faults() {
            for route in [Route::Imds, Route::Container, Route::Sts] {
                simulator.inject_at_random(route, fault.clone(), ONE_IN);
            }
        }
    }

    fn start(&self, program: &Path, name: &'static str, load: [&str; 4], seconds: u64) -> Host {
        let mut command = Command::new(program);
        command.env_clear().env("LD_LIBRARY_PATH", installed().prefix.join("lib")).env("HOME", "/nonexistent");
        // One arena: the memory of threads that have ended is not counted as growth.
        command.env("MALLOC_ARENA_MAX", "1");
        let service = self.environment(name, &mut command);
        for stale in ["logins", "samples"] {
            fs::remove_file(self.directory.join(format!("{name}.{stale}"))).ok();
        }
        let port = self.server.port.to_string();
        command.arg(name).arg(seconds.to_string()).args(load).arg(&self.directory);
        command.args(["host", ENDPOINT, "hostaddr", "127.0.0.1", "port", &port, "user", "app_user", "dbname", "app"]);
        command.args(["sslmode", "verify-full", "sslrootcert", &self.server.ca, "connect_timeout", "20"]);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Host { name, service, process }
    }

    /// Sets the source of a program's credentials.
    fn environment(&self, name: &str, command: &mut Command) -> Service {
        match name {
            "container" => {
                command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", self.services.url()));
                Service::Container
            }
            "sts" => {
                let token = self.directory.join("token");
                fs::write(&token, "simulated-web-identity-token").unwrap();
                command.env("AWS_WEB_IDENTITY_TOKEN_FILE", token);
                command.env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app");
                command.env("AWS_ENDPOINT_URL_STS", self.services.url());
                Service::Sts
            }
            _ => {
                let simulator = if name == "clock" { &self.lasting } else { &self.services };
                command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url());
                Service::Imds
            }
        }
    }

    /// Disturbs the programs until the time has come.
    fn disturb(&mut self, hosts: &mut [Host], seconds: u64) -> Disturbances {
        let mut done = Disturbances::default();
        let mut clock = Clock::of(hosts.iter_mut().find(|host| host.name == "clock").unwrap());
        let began = Instant::now();
        let mut open: Vec<(Reason, i64)> = Vec::new();
        for second in 1.. {
            let until = Duration::from_secs(second).saturating_sub(began.elapsed());
            std::thread::sleep(until);
            if began.elapsed().as_secs() >= seconds {
                break;
            }
            for simulator in [&self.services, &self.lasting] {
                done.note(simulator.take_requests());
            }
            if second % 10 == 0 {
                self.services.rotate();
            }
            if second % 25 == 0 {
                self.services.set_role(Some(["app-server-role", "another-role"][(second / 25 % 2) as usize]));
            }
            let mut close = |reason, open: &mut Vec<(Reason, i64)>| {
                let at = open.iter().position(|(other, _)| *other == reason).unwrap();
                done.periods.push(Period { reason, from: open.swap_remove(at).1, to: now() });
            };
            match second % DOWN_EVERY {
                20 => {
                    open.push((Reason::Down, now()));
                    self.services.inject(Route::Imds, Fault::Refuse, Times::Forever);
                }
                phase if phase == 20 + DOWN_FOR => {
                    self.services.clear_faults();
                    self.damage(&self.services);
                    close(Reason::Down, &mut open);
                }
                _ => {}
            }
            match second % CLOCK_SET_EVERY {
                10 => {
                    open.push((Reason::Clock, now()));
                    let step = CLOCK_STEPS[(second / CLOCK_SET_EVERY) as usize % CLOCK_STEPS.len()];
                    clock.set(step);
                }
                phase if phase == 10 + CLOCK_SET_FOR => {
                    clock.set(0);
                    close(Reason::Clock, &mut open);
                }
                _ => {}
            }
            if second % RESTART_EVERY == 80 {
                let from = now();
                self.server.restart();
                done.periods.push(Period { reason: Reason::Restart, from, to: now() });
            }
        }
        let ended = now();
        done.periods.extend(open.into_iter().map(|(reason, from)| Period { reason, from, to: ended + 1000 }));
        done
    }

    /// The lines of a program's file.
    fn lines(&self, host: &Host, kind: &str) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.directory.join(format!("{}.{kind}", host.name))).unwrap();
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    fn logins(&self, hosts: &[Host]) -> Vec<Login> {
        let mut logins = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            logins.extend(self.lines(host, "logins").into_iter().map(|words| Login {
                host: number,
                began: words[0].parse().unwrap(),
                ended: words[1].parse().unwrap(),
                token_took: words[2].parse().unwrap(),
                cold: words[3] == "cold",
                result: words[4].clone(),
                message: words[5].clone(),
            }));
        }
        logins.sort_by_key(|login| login.ended);
        logins
    }

    /// Each second's memory, threads and descriptors.
    fn samples(&self, host: &Host) -> Vec<[i64; 4]> {
        let number = |word: &String| word.parse().unwrap();
        let row = |words: Vec<String>| [0, 1, 2, 3].map(|at| number(&words[at]));
        self.lines(host, "samples").into_iter().map(row).collect()
    }
}

fn compile(into: &Path) -> PathBuf {
    let program = into.join("soak");
    let prefix = &installed().prefix;
    let flags = run("pkg-config", ["--cflags", "--libs"], Some("libpq"));
    let mut arguments: Vec<String> =
        ["-std=gnu99", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread"].map(str::to_owned).into();
    arguments.push(format!("-I{}", prefix.join("include").display()));
    arguments.push(root().join("tests/c/soak/soak.c").display().to_string());
    arguments.push(format!("-L{}", prefix.join("lib").display()));
    arguments.push("-lpgiam".to_owned());
    arguments.extend(flags.split_whitespace().map(str::to_owned));
    arguments.push("-o".to_owned());
    run("cc", arguments, Some(&program));
    program
}

fn percentile(sorted: &[i64], percent: usize) -> i64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// The middle of the private memory in a part of the samples, in KiB: a single sample may hit a busy moment.
fn memory(samples: &[[i64; 4]]) -> i64 {
    let mut sizes: Vec<i64> = samples.iter().map(|sample| sample[1]).collect();
    sizes.sort_unstable();
    percentile(&sizes, 50)
}

/// The figures for the charts: five seconds in a row, memory above that after the warm-up, and the disturbances.
fn write_figures(stage: &Stage, hosts: &[Host], logins: &[Login], done: &Disturbances, began: i64) {
    let mut table = String::from("second,logins,median_ms,p99_ms,fault,down,restart,clock\n");
    let last = logins.last().map_or(began, |login| login.ended);
    for start in (began..last).step_by(5000) {
        let part: Vec<_> = logins.iter().filter(|login| (start..start + 5000).contains(&login.ended)).collect();
        let mut took: Vec<i64> =
            part.iter().filter(|login| login.result == "ok").map(|login| login.ended - login.began).collect();
        took.sort_unstable();
        let failed = part.iter().filter(|login| login.result != "ok");
        let mut counts = BTreeMap::from(REASONS.map(|reason| (reason, 0)));
        for reason in failed.filter_map(|login| done.explain(login, &hosts[login.host])) {
            *counts.entry(reason).or_insert(0) += 1;
        }
        let (median, slowest) = (percentile(&took, 50), percentile(&took, 99));
        write!(table, "{},{},{median},{slowest}", (start - began) / 1000, part.len()).unwrap();
        for count in counts.values() {
            write!(table, ",{count}").unwrap();
        }
        table.push('\n');
    }
    fs::write(stage.directory.join("logins.csv"), table).unwrap();

    let mut table = String::from("second,program,memory_kib,threads,descriptors\n");
    for host in hosts {
        for [at, memory, threads, descriptors] in stage.samples(host) {
            writeln!(table, "{},{},{memory},{threads},{descriptors}", (at - began) / 1000, host.name).unwrap();
        }
    }
    fs::write(stage.directory.join("memory.csv"), table).unwrap();

    let mut table = String::from("from,to,what\n");
    for Period { reason, from, to } in &done.periods {
        let what = format!("{reason:?}").to_lowercase();
        writeln!(table, "{:.1},{:.1},{what}", (from - began) as f64 / 1000.0, (to - began) as f64 / 1000.0).unwrap();
    }
    fs::write(stage.directory.join("periods.csv"), table).unwrap();
}

#[test]
fn every_failed_login_is_explained_by_a_fault_and_nothing_grows() {
    let seconds = std::env::var("PGIAM_SOAK_SECONDS").map_or(180, |text| text.parse().expect("a number of seconds"));
    let mut stage = Stage::new();
    let program = compile(&stage.directory);
    let began = now();
    // Threads, workers, one in how many logins with a new client, milliseconds between logins.
    let mut hosts = [
        stage.start(&program, "threads", ["8", "0", "20", "150"], seconds),
        stage.start(&program, "workers", ["0", "4", "20", "150"], seconds),
        stage.start(&program, "container", ["1", "0", "10", "150"], seconds),
        stage.start(&program, "sts", ["1", "0", "5", "150"], seconds),
        stage.start(&program, "clock", ["2", "0", "20", "150"], seconds),
    ];
    let mut done = stage.disturb(&mut hosts, seconds);
    let mut failures = Vec::new();
    for host in &mut hosts {
        let output = wait(&mut host.process);
        if !output.status.success() || !output.stderr.is_empty() {
            failures.push(format!("{}: {output:?}", host.name));
        }
    }
    for simulator in [&stage.services, &stage.lasting] {
        done.note(simulator.take_requests());
    }

    done.read_decisions(&stage.server.log);

    let logins = stage.logins(&hosts);
    let mut counts: BTreeMap<(&str, Reason, bool), u32> = BTreeMap::new();
    for login in logins.iter().filter(|login| login.result != "ok") {
        let host = &hosts[login.host];
        match done.explain(login, host) {
            Some(reason) => *counts.entry((host.name, reason, login.cold)).or_default() += 1,
            None => failures.push(format!(
                "unexplained, {:.3} s after the start, {} ms, {}: {} {}: {}",
                (login.began - began) as f64 / 1000.0,
                login.ended - login.began,
                host.name,
                if login.cold { "cold" } else { "warm" },
                login.result,
                login.message
            )),
        }
    }
    write_figures(&stage, &hosts, &logins, &done, began);
    print_summary(&logins, &done, &counts);
    failures.extend(hosts.iter().filter_map(|host| growth(host.name, &stage.samples(host))));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let warm_and_down = counts.iter().filter(|((_, reason, cold), _)| *reason == Reason::Down && !cold);
    assert_eq!(warm_and_down.count(), 0, "a client with credentials does not notice that the service is down");
    // The test disturbs enough for its result to mean something.
    for reason in REASONS {
        assert!(counts.keys().any(|(_, other, _)| *other == reason), "no login failed because of {reason:?}");
    }
    assert!(logins.len() as u64 > 20 * seconds, "only {} logins", logins.len());
}

fn wait(process: &mut Child) -> std::process::Output {
    let Some(stdin) = process.stdin.take() else { panic!("the standard input is open") };
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            process.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    drop(stdin);
    let read = |stream: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    };
    let stdout = read(process.stdout.as_mut().unwrap());
    let stderr = read(process.stderr.as_mut().unwrap());
    std::process::Output { status, stdout, stderr }
}

fn print_summary(logins: &[Login], done: &Disturbances, counts: &BTreeMap<(&str, Reason, bool), u32>) {
    let mut took: Vec<i64> = logins.iter().filter(|login| login.result == "ok").map(|login| login.token_took).collect();
    took.sort_unstable();
    println!(
        "{} logins, {} succeeded; {} requests with a fault; tokens: median {} us, 99 % {} us",
        logins.len(),
        took.len(),
        done.struck.len(),
        percentile(&took, 50),
        percentile(&took, 99)
    );
    for ((name, reason, cold), count) in counts {
        println!("{name}: {count} failed: {reason:?}, {} client", if *cold { "new" } else { "warm" });
    }
}

/// What has grown since the warm-up, a third of the time but no more than a minute.
fn growth(name: &str, samples: &[[i64; 4]]) -> Option<String> {
    let warm = (samples.len() / 3).min(60);
    let part = ((samples.len() - warm) / 3).min(120);
    let (early, late) = (&samples[warm..warm + part], &samples[samples.len() - part..]);
    // At rest: what a login or a fetch needs is there for a moment only.
    let least = |samples: &[[i64; 4]], at: usize| samples.iter().map(|sample| sample[at]).min().unwrap_or(0);
    let state = |samples| (memory(samples), least(samples, 2), least(samples, 3));
    let (before, after) = (state(early), state(late));
    let most = samples.iter().map(|sample| sample[3]).max().unwrap_or(0);
    println!(
        "{name}: private memory in KiB, threads, descriptors: {before:?}, at the end {after:?}; {most} descriptors at most"
    );
    // With few samples, the moment at which all threads rest may be in none of them.
    let is_constant = after.1 <= before.1 && after.2 <= before.2 + 2;
    (after.0 - before.0 > GROWTH || !is_constant).then(|| format!("{name} grew from {before:?} to {after:?}"))
}
