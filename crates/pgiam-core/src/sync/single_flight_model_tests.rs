//! Models of [`SingleFlight`]: a few threads, in thousands of orders. `primitives_for_tests.rs` says what is modelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use shuttle::thread;

use super::{Poll, SingleFlight, WORTH_A_FETCH};
use crate::error::{Error, ErrorKind};
use crate::sync::primitives::{Fault, become_process, explore, finds, join_background, let_waits_time_out, switch};
use crate::time::Deadline;

const SECOND: Duration = Duration::from_secs(1);

/// A flight with a value that a fetch stores, as the client does, and what happened. Its own numbers are those of the
/// standard library, so that reading them lets no other thread run.
struct World {
    flight: SingleFlight<u32>,
    /// 0: nothing was fetched.
    value: AtomicU32,
    fetches: AtomicU32,
    is_fetching: AtomicBool,
    works: bool,
}

impl World {
    fn new(works: bool) -> Arc<Self> {
        let (value, fetches, is_fetching) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        Arc::new(Self { flight: SingleFlight::new(), value, fetches, is_fetching, works })
    }

    fn ready(&self) -> Option<u32> {
        switch();
        Some(self.value.load(Ordering::Relaxed)).filter(|value| *value != 0)
    }

    /// The outcome is the number of the fetch. After the deadline it is a time-out.
    fn fetch(&self, deadline: Deadline) -> Result<u32, Error> {
        let alone = !self.is_fetching.swap(true, Ordering::Relaxed);
        switch();
        let number = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
        switch();
        let in_time = deadline.remaining().is_some();
        if self.works && in_time {
            self.value.store(number, Ordering::Relaxed);
        }
        self.is_fetching.store(false, Ordering::Relaxed);
        // A panic would be caught.
        match (alone, in_time, self.works) {
            (false, ..) => Err(Error::new(ErrorKind::Internal, "two fetches at a time")),
            (true, false, _) => Err(Error::new(ErrorKind::Timeout, number.to_string())),
            (true, true, true) => Ok(number),
            (true, true, false) => Err(Error::new(ErrorKind::Provider, number.to_string())),
        }
    }

    fn run(&self, deadline: Deadline) -> Result<u32, Error> {
        let outcome = self.flight.run(deadline, || self.ready(), || self.fetch(deadline));
        self.check(outcome.as_ref().err());
        outcome
    }

    fn poll(self: &Arc<Self>) -> Poll<u32> {
        let world = Arc::clone(self);
        let poll = self.flight.poll(|| self.ready(), move || world.fetch(later()));
        self.check(if let Poll::Failed(error) = &poll { Some(error) } else { None });
        poll
    }

    fn spawn(self: &Arc<Self>) {
        let world = Arc::clone(self);
        self.flight.spawn(move || world.fetch(later())).unwrap();
    }

    fn check(&self, error: Option<&Error>) {
        assert!(error.is_none_or(|error| error.kind() != ErrorKind::Internal), "{error:?}");
    }

    fn fetches(&self) -> u32 {
        self.fetches.load(Ordering::Relaxed)
    }

    /// Once all threads have ended, the next caller fetches or gets the value: nothing is left that it would wait for.
    fn is_at_rest(&self) {
        join_background();
        assert!(!self.flight.shared().lock().running);
    }
}

fn later() -> Deadline {
    Deadline::after(60 * SECOND)
}

