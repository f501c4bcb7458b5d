//! Timestamps: parses the compact form in tokens, and formats times for the log.

const SECONDS_A_DAY: i64 = 86_400;

/// Unix seconds of `20160107T173933Z`; `None` if the text is not exactly of this form and a valid time.
pub(crate) fn parse_compact(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day);
    // 30 February would become 1 or 2 March.
    (civil_from_days(days) == (year, month, day)).then_some(days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second)
}

/// `2016-01-07T17:39:33Z`.
pub(crate) fn iso8601(seconds: i64) -> String {
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_A_DAY));
    let of_day = seconds.rem_euclid(SECONDS_A_DAY);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Days since 1 January 1970 in the Gregorian calendar; years begin in March, so that the leap day is the last day.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::{iso8601, parse_compact};

    #[test]
    fn timestamps_of_published_tokens_are_parsed() {
        assert_eq!(parse_compact("20240826T220000Z"), Some(1_724_709_600));
        assert_eq!(parse_compact("20161107T173933Z"), Some(1_478_540_373));
        assert_eq!(parse_compact("20240229T235959Z"), Some(1_709_251_199));
        assert_eq!(iso8601(1_478_540_373), "2016-11-07T17:39:33Z");
        assert_eq!(iso8601(1_709_251_199), "2024-02-29T23:59:59Z");
    }

    #[test]
    fn an_invalid_timestamp_is_refused() {
        for text in [
            "",
            "20240826",
            "20240826T220000",
            "20240826T220000z",
            "20240230T000000Z",
            "20241301T000000Z",
            "20240800T000000Z",
            "20240826T240000Z",
            "2024082 T220000Z",
            "２024082T22000Z",
        ] {
            assert_eq!(parse_compact(text), None, "{text}");
        }
    }
}
