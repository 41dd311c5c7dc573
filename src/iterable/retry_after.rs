//! The `Retry-After` header.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

/// Maximum delay, as long as the longest run, so that a capped delay still outlasts the run.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the delay that a `Retry-After` value requests, at most [`MAX_RETRY_AFTER`].
///
/// The value is a number of seconds or a date. A date is relative to the response's `Date`, or to
/// `now` if there is none. Returns `None` if the value is neither.
pub fn retry_after(text: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let delay = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let base = date.and_then(timestamp).unwrap_or(now);
        // A date in the past requests no delay.
        Duration::try_from(timestamp(text)?.duration_since(base)).unwrap_or_default()
    };
    Some(delay.min(MAX_RETRY_AFTER))
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let parser = DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Wed, 26 Nov 2025 10:00:00 GMT";

    fn delay(text: &str, date: Option<&str>) -> Option<u64> {
        let now = timestamp(NOW).expect("a date");
        retry_after(text, date, now).map(|delay| delay.as_secs())
    }

    #[test]
    fn delay_is_capped_at_longest_run() {
        assert_eq!(delay("0", None), Some(0));
        assert_eq!(delay(" 7 ", None), Some(7));
        let max = Some(MAX_RETRY_AFTER.as_secs());
        for text in [
            "86401",
            "18446744073709551615",
            "99999999999999999999999999999",
            "Thu, 31 Dec 9998 23:59:59 GMT",
        ] {
            assert_eq!(delay(text, None), max, "{text}");
        }
    }

    #[test]
    fn date_is_relative_to_response_date() {
        let at = "Wed, 26 Nov 2025 10:00:30 GMT";
        assert_eq!(delay(at, None), Some(30));
        assert_eq!(delay(at, Some("Wed, 26 Nov 2025 10:00:20 GMT")), Some(10));
        assert_eq!(delay(at, Some("yesterday")), Some(30));
        assert_eq!(delay("Wed, 26 Nov 2025 09:59:00 GMT", None), Some(0));
    }

    #[test]
    fn invalid_value_is_ignored() {
        for text in [
            "",
            "soon",
            "-1",
            "+5",
            "1.5",
            "Wed, 99 Nov 2025 10:00:00 GMT",
        ] {
            assert_eq!(delay(text, None), None, "{text}");
        }
    }
}
