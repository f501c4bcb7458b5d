//! The two clocks: the wall clock, which goes into signatures and is passed in, and deadlines, which bound waiting.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// Where the core reads the wall clock, in whole seconds since 1970-01-01 UTC. Tests pass their own.
#[derive(Clone)]
pub struct Clock(Option<Arc<dyn Fn() -> i64 + Send + Sync>>);

impl Clock {
    /// The computer's clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(None)
    }

    /// A clock of one's own: Unix seconds.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(now)))
    }

    /// A clock that stands still.
    #[must_use]
    pub fn fixed(unix_seconds: i64) -> Self {
        Self::from_fn(move || unix_seconds)
    }

    /// The time now, in Unix seconds.
    #[must_use]
    #[inline]
    pub fn now(&self) -> i64 {
        match &self.0 {
            Some(now) => now(),
            None => unix_seconds(SystemTime::now()),
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
        f.write_str(if self.0.is_some() { "Clock(given)" } else { "Clock(system)" })
    }
}

/// Whole seconds since 1970, negative before.
#[inline]
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

/// A second as Signature Version 4 writes it: `20260102T030405Z`, and the day `20260102`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SigningTime([u8; 16]);

impl SigningTime {
    /// Seconds outside the years 0 to 9999 are clamped: such a clock cannot make a valid token anyway.
    #[inline]
    pub(crate) fn from_unix(unix_seconds: i64) -> Self {
        let at = OffsetDateTime::from_unix_timestamp(unix_seconds.clamp(-62_167_219_200, 253_402_300_799))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let mut text = *b"00000000T000000Z";
        let mut put = |from: usize, to: usize, mut value: u32| {
            for place in (from..to).rev() {
                text[place] = b'0' + u8::try_from(value % 10).unwrap_or(0);
                value /= 10;
            }
        };
        put(0, 4, u32::try_from(at.year()).unwrap_or(0));
        put(4, 6, u32::from(u8::from(at.month())));
        put(6, 8, u32::from(at.day()));
        put(9, 11, u32::from(at.hour()));
        put(11, 13, u32::from(at.minute()));
        put(13, 15, u32::from(at.second()));
        Self(text)
    }

    #[inline]
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("00000000T000000Z")
    }

    #[inline]
    pub(crate) fn date(&self) -> &str {
        &self.as_str()[..8]
    }
}

/// Reads a time as AWS writes it in JSON and XML: `2026-01-02T03:04:05Z`, with or without fraction, or with an offset.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text.trim(), &Rfc3339).ok().map(|at| at.to_offset(UtcOffset::UTC).unix_timestamp())
}

/// Writes a time as AWS does, `2026-01-02T03:04:05Z`.
#[must_use]
pub fn rfc3339(unix_seconds: i64) -> String {
    let time = SigningTime::from_unix(unix_seconds);
    let t = time.as_str();
    format!("{}-{}-{}T{}:{}:{}Z", &t[..4], &t[4..6], &t[6..8], &t[9..11], &t[11..13], &t[13..15])
}

/// A moment by which a fetch must be over. It covers connecting, retries and reading.
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

    #[test]
    fn seconds_are_written_as_signature_version_4_wants_them() {
        assert_eq!(SigningTime::from_unix(0).as_str(), "19700101T000000Z");
        assert_eq!(SigningTime::from_unix(1_724_709_600).as_str(), "20240826T220000Z");
        assert_eq!(SigningTime::from_unix(1_709_210_096).as_str(), "20240229T123456Z");
        assert_eq!(SigningTime::from_unix(1_709_210_096).date(), "20240229");
    }

    #[test]
    fn a_clock_far_off_is_clamped_and_does_not_panic() {
        assert_eq!(SigningTime::from_unix(i64::MAX).as_str(), "99991231T235959Z");
        assert_eq!(SigningTime::from_unix(i64::MIN).as_str(), "00000101T000000Z");
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
