//! What is asked again, and when: the same for every source of credentials.
//!
//! An outage is worth another try, a refusal is not: [`Failure::is_outage`] and [`Response::is_outage`]. Between two tries
//! is a random part of 100 ms, 200 ms, 400 ms and so on (full jitter, as in the SDKs), so that many machines that failed
//! together do not come back together. Everything is within one deadline.

use std::time::Duration;

use crate::log::Log;
use crate::net::http::{self, Failure, Http, Limits, Request, Response};
use crate::time::Deadline;

/// How often and how long to ask.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(crate) attempts: u32,
    pub(crate) limits: Limits,
    pub(crate) deadline: Deadline,
    pub(crate) log: &'a Log,
}

/// Sends a request, again after an outage. `is_throttled` recognises the responses by which a service reports throttling
/// besides 429 and 5xx. The response may be of any other status.
pub(crate) fn ask(
    http: &Http,
    request: &Request<'_>,
    patience: Patience<'_>,
    is_throttled: fn(&Response) -> bool,
) -> Result<Response, Failure> {
    let again = |failure: &Failure, number: u32, wait: Duration| {
        patience.log.info(format_args!(
            "{} {}: {}; attempt {} of {} in {} ms",
            request.method,
            http::shown(request.url),
            failure.describe(),
            number,
            patience.attempts,
            wait.as_millis()
        ));
    };
    retry(patience.attempts, patience.deadline, again, || match http.send(request, patience.limits) {
        Ok(response) if response.is_outage() || is_throttled(&response) => Attempt::Again(Failure::outage(&response)),
        Err(failure) if failure.is_outage() => Attempt::Again(failure),
        outcome => Attempt::Done(outcome),
    })
}

/// The result of one attempt.
enum Attempt<T, E> {
    Done(Result<T, E>),
    /// Worth another try; `E` is the result if there is none left.
    Again(E),
}

const FIRST_BACK_OFF: Duration = Duration::from_millis(100);

/// How long to wait after so many attempts.
pub(crate) fn wait_after(attempts: u32) -> Duration {
    let most = FIRST_BACK_OFF * 2_u32.saturating_pow(attempts - 1).min(16);
    most.mul_f64(fastrand::f64())
}

/// Calls `attempt` up to `attempts` times. When the wait would not leave time for another try, the last failure is the
/// result. `again` is called before each wait, with the number of the next attempt.
fn retry<T, E>(
    attempts: u32,
    deadline: Deadline,
    again: impl Fn(&E, u32, Duration),
    mut attempt: impl FnMut() -> Attempt<T, E>,
) -> Result<T, E> {
    let mut number = 1;
    loop {
        match attempt() {
            Attempt::Done(outcome) => return outcome,
            Attempt::Again(failure) => {
                let wait = wait_after(number);
                if number >= attempts || deadline.remaining().is_none_or(|left| left <= wait) {
                    return Err(failure);
                }
                number += 1;
                again(&failure, number, wait);
                std::thread::sleep(wait);
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
        let outcome: Result<(), u32> = retry(
            3,
            Deadline::after(Duration::from_secs(60)),
            |_, _, _| {},
            || {
                calls += 1;
                Attempt::Again(calls)
            },
        );
        assert_eq!(outcome, Err(3));
    }

    #[test]
    fn does_not_wait_past_the_deadline() {
        let mut calls = 0;
        let outcome: Result<(), u32> = retry(
            3,
            Deadline::after(Duration::ZERO),
            |_, _, _| {},
            || {
                calls += 1;
                Attempt::Again(calls)
            },
        );
        assert_eq!(outcome, Err(1));
    }
}
