//! Tokens and fetches inside a process, through the C ABI of the built library: `cargo bench --bench tokens`.
//!
//! `make bench` runs this in rounds, in turn with the peers, and reads criterion's samples. docs/performance.md tells
//! what each figure means.

#[path = "support/bare_socket.rs"]
mod bare_socket;
#[path = "support/library.rs"]
mod library;

use std::ffi::CString;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use aws_simulator::{Simulator, SimulatorOptions};
use criterion::{Criterion, Throughput};
use library::{Client, Library, Request};
use sha2::{Digest, Sha256};

/// 1,024 bytes in base64, as STS gives them, so that some are percent-encoded.
const SESSION_TOKEN: &str = include_str!("session-token");

const REQUEST: Request<'static> =
    Request { host: c"mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", port: 5432, user: c"app_user" };

fn main() {
    let library = Library::load();
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .nresamples(1000)
        .configure_from_args();
    let filtered = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wanted = |group: &str| group.starts_with(filtered.split('/').next().unwrap_or_default());

    // One client a variety of credentials; each reads the environment as it is when the client is made.
    for (name, session_token) in [("no_session_token", None), ("session_token_1k", Some(SESSION_TOKEN))] {
        set_environment(&[
            ("AWS_ACCESS_KEY_ID", Some("AKIAIOSFODNN7EXAMPLE")),
            ("AWS_SECRET_ACCESS_KEY", Some("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")),
            ("AWS_SESSION_TOKEN", session_token),
            ("AWS_CONFIG_FILE", Some("/dev/null")),
            ("AWS_SHARED_CREDENTIALS_FILE", Some("/dev/null")),
        ]);
        let client = library.client();
        warm(&mut criterion, name, &client);
        sha2_of_the_same_blocks(&mut criterion, name, &client);
        if session_token.is_some() {
            threads(&mut criterion, &client);
        } else {
            in_turn(&mut criterion, &client);
        }
    }

    if wanted("imds") {
        set_environment(&[("AWS_ACCESS_KEY_ID", None), ("AWS_SECRET_ACCESS_KEY", None), ("AWS_SESSION_TOKEN", None)]);
        for (name, keep_alive) in [("keep_alive", true), ("close", false)] {
            let options = SimulatorOptions { keep_alive, ..SimulatorOptions::default() };
            let simulator = Simulator::start(options).expect("the simulator starts");
            set_environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", Some(&simulator.url()))]);
            instance_metadata(&mut criterion, name, &library.client(), &simulator);
        }
    }
    criterion.final_summary();
}

fn set_environment(variables: &[(&str, Option<&str>)]) {
    for (name, value) in variables {
        // SAFETY: of this program's threads, those of the simulator included, only this one looks at the environment.
        unsafe {
            match value {
                Some(value) => std::env::set_var(name, value),
                None => std::env::remove_var(name),
            }
        }
    }
}

/// A token with credentials at hand, and its freeing.
fn warm(criterion: &mut Criterion, name: &str, client: &Client) {
    criterion.benchmark_group("warm").bench_function(name, |bencher| bencher.iter(|| token(client)));
}

fn token(client: &Client) -> usize {
    token_for(client, &REQUEST)
}

fn token_for(client: &Client, request: &Request) -> usize {
    client.with_token(request, |token| black_box(token).to_bytes().len())
}

/// Tokens for as many users as the name says, one after the other: as many targets as a client keeps prepared, and more.
fn in_turn(criterion: &mut Criterion, client: &Client) {
    let users: Vec<CString> = (0..100).map(|number| CString::new(format!("user_{number}")).expect("no NUL")).collect();
    let mut group = criterion.benchmark_group("warm");
    for count in [8, 32, 100] {
        let requests: Vec<_> = users.iter().take(count).map(|user| Request { user, ..REQUEST }).collect();
        let mut next = requests.iter().cycle();
        group.bench_function(format!("users_in_turn_{count}"), |bencher| {
            bencher.iter(|| next.next().map(|request| token_for(client, request)));
        });
    }
}

/// The floor: `sha2` over as many blocks as the signature of one such token takes.
fn sha2_of_the_same_blocks(criterion: &mut Criterion, name: &str, client: &Client) {
    let blocks = client.with_token(&REQUEST, |token| blocks(token.to_str().expect("text")));
    // The padding takes 9 bytes of the last block.
    let message = vec![b'x'; 64 * blocks - 9];
    let mut group = criterion.benchmark_group("sha2");
    group.throughput(Throughput::Elements(blocks as u64));
    group.bench_function(name, |bencher| bencher.iter(|| Sha256::digest(black_box(&message))));
}

/// How many SHA-256 blocks the signature of this token takes when the day's key is kept in keyed state: those of the
/// canonical request, those of the string to sign, and one for the outer hash of HMAC.
fn blocks(token: &str) -> usize {
    let (host, query) = token.split_once("/?").expect("host and query");
    let (query, _signature) = query.split_once("&X-Amz-Signature=").expect("a signature");
    let (date, scope) = (16, "20260101/eu-central-1/rds-db/aws4_request".len());
    let canonical = "GET\n/\n".len() + query.len() + "\nhost:".len() + host.len() + "\n\nhost\n".len() + 64;
    let to_sign = "AWS4-HMAC-SHA256\n".len() + date + 1 + scope + 1 + 64;
    let padded = |length: usize| (length + 9).div_ceil(64);
    padded(canonical) + padded(to_sign) + 1
}

/// The time per token of one thread, while as many threads as the name says share one client.
fn threads(criterion: &mut Criterion, client: &Client) {
    let mut group = criterion.benchmark_group("threads");
    for count in [1, 2] {
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter_custom(|tokens| {
                let start = Barrier::new(count);
                thread::scope(|scope| {
                    let runs: Vec<_> = (0..count)
                        .map(|_| {
                            scope.spawn(|| {
                                start.wait();
                                let began = Instant::now();
                                for _ in 0..tokens {
                                    token(client);
                                }
                                began.elapsed()
                            })
                        })
                        .collect();
                    runs.into_iter().map(|run| run.join().expect("no panic")).max().expect("a thread")
                })
            });
        });
    }
}

/// The fetch of an instance role's credentials, and the same three exchanges over a bare socket.
fn instance_metadata(criterion: &mut Criterion, name: &str, client: &Client, simulator: &Simulator) {
    let address = simulator.url().trim_start_matches("http://").to_owned();
    let mut group = criterion.benchmark_group("imds");
    group.bench_function(format!("pgiam_{name}"), |bencher| bencher.iter(|| client.refresh()));
    simulator.clear_requests();
    group.bench_function(format!("bare_{name}"), |bencher| {
        bencher.iter(|| bare_socket::instance_credentials(&address));
    });
    simulator.clear_requests();
}
