//! A child of `fork` gets its token, whatever the parent's other threads were doing.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use aws_simulator::{Fault, Route};
use pgiam_core::{Client, ErrorKind, test_hooks};
use support::{Hands, environment, on_instance, request, settings, simulator};

/// Runs `work` in a forked child and returns its answer. A child that hangs is killed by its own alarm.
fn in_a_child(work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls nothing but `work` and `_exit`; the library's promise is that its calls are usable there.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(20);
                libc::_exit(i32::from(!work()));
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }
}

#[test]
fn a_child_uses_the_cached_credentials() {
    let simulator = simulator();
    let client = on_instance(&simulator);
    client.generate_token(&request()).unwrap();
    assert!(in_a_child(|| client.generate_token(&request()).is_ok()));
    assert_eq!(simulator.requests().len(), 3, "the child asked nobody");
}

#[test]
fn a_child_forked_while_a_thread_of_the_parent_fetches_makes_its_own_fetch() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    let client = Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "60000")]))
        .build();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.generate_token(&request()));
        assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
        assert!(in_a_child(|| client.generate_token(&request()).is_ok()));
        simulator.release();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(simulator.requests_for(Route::ImdsCredentials).len(), 2, "the child's and the parent's");
}

#[test]
fn a_child_can_try_without_waiting_too() {
    let simulator = simulator();
    let client = on_instance(&simulator);
    assert!(in_a_child(|| {
        loop {
            match client.try_generate_token(&request()) {
                Ok(Some(_)) => return true,
                Ok(None) => std::thread::yield_now(),
                Err(error) => return error.kind() == ErrorKind::Internal,
            }
        }
    }));
}

#[test]
fn a_first_call_without_a_free_file_descriptor_is_forgotten_by_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    std::fs::write(&file, "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s\n").unwrap();
    let variables = [("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("AWS_EC2_METADATA_DISABLED", "true")];
    let environment = environment(&variables);
    let limit = |descriptors| {
        let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: 4096 };
        // SAFETY: reads `limit`, which lives for the call.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    };
    // In a child, since the limit is the whole process'.
    assert!(in_a_child(|| {
        limit(0);
        let client = Client::builder().environment(environment).build();
        let failed = client.generate_token(&request()).is_err();
        limit(4096);
        failed && client.generate_token(&request()).is_ok()
    }));
}

/// Makes this process unable to start a thread, also where it is the administrator's.
fn forbid_threads() {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: changes the limit and the user of this process, by values that live for the calls.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const none), 0);
        if libc::geteuid() == 0 {
            assert_eq!(libc::setresuid(65534, 65534, 65534), 0);
        }
    }
}

#[test]
fn try_never_waits_where_no_thread_can_be_had() {
    let simulator = simulator();
    let hands = Hands::of(&simulator);
    let client = || {
        Client::builder()
            .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
            .settings(settings(&[("timeout_ms", "60000")]))
            .clock(hands.clock())
            .build()
    };
    let (warm, cold) = (client(), client());
    warm.generate_token(&request()).unwrap();
    hands.forward(6 * 3600 - 10 * 60);
    // A fetch on the caller's own thread would wait for this until the child is killed.
    simulator.inject(Route::ImdsToken, Fault::Hold, aws_simulator::Times::Forever);
    assert!(in_a_child(|| {
        forbid_threads();
        let nothing_cached =
            || matches!(cold.try_generate_token(&request()), Err(error) if error.kind() == ErrorKind::Internal);
        let cached = || matches!(warm.try_generate_token(&request()), Ok(Some(_)));
        let waiting_caller_with_cached = || warm.generate_token(&request()).is_ok();
        cached() && cached() && nothing_cached() && nothing_cached() && waiting_caller_with_cached()
    }));
    assert_eq!(simulator.requests().len(), 3, "no fetch by the child");
    simulator.release();
}

/// Set in the process that the test below starts again as number 1 of a PID namespace.
const IN_NAMESPACE: &str = "PGIAM_TEST_IN_PID_NAMESPACE";

