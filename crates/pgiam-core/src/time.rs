//! Wall clock, monotonic clock and deadlines. Tests pass their own clocks.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::sys;

/// One reading of both clocks, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock: seconds since 1970-01-01 UTC. It goes into signatures and is compared with expiration times.
    pub unix_seconds: i64,
    /// A clock that nobody sets, from any start. It says how much time has passed, time asleep included.
    pub monotonic_seconds: i64,
}

/// Where the core reads the time.
#[derive(Clone)]
pub struct Clock(Option<Arc<dyn Fn() -> Moment + Send + Sync>>);

impl Clock {
    /// The computer's clocks.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// A wall clock that is never wrong, in Unix seconds: the monotonic clock advances with it.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self::from_moments(move || {
            let now = now();
            Moment { unix_seconds: now, monotonic_seconds: now }
        })
    }

    /// Both clocks, each of which may be moved without the other.
    #[must_use]
    pub fn from_moments(now: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    /// A clock that does not move.
    #[must_use]
    pub fn fixed(unix_seconds: i64) -> Self {
        Self::from_fn(move || unix_seconds)
    }

    /// The wall clock now, in Unix seconds.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.moment().unix_seconds
    }

    /// Both clocks now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        match &self.0 {
            Some(now) => now(),
            None => {
                Moment { unix_seconds: unix_seconds(SystemTime::now()), monotonic_seconds: sys::monotonic_seconds() }
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Clock(custom)" } else { "Clock(system)" })
    }
}

/// Whole seconds since 1970, negative before.
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    }
}

/// The inverse of [`unix_seconds`]; times before 1970 become 1970.
pub(crate) fn system_time(unix_seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_seconds).unwrap_or(0))
}

/// A day as Signature Version 4 writes it, `20260102`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Day {
    /// Unix seconds.
    start: i64,
    text: [u8; 8],
}

/// A second of a day, as in `030405`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeOfDay([u8; 6]);

const DAY: i64 = 86_400;

impl Day {
    /// The day that a second belongs to, and its time of day.
    pub(crate) fn at(unix_seconds: i64) -> (Self, TimeOfDay) {
        let second = clamped(unix_seconds);
        let start = second.div_euclid(DAY) * DAY;
        let at = OffsetDateTime::from_unix_timestamp(start).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let mut text = [b'0'; 8];
        let year = u32::try_from(at.year()).unwrap_or(0);
        write_decimal(&mut text[..4], year);
        write_decimal(&mut text[4..6], u8::from(at.month()).into());
        write_decimal(&mut text[6..], at.day().into());
        (Self { start, text }, TimeOfDay::new(second - start))
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or("00000000")
    }

    /// The time of day of a second, if the second belongs to this day.
    pub(crate) fn time(&self, unix_seconds: i64) -> Option<TimeOfDay> {
        let second = clamped(unix_seconds) - self.start;
        (0..DAY).contains(&second).then(|| TimeOfDay::new(second))
    }
}

impl TimeOfDay {
    fn new(second_of_day: i64) -> Self {
        let second = u32::try_from(second_of_day).unwrap_or(0);
        let mut digits = [b'0'; 6];
        write_decimal(&mut digits[..2], second / 3600);
        write_decimal(&mut digits[2..4], second / 60 % 60);
        write_decimal(&mut digits[4..], second % 60);
        Self(digits)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("000000")
    }
}

/// Fills `digits` with the last digits of a number.
fn write_decimal(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// Seconds outside the years 0 to 9999 are clamped: such a clock cannot make a valid token anyway.
fn clamped(unix_seconds: i64) -> i64 {
    unix_seconds.clamp(-62_167_219_200, 253_402_300_799)
}

/// Reads a time as AWS writes it in JSON and XML: `2026-01-02T03:04:05Z`, with or without fraction, or with an offset.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text.trim(), &Rfc3339).ok().map(|at| at.to_offset(UtcOffset::UTC).unix_timestamp())
}

/// Writes a time as AWS does, `2026-01-02T03:04:05Z`.
#[must_use]
pub fn rfc3339(unix_seconds: i64) -> String {
    let (day, time) = Day::at(unix_seconds);
    let (d, t) = (day.as_str(), time.as_str());
    format!("{}-{}-{}T{}:{}:{}Z", &d[..4], &d[4..6], &d[6..], &t[..2], &t[2..4], &t[4..])
}

/// The time by which a fetch must be over. It covers connecting, retries and reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(duration: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(duration).unwrap_or(now + Duration::from_secs(86_400)))
    }

    /// This deadline or `duration` from now, whichever comes first.
    pub(crate) fn at_most(self, duration: Duration) -> Self {
        Self(self.0.min(Self::after(duration).0))
    }

    /// What is left; `None` once it has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.0.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `X-Amz-Date`.
    fn written(unix_seconds: i64) -> String {
        let (day, time) = Day::at(unix_seconds);
        assert_eq!(day.time(unix_seconds), Some(time));
        format!("{}T{}Z", day.as_str(), time.as_str())
    }

    #[test]
    fn seconds_are_written_as_signature_version_4_requires() {
        assert_eq!(written(0), "19700101T000000Z");
        assert_eq!(written(1_724_709_600), "20240826T220000Z");
        assert_eq!(written(1_709_210_096), "20240229T123456Z");
        assert_eq!(written(1_709_251_199), "20240229T235959Z");
        assert_eq!(written(1_709_251_200), "20240301T000000Z");
        assert_eq!(written(-1), "19691231T235959Z");
    }

    #[test]
    fn a_second_has_a_time_on_its_own_day_only() {
        let (day, _) = Day::at(1_709_210_096);
        assert_eq!(day.time(1_709_164_799), None);
        assert_eq!(day.time(1_709_164_800).unwrap().as_str(), "000000");
        assert_eq!(day.time(1_709_251_199).unwrap().as_str(), "235959");
        assert_eq!(day.time(1_709_251_200), None);
    }

    #[test]
    fn a_clock_that_is_far_off_is_clamped_and_does_not_panic() {
        assert_eq!(written(i64::MAX), "99991231T235959Z");
        assert_eq!(written(i64::MIN), "00000101T000000Z");
    }

    #[test]
    fn expirations_are_read_with_fraction_and_offset() {
        assert_eq!(parse_rfc3339("2024-08-26T22:00:00Z"), Some(1_724_709_600));
        assert_eq!(rfc3339(1_724_709_600), "2024-08-26T22:00:00Z");
        assert_eq!(parse_rfc3339("2024-08-26T22:00:00.123Z"), Some(1_724_709_600));
        assert_eq!(parse_rfc3339("2024-08-27T00:00:00+02:00"), Some(1_724_709_600));
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }
}
