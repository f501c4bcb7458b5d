//! Points in time: a text.
//!
//! What is read is written and read again; what the crate `time` reads by RFC 3339 and RFC 2822 is read too, and is the
//! same.

use pgiam_core::fuzz_hooks::http_date;
use pgiam_core::{parse_rfc3339, rfc3339};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};

const YEARS_1_TO_9999: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub fn run(data: &[u8]) {
    if let Some(number) = data.first_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes)) {
        written(number);
        written(number % 253_402_300_800);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let ours = parse_rfc3339(text);
    if let Some(at) = ours {
        assert!(YEARS_1_TO_9999.contains(&at), "{at}");
        assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
    }
    if let Ok(theirs) = OffsetDateTime::parse(text, &Rfc3339) {
        let at = theirs.unix_timestamp();
        // That crate takes any character for the T. A leap second has no Unix time.
        let has_t = matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
        if YEARS_1_TO_9999.contains(&at) && has_t && !text.contains(":60") {
            assert_eq!(ours, Some(at), "{text:?}");
        }
    }
    if let Some(at) = http_date(text) {
        let same = OffsetDateTime::from_unix_timestamp(at).expect("in range").format(&Rfc2822);
        // RFC 2822 has no years before 1900.
        if let Ok(same) = same {
            assert_eq!(http_date(&same.replace("+0000", "GMT")), Some(at), "{same}");
        }
    }
}

fn written(number: i64) {
    let text = rfc3339(number);
    assert_eq!((text.len(), text.is_ascii()), (20, true));
    if YEARS_1_TO_9999.contains(&number) {
        assert_eq!(parse_rfc3339(&text), Some(number));
        let theirs = OffsetDateTime::from_unix_timestamp(number).expect("in range").format(&Rfc3339);
        assert_eq!(Some(text), theirs.ok());
    }
}
