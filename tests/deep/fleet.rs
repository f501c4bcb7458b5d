//! Many threads and processes that need their first token at the same moment: `tests/c/host/fleet.c`. The simulation of
//! many instances is in the core's tests.

use aws_simulator::Route;

use crate::host_process::{Machine, host};

const THREADS: u32 = 1000;
const WORKERS: u32 = 200;
/// Of one fetch: a session token, the role, its credentials.
const REQUESTS: usize = 3;

#[test]
fn a_thousand_threads_make_one_fetch() {
    let machine = Machine::instance();
    host(&machine, "fleet", "threads", THREADS);
    assert_eq!(machine.simulator.requests().len(), REQUESTS);
}

#[test]
fn two_hundred_cold_workers_make_one_fetch_each() {
    let machine = Machine::instance();
    host(&machine, "fleet", "cold_workers", WORKERS);
    let fetches = machine.simulator.requests_for(Route::ImdsCredentials).len();
    assert_eq!((fetches, machine.simulator.requests().len()), (WORKERS as usize, REQUESTS * WORKERS as usize));
}

#[test]
fn workers_of_a_parent_with_credentials_make_no_fetch() {
    let machine = Machine::instance();
    host(&machine, "fleet", "warm_workers", WORKERS);
    assert_eq!(machine.simulator.requests().len(), REQUESTS);
}
