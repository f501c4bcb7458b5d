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
