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
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let asked_at = date.and_then(timestamp).unwrap_or(now);
        // A date in the past requests no delay.
        Duration::try_from(timestamp(text)?.duration_since(asked_at)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let parser = DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "Wed, 26 Nov 2025 10:00:00 GMT";

    fn wait(text: &str, date: Option<&str>) -> Option<u64> {
        let now = timestamp(NOW).expect("a date");
        retry_after(text, date, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_bounded_by_the_longest_run() {
        assert_eq!(wait("0", None), Some(0));
        assert_eq!(wait(" 7 ", None), Some(7));
        let most = Some(MAX_RETRY_AFTER.as_secs());
        for text in [
            "86401",
            "18446744073709551615",
            "99999999999999999999999999999",
            "Thu, 31 Dec 9998 23:59:59 GMT",
        ] {
            assert_eq!(wait(text, None), most, "{text}");
        }
    }

    #[test]
    fn a_date_is_held_against_that_of_the_answer() {
        let at = "Wed, 26 Nov 2025 10:00:30 GMT";
        assert_eq!(wait(at, None), Some(30));
        assert_eq!(wait(at, Some("Wed, 26 Nov 2025 10:00:20 GMT")), Some(10));
        assert_eq!(wait(at, Some("yesterday")), Some(30));
        assert_eq!(wait("Wed, 26 Nov 2025 09:59:00 GMT", None), Some(0));
    }

    #[test]
    fn what_is_neither_is_no_wait() {
        for text in [
            "",
            "soon",
            "-1",
            "+5",
            "1.5",
            "Wed, 99 Nov 2025 10:00:00 GMT",
        ] {
            assert_eq!(wait(text, None), None, "{text}");
        }
    }
}
