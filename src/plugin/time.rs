//! Readable times and durations. Pure.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::api::EventForwarderSpec;

/// Returns the time zone of the forwarder's schedule. Returns UTC for an unknown zone, which a
/// condition reports.
pub fn zone_of(spec: &EventForwarderSpec) -> TimeZone {
    spec.time_zone
        .as_deref()
        .and_then(|name| TimeZone::get(name).ok())
        .unwrap_or(TimeZone::UTC)
}

/// Formats a duration in its two largest units, like kubectl formats ages: "45s", "5m20s",
/// "3h12m", "2d5h". From ten days on, it shows only days.
pub fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().unsigned_abs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut units = units.into_iter().skip_while(|(unit, _)| seconds < *unit);
    let Some((large, name)) = units.next() else {
        return "0s".to_owned();
    };
    let count = seconds / large;
    let rest = units
        .next()
        .map(|(unit, name)| (seconds % large / unit, name))
        .filter(|(amount, _)| *amount > 0 && !(name == "d" && count >= 10));
    match rest {
        Some((amount, small)) => format!("{count}{name}{amount}{small}"),
        None => format!("{count}{name}"),
    }
}

/// Formats a time relative to now: "in 5m20s" or "5m20s ago".
pub fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", span(at.duration_since(now)))
    } else {
        format!("{} ago", span(now.duration_since(at)))
    }
}

/// Formats a time in a zone, and in UTC if its offset differs:
/// "2026-01-05 06:30 CET (05:30 UTC)".
pub fn absolute(at: Timestamp, zone: &TimeZone) -> String {
    let utc = at.to_zoned(TimeZone::UTC);
    let local = at.to_zoned(zone.clone());
    if local.offset() == utc.offset() {
        return utc.strftime("%Y-%m-%d %H:%M UTC").to_string();
    }
    let in_utc = match local.date() == utc.date() {
        true => utc.strftime("%H:%M UTC"),
        false => utc.strftime("%Y-%m-%d %H:%M UTC"),
    };
    format!("{} ({in_utc})", local.strftime("%Y-%m-%d %H:%M %Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_shows_two_largest_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (45, "45s"),
            (60, "1m"),
            (320, "5m20s"),
            (3_600, "1h"),
            (11_520, "3h12m"),
            (86_400 * 2 + 3_600 * 5 + 59, "2d5h"),
            (86_400 * 41 + 3_600 * 5, "41d"),
            (-320, "5m20s"),
        ] {
            assert_eq!(
                span(SignedDuration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn absolute_shows_zone_and_utc() {
        let absolute = |at: &str, zone: &str| {
            absolute(
                at.parse().expect("a time"),
                &TimeZone::get(zone).expect("a zone"),
            )
        };
        assert_eq!(
            absolute("2026-01-05T05:30:00Z", "Europe/Berlin"),
            "2026-01-05 06:30 CET (05:30 UTC)"
        );
        assert_eq!(
            absolute("2026-07-05T22:30:00Z", "Europe/Berlin"),
            "2026-07-06 00:30 CEST (2026-07-05 22:30 UTC)"
        );
        assert_eq!(
            absolute("2026-07-05T22:30:00Z", "UTC"),
            "2026-07-05 22:30 UTC"
        );
    }

    #[test]
    fn relative_distinguishes_past_and_future() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let now = at("2026-01-05T05:30:00Z");
        assert_eq!(relative(at("2026-01-05T05:31:05Z"), now), "in 1m5s");
        assert_eq!(relative(at("2026-01-05T05:28:00Z"), now), "2m ago");
        assert_eq!(relative(now, now), "0s ago");
    }
}