#[test]
fn a_child_with_its_parents_process_id_does_not_wait_for_the_parents_fetch() {
    if std::env::var_os(IN_NAMESPACE).is_some() {
        return as_process_1();
    }
    // A process becomes number 1 of a PID namespace, and its child number 1 of another.
    // SAFETY: geteuid cannot fail.
    let user: &[&str] = if unsafe { libc::geteuid() } == 0 { &[] } else { &["--user", "--map-root-user"] };
    let output = std::process::Command::new("unshare")
        .args(user)
        .args(["--pid", "--fork"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_with_its_parents_process_id_does_not_wait_for_the_parents_fetch", "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .output()
        .expect("unshare of util-linux runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if text.contains("unshare failed: Operation not permitted") {
        // A container without the right to make PID namespaces cannot give a child its parent's number either.
        return eprintln!("no PID namespaces here");
    }
    assert!(output.status.success(), "{text}");
    assert!(text.contains("both were process 1"), "{text}");
}

fn as_process_1() {
    assert_eq!(std::process::id(), 1);
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    let client = Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "60000")]))
        .build();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.generate_token(&request()));
        assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
        // SAFETY: changes nothing but the PID namespace of children.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
        assert!(in_a_child(|| std::process::id() == 1 && client.generate_token(&request()).is_ok()));
        simulator.release();
        waiting.join().unwrap().unwrap();
    });
    println!("both were process 1");
}

/// Makes calls until the moment, where the hook stops this thread.
fn call_until(moment: &str, client: &Client, hands: &Hands, simulator: &aws_simulator::Simulator) {
    match moment {
        "poll: locked" => drop(client.try_generate_token(&request()).unwrap()),
        "spawn: locked" => {
            client.generate_token(&request()).unwrap();
            hands.forward(6 * 3600 - 10 * 60);
            client.generate_token(&request()).unwrap();
        }
        "run: waiting" => {
            // Another thread fetches, and its request is kept waiting.
            simulator.inject(Route::ImdsToken, Fault::Hold, 1);
            std::thread::scope(|scope| {
                let fetching = scope.spawn(|| client.generate_token(&request()));
                assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
                // Waits for that fetch, which ends once this thread has gone on.
                let ours = client.generate_token(&request());
                fetching.join().unwrap().unwrap();
                ours.unwrap();
            });
        }
        _ => drop(client.generate_token(&request()).unwrap()),
    }
}

#[test]
fn a_child_forked_while_a_thread_has_any_lock_gets_its_token() {
    for moment in test_hooks::MOMENTS {
        let simulator = simulator();
        let hands = Hands::of(&simulator);
        let client = Client::builder()
            .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
            .settings(settings(&[("timeout_ms", "30000")]))
            .clock(hands.clock())
            .build();
        let (arrived, arrivals) = mpsc::channel();
        let (go_on, leave) = mpsc::channel::<()>();
        let (arrived, leave, first) = (Mutex::new(arrived), Mutex::new(leave), AtomicBool::new(true));
        let hook: test_hooks::Hook = Arc::new(move |reached| {
            if reached == moment && first.swap(false, Ordering::Relaxed) {
                arrived.lock().unwrap().send(()).unwrap();
                leave.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap();
            }
        });
        std::thread::scope(|scope| {
            let stopped = scope.spawn(|| {
                test_hooks::set_hook(Some(hook));
                call_until(moment, &client, &hands, &simulator);
            });
            arrivals.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| panic!("{moment}: not reached"));
            assert!(in_a_child(|| client.generate_token(&request()).is_ok()), "{moment}: waiting");
            assert!(in_a_child(|| client.refresh().is_ok()), "{moment}: refreshing");
            assert!(
                in_a_child(|| {
                    loop {
                        match client.try_generate_token(&request()) {
                            Ok(Some(_)) => return true,
                            Ok(None) => std::thread::yield_now(),
                            Err(_) => return false,
                        }
                    }
                }),
                "{moment}: trying"
            );
            go_on.send(()).unwrap();
            simulator.release();
            stopped.join().unwrap();
        });
    }
}
