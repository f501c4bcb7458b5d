//! Wall clock, monotonic clock and deadlines, and how points in time are written. Tests pass their own clocks.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime};

use crate::sync::primitives;
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

/// 0001-01-01T00:00:00Z
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
const LAST_SECOND: i64 = 253_402_300_799;

/// Seconds outside the years 0 to 9999 are clamped: such a clock cannot make a valid token anyway.
fn clamped(unix_seconds: i64) -> i64 {
    unix_seconds.clamp(-62_167_219_200, LAST_SECOND)
}

/// Converts Unix milliseconds, as the SSO portal writes them, to seconds. `None`: outside the years 1 to 9999.
pub(crate) fn from_milliseconds(milliseconds: i64) -> Option<i64> {
    Some(milliseconds.div_euclid(1000)).filter(|at| (FIRST_SECOND..=LAST_SECOND).contains(at))
}

/// Reads a point in time as AWS and the tools around it write it, and returns Unix seconds; a fraction is dropped.
///
/// The date is `2026-01-02` or `20260102`, then `T` or spaces, the time `03:04:05`, `03:04`, `03` or the same without
/// colons, perhaps with a fraction, and the zone `Z`, `UTC`, `GMT`, `+01:00`, `+0100` or `+01`. Letters may be lower
/// case. The AWS CLI reads all of these. `None`: not such a time, no zone, or outside the years 1 to 9999.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let mut rest = Scanner(text.trim().as_bytes());
    let year = rest.digits(4)?;
    let dashes = rest.skip(b"-");
    let month = rest.digits(2)?;
    if dashes != rest.skip(b"-") {
        return None;
    }
    let day = rest.digits(2)?;
    if !rest.skip(b"Tt") && !rest.skip_spaces() {
        return None;
    }
    rest.skip_spaces();
    let [hour, minute, second] = rest.clock_time()?;
    rest.skip_spaces();
    let offset = rest.offset()?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let start = date.midnight().assume_utc().unix_timestamp();
    let at = start + hour * 3600 + minute * 60 + second - offset;
    (rest.0.is_empty() && (FIRST_SECOND..=LAST_SECOND).contains(&at)).then_some(at)
}

/// What is left of a time that is being read.
struct Scanner<'a>(&'a [u8]);

impl Scanner<'_> {
    /// A number of exactly so many digits.
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = rest;
        Some(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    /// Two digits below `limit`.
    fn below(&mut self, limit: i64) -> Option<i64> {
        self.digits(2).filter(|number| *number < limit)
    }

    /// Skips one byte if it is one of these.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        let found = self.0.first().is_some_and(|byte| bytes.contains(byte));
        self.0 = &self.0[usize::from(found)..];
        found
    }

    fn skip_spaces(&mut self) -> bool {
        let before = self.0.len();
        self.0 = self.0.trim_ascii_start();
        self.0.len() < before
    }

    fn is_at_digit(&self) -> bool {
        self.0.first().is_some_and(u8::is_ascii_digit)
    }

    /// Hour, minute and second. The last two may be missing, and a fraction may follow the last.
    fn clock_time(&mut self) -> Option<[i64; 3]> {
        let hour = self.below(24)?;
        let colons = self.skip(b":");
        if !colons && !self.is_at_digit() {
            return Some([hour, 0, 0]);
        }
        let minute = self.below(60)?;
        let has_seconds = if colons { self.skip(b":") } else { self.is_at_digit() };
        if !has_seconds {
            return Some([hour, minute, 0]);
        }
        let second = self.below(60)?;
        if self.skip(b".,") {
            if !self.is_at_digit() {
                return None;
            }
            let end = self.0.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
            self.0 = &self.0[end..];
        }
        Some([hour, minute, second])
    }

    /// Seconds that the zone is ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        if self.skip(b"Zz") {
            return Some(0);
        }
        if let Some((name, rest)) = self.0.split_at_checked(3)
            && (name.eq_ignore_ascii_case(b"UTC") || name.eq_ignore_ascii_case(b"GMT"))
        {
            self.0 = rest;
            return Some(0);
        }
        let ahead = self.0.first() == Some(&b'+');
        if !self.skip(b"+-") {
            return None;
        }
        let hours = self.below(24)?;
        let minutes = if self.skip(b":") || self.is_at_digit() { self.below(60)? } else { 0 };
        let seconds = hours * 3600 + minutes * 60;
        Some(if ahead { seconds } else { -seconds })
    }
}

