//! A child of `fork` gets its token, whatever the parent's other threads were doing.

mod support;

use std::time::Duration;

use aws_simulator::{Fault, Route};
use pgiam_core::{Client, ErrorKind};
use support::{environment, on_instance, request, settings, simulator};

/// Runs `work` in a forked child and tells whether it said yes. A child that hangs is killed by its own alarm.
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
fn a_child_goes_on_with_what_the_client_holds() {
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