/// Runs a function on this many threads and waits for them.
fn on_threads(number: u32, work: impl Fn(u32) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..number)
        .map(|thread| {
            let work = Arc::clone(&work);
            thread::spawn(move || work(thread))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

fn callers_that_wait() {
    let world = World::new(true);
    let own = Arc::clone(&world);
    on_threads(4, move |_| assert_eq!(own.run(later()), Ok(1)));
    assert_eq!(world.fetches(), 1);
    world.is_at_rest();
}

#[test]
fn callers_that_wait_share_one_fetch_in_every_order_of_their_steps() {
    explore(callers_that_wait);
}

fn callers_that_share_a_failure() {
    let world = World::new(false);
    let own = Arc::clone(&world);
    on_threads(4, move |_| {
        let ended = own.flight.shared().lock().finished;
        let error = own.run(later()).unwrap_err();
        let number: u64 = error.message().parse().unwrap();
        assert!(number > ended, "of a fetch that had ended before the call");
    });
    assert!((1..=4).contains(&world.fetches()));
    world.is_at_rest();
}

#[test]
fn callers_that_wait_for_a_fetch_that_fails_share_its_error() {
    explore(callers_that_share_a_failure);
}

#[test]
fn a_caller_whose_time_is_up_leaves_and_one_with_time_left_gets_the_value() {
    explore(|| {
        let_waits_time_out();
        let world = World::new(true);
        let own = Arc::clone(&world);
        on_threads(4, move |thread| {
            let deadline = Deadline::after(SECOND * (thread + 1));
            match own.run(deadline) {
                Ok(value) => assert_ne!(value, 0),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Timeout);
                    assert!(deadline.remaining().is_none_or(|left| left < WORTH_A_FETCH), "before its time was up");
                }
            }
        });
        world.is_at_rest();
        assert!(world.run(later()).is_ok());
    });
}

#[test]
fn callers_that_wait_poll_and_start_refreshes_never_fetch_at_the_same_time() {
    explore(|| {
        let world = World::new(true);
        let own = Arc::clone(&world);
        on_threads(4, move |thread| match thread {
            0 => own.spawn(),
            1 => assert!(own.run(later()).is_ok()),
            _ => {
                for _ in 0..2 {
                    assert!(!matches!(own.poll(), Poll::Failed(_)));
                }
            }
        });
        world.is_at_rest();
        // The refresh fetches whatever is there; the others only where nothing is.
        assert!((1..=2).contains(&world.fetches()), "{}", world.fetches());
        assert!(matches!(world.poll(), Poll::Ready(_)));
    });
}

#[test]
fn each_failure_is_reported_to_one_caller_that_polls_and_the_next_fetch_waits_for_the_end_of_a_pause() {
    explore(|| {
        let world = World::new(false);
        let own = Arc::clone(&world);
        let reported = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&reported);
        on_threads(3, move |_| {
            for _ in 0..3 {
                if let Poll::Failed(error) = own.poll() {
                    assert_eq!(error.message(), "1");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        world.is_at_rest();
        // The clock stands still, so that the pause after the report does not end.
        if reported.load(Ordering::Relaxed) == 0 {
            assert!(matches!(world.poll(), Poll::Failed(_)));
        }
        assert!(reported.load(Ordering::Relaxed) <= 1);
        assert!(matches!(world.poll(), Poll::Pending));
        world.is_at_rest();
        assert_eq!(world.fetches(), 1);
    });
}

/// The child has what the parent had at the worst moment: a fetch is running, and another thread has the lock, which is
/// never unlocked in the child.
fn a_fork() {
    let world = World::new(true);
    let parent = Arc::clone(&world);
    let with_the_lock = thread::spawn(move || {
        let shared = parent.flight.shared();
        let mut state = shared.lock();
        state.running = true;
        std::mem::forget(state);
    });
    with_the_lock.join().unwrap();
    let own = Arc::clone(&world);
    on_threads(3, move |thread| {
        become_process(2);
        if thread == 0 {
            assert!(!matches!(own.poll(), Poll::Failed(_)));
        }
        assert_eq!(own.run(later()), Ok(1));
    });
    join_background();
    assert_eq!(world.fetches(), 1);
    let grandchild = Arc::clone(&world);
    thread::spawn(move || {
        become_process(3);
        assert_eq!(grandchild.run(later()), Ok(1));
    })
    .join()
    .unwrap();
}

#[test]
fn a_child_of_fork_takes_no_inherited_lock_and_its_threads_share_one_fetch() {
    explore(a_fork);
}

#[test]
fn a_notify_that_is_forgotten_is_found() {
    assert!(finds(Fault::NotifyForgotten, callers_that_wait));
}

#[test]
fn a_check_outside_the_lock_is_found() {
    assert!(finds(Fault::CheckOutsideTheLock, callers_that_wait));
}

#[test]
fn a_fork_that_is_not_noticed_is_found() {
    assert!(finds(Fault::ForkUnnoticed, a_fork));
}

#[test]
fn the_model_itself_passes_without_a_fault() {
    assert!(!finds(Fault::None, callers_that_wait));
    assert!(!finds(Fault::None, a_fork));
}