/// Reads a time as HTTP writes it: `Wed, 02 Dec 2026 03:04:05 GMT`.
pub(crate) fn parse_http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// Writes a time as AWS does, `2026-01-02T03:04:05Z`.
#[must_use]
pub fn rfc3339(unix_seconds: i64) -> String {
    let (day, time) = Day::at(unix_seconds);
    let (d, t) = (day.as_str(), time.as_str());
    format!("{}-{}-{}T{}:{}:{}Z", &d[..4], &d[4..6], &d[6..], &t[..2], &t[2..4], &t[4..])
}

/// The moment by which a fetch must end. It covers connecting, retries and reading.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    /// Not moved for a program that asks a person.
    firm: bool,
}

impl Deadline {
    /// A deadline after `duration`. A program that asks a person may take longer.
    #[must_use]
    pub fn after(duration: Duration) -> Self {
        let now = primitives::now();
        Self { end: now.checked_add(duration).unwrap_or(now + Duration::from_secs(86_400)), firm: false }
    }

    /// The same deadline, also for a program that asks a person.
    #[must_use]
    pub fn firm(self) -> Self {
        Self { firm: true, ..self }
    }

    /// This deadline or `duration` from now, whichever comes first.
    pub(crate) fn at_most(self, duration: Duration) -> Self {
        Self { end: self.end.min(Self::after(duration).end), ..self }
    }

    /// This deadline or `duration` from now, whichever comes last, unless it is firm.
    pub(crate) fn at_least(self, duration: Duration) -> Self {
        if self.firm { self } else { Self { end: self.end.max(Self::after(duration).end), ..self } }
    }

    /// This deadline, moved by `duration`, unless it is firm.
    pub(crate) fn later(self, duration: Duration) -> Self {
        let duration = if self.firm { Duration::ZERO } else { duration };
        Self { end: self.end.checked_add(duration).unwrap_or(self.end), ..self }
    }

