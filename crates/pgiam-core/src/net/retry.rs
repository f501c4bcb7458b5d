//! Tries a request again, with back-off and jitter, inside one deadline.
//!
//! Full jitter as the SDKs use it: a random part of 100 ms, 200 ms, 400 ms … so that many machines that failed together
//! do not come back together.

use std::time::Duration;

use crate::time::Deadline;

/// What one attempt came to.
pub(crate) enum Attempt<T, E> {
    /// Over, one way or the other.
    Done(Result<T, E>),
    /// Worth another try; `E` is the answer if there is none left.
    Again(E),
}

const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// Calls `attempt` up to `attempts` times. Between two calls it waits, but never past the deadline: when the wait would
/// not leave time for another try, the last failure is the answer.
pub(crate) fn retry<T, E>(
    attempts: u32,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Attempt<T, E>,
) -> Result<T, E> {
    let mut number = 1;
    loop {
        match attempt() {
            Attempt::Done(outcome) => return outcome,
            Attempt::Again(failure) => {
                let most = FIRST_BACK_OFF * 2_u32.saturating_pow(number - 1).min(16);
                let wait = most.mul_f64(fastrand::f64());
                if number >= attempts || deadline.remaining().is_none_or(|left| left <= wait) {
                    return Err(failure);
                }
                std::thread::sleep(wait);
                number += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_after_the_stated_number_of_attempts_with_the_last_failure() {
        let mut calls = 0;
        let outcome: Result<(), u32> = retry(3, Deadline::after(Duration::from_secs(60)), || {
            calls += 1;
            Attempt::Again(calls)
        });
        assert_eq!(outcome, Err(3));
    }

    #[test]
    fn does_not_wait_past_the_deadline() {
        let mut calls = 0;
        let outcome: Result<(), u32> = retry(3, Deadline::after(Duration::ZERO), || {
            calls += 1;
            Attempt::Again(calls)
        });
        assert_eq!(outcome, Err(1));
    }
}
