//! What happens when the process has no file descriptor left. Alone in its file, because the limit is the process'.

mod support;

use aws_simulator::Route;
use pgiam_core::ErrorKind;
use support::{on_instance, request, simulator};

#[test]
fn too_many_open_files_are_named_and_the_next_call_works() {
    let simulator = simulator();
    let client = on_instance(&simulator);
    let limit = |soft: u64| {
        let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls read or write `limits`, which lives for them.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits), 0);
            let before = limits.rlim_cur;
            limits.rlim_cur = soft;
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limits), 0);
            before
        }
    };
    let before = limit(3);
    let error = client.generate_token(&request()).unwrap_err();
    limit(before);
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(error.message().contains("cannot connect: too many open files"), "{error}");
    assert!(!error.message().contains("EC2 instance"), "{error}");
    client.generate_token(&request()).unwrap();
    assert_eq!(simulator.requests_for(Route::ImdsToken).len(), 1);
}