    /// The time left; `None` once the deadline has passed.
    pub(crate) fn remaining(self) -> Option<Duration> {
        self.end.checked_duration_since(primitives::now()).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_deadline_that_is_not_firm_is_moved_for_a_person() {
        let long = Duration::from_secs(3600);
        for (deadline, moved) in [(Deadline::after(long), true), (Deadline::after(long).firm(), false)] {
            for later in [deadline.later(long), deadline.at_least(2 * long), deadline.at_most(9 * long).later(long)] {
                assert_eq!(later.remaining().unwrap() > long, moved);
            }
        }
    }

    #[test]
    fn the_date_of_an_http_response_is_read() {
        assert_eq!(parse_http_date("Mon, 26 Aug 2024 22:00:00 GMT"), Some(1_724_709_600));
        for text in ["", "Mon, 26 Aug 2024 22:00:00 CET", "26 Aug 2024 22:00:00 GMT", "Mon, 26 Abc 2024 22:00:00 GMT"] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

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

    const AT: i64 = 1_724_709_600;

    #[test]
    fn times_are_read_as_the_aws_cli_reads_them() {
        for text in [
            "2024-08-26T22:00:00Z",
            "2024-08-26t22:00:00z",
            "2024-08-26 22:00:00Z",
            " 2024-08-26T22:00:00Z\n",
            "2024-08-26  22:00:00 Z",
            "2024-08-26T22:00:00.5Z",
            "2024-08-26T22:00:00,123456789Z",
            "2024-08-26T22:00:00.999999999999999999999999+00:00",
            "2024-08-26T22:00:00UTC",
            "2024-08-26 22:00:00 GMT",
            "2024-08-26T22:00:00-00:00",
            "2024-08-26T23:00:00+01:00",
            "2024-08-26T23:00:00+0100",
            "2024-08-26T23:00:00+01",
            "2024-08-26T23:00:00.123 +0100",
            "2024-08-26T20:30:00-0130",
            "2024-08-27T21:59:00+23:59",
            "2024-08-26T22:00Z",
            "2024-08-26T22Z",
            "20240826T220000Z",
            "20240826T2200Z",
            "2024-08-26 230000.5+0100",
            "20240826T22:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), Some(AT), "{text:?}");
        }
        assert_eq!(rfc3339(AT), "2024-08-26T22:00:00Z");
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59Z"), Some(LAST_SECOND));
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(FIRST_SECOND));
        assert_eq!(parse_rfc3339("2024-02-29T12:34:56Z"), Some(1_709_210_096));
    }

    #[test]
    fn what_is_no_time_of_the_calendar_or_has_no_zone_is_not_read() {
        for text in [
            "",
            "tomorrow",
            "1724709600",
            "1724709600000",
            "2024-08-26",
            "2024-08-26T22:00:00",
            "2024-08-26T22:00:00 EST",
            "2024-08-26T22:00:00 +0000 UTC",
            "2024-08-26T22:00:00+02:00[Europe/Berlin]",
            "2024-08-26T22:00:00Zx",
            "2024-08-26T22:00:00.Z",
            "2024-08-26T22:00:Z",
            "2024-08-26T2200:00Z",
            "2024-0826T22:00:00Z",
            "2024-08-26T24:00:00Z",
            "2024-08-26T22:60:00Z",
            "2024-06-30T23:59:60Z",
            "2024-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-23:59",
            "10000-01-01T00:00:00Z",
            "+2024-08-26T22:00:00Z",
            "-2024-08-26T22:00:00Z",
            "2024-08-26T22:00:00+24:00",
            "2024-08-26T22:00:00+01:60",
            "2024-08-26T22:00:00+010",
            "2024-08-26T22:00:00+01:",
            "2024-08-26T22:00:00+",
            "2024-08-26T22:00:00\u{2212}01:00",
            "\u{0662}024-08-26T22:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_second_that_is_written_is_read_back() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let at = random.i64(FIRST_SECOND..=LAST_SECOND);
            assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
            let minutes = random.i64(-1439..=1439);
            let local = rfc3339(at + minutes * 60);
            let (sign, ahead) = if minutes < 0 { ('-', -minutes) } else { ('+', minutes) };
            let text = format!("{}{sign}{:02}{:02}", local.trim_end_matches('Z'), ahead / 60, ahead % 60);
            if (FIRST_SECOND..=LAST_SECOND).contains(&(at + minutes * 60)) {
                assert_eq!(parse_rfc3339(&text), Some(at), "{text}");
            }
        }
    }

    #[test]
    fn no_text_makes_reading_a_time_panic() {
        let mut random = fastrand::Rng::with_seed(2);
        let seeds =
            ["2024-08-26T22:00:00.5+01:00", "20240826T220000Z", "9999-12-31T23:59:59-23:59", "0001-01-01 00:00 UTC"];
        let pieces =
            ["0", "9", "99", "-", "+", ":", ".", ",", "T", "Z", " ", "UTC", "\u{e9}", "\0", "60", "24", "0000"];
        for _ in 0..50_000 {
            let mut letters: Vec<char> = random.choice(seeds).unwrap_or_default().chars().collect();
            for _ in 0..random.usize(0..5) {
                let at = random.usize(0..=letters.len());
                let end = (at + random.usize(0..3)).min(letters.len());
                letters.splice(at..end, random.choice(pieces).unwrap_or_default().chars());
            }
            let text: String = letters.into_iter().collect();
            if let Some(at) = parse_rfc3339(&text) {
                assert!((FIRST_SECOND..=LAST_SECOND).contains(&at), "{text:?}");
                system_time(at);
            }
        }
    }

    #[test]
    fn milliseconds_outside_the_calendar_are_no_time() {
        assert_eq!(from_milliseconds(1_724_709_600_999), Some(AT));
        for milliseconds in [i64::MAX, i64::MIN, 253_402_300_800_000] {
            assert_eq!(from_milliseconds(milliseconds), None);
        }
    }
}
