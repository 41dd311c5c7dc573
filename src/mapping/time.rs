//! Event time, checked against more reliable clocks.

use jiff::Timestamp;

use super::{raw::RawJson, warnings::MappingWarning};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// 2010-01-01T00:00:00Z in milliseconds. mParticle is younger, so an earlier time is from a clock
/// that was never set.
const EARLIEST: i64 = 1_262_304_000_000;

/// The time of an event, and a warning if the time was replaced or is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// Milliseconds since 1970, or `None` if no time is known.
    pub millis: Option<i64>,
    /// Set if the event time was replaced, or is more than a day before the queue received the
    /// event.
    pub warning: Option<MappingWarning>,
}

impl EventTime {
    /// Returns Iterable's `createdAt`: whole seconds, rounded down.
    pub fn seconds(self) -> Option<i64> {
        self.millis.map(|millis| millis.div_euclid(1000))
    }
}

/// Times that event times are checked against.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceTimes {
    batch: Option<i64>,
    sent_at: Option<i64>,
    may_be_old: bool,
}

impl ReferenceTimes {
    /// Creates the reference times of a batch: its timestamp, from the sender or mParticle, and the
    /// time at which the queue received it. `may_be_old` accepts events that happened more than a
    /// year before.
    pub fn new(batch: Option<RawJson<'_>>, sent_at: Option<Timestamp>, may_be_old: bool) -> Self {
        Self {
            batch: batch.and_then(millis),
            sent_at: sent_at.map(Timestamp::as_millisecond),
            may_be_old,
        }
    }

    /// Returns the event time. If it is missing, zero, invalid or implausible, returns the batch
    /// time, else the queue time. If both are unknown, Iterable uses the time of receipt.
    pub fn event_time(&self, timestamp: Option<RawJson<'_>>) -> EventTime {
        let event = timestamp.and_then(millis);
        if let Some(event) = event.filter(|event| self.is_plausible(*event)) {
            let is_old = self
                .sent_at
                .is_some_and(|sent_at| event < sent_at.saturating_sub(DAY));
            return EventTime {
                millis: Some(event),
                warning: is_old.then_some(MappingWarning::OlderThanADay),
            };
        }
        let warning = if event.is_some() {
            MappingWarning::ImplausibleTime
        } else {
            MappingWarning::MissingTime
        };
        let batch = self.batch.filter(|batch| self.is_plausible(*batch));
        EventTime {
            millis: batch.or(self.sent_at),
            warning: Some(warning),
        }
    }

    /// Returns whether a time is plausible. Implausible times are before 2010, more than a day
    /// after the reference time, or more than 365 days before it unless `may_be_old` (a replay, or
    /// sent by a server). The reference is the time of the queue, or else of the batch, if known.
    fn is_plausible(&self, millis: i64) -> bool {
        let (Some(now), true) = (self.sent_at.or(self.batch), millis >= EARLIEST) else {
            return millis >= EARLIEST;
        };
        millis <= now.saturating_add(DAY)
            && (self.may_be_old || millis >= now.saturating_sub(365 * DAY))
    }
}

/// Parses milliseconds from a number or string. Drops a fraction. Converts values that can only be
/// seconds. Returns `None` for zero, which mParticle sends for an unknown time.
fn millis(raw: RawJson<'_>) -> Option<i64> {
    let text = raw.scalar()?;
    let whole = match text.trim().split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        Some(_) => return None,
        None => text.trim(),
    };
    let number: i64 = whole.parse().ok()?;
    // As milliseconds, seconds of 2010 to 2286 would be in 1970.
    if (EARLIEST / 1000..10_000_000_000).contains(&number) {
        return Some(number * 1000);
    }
    (number != 0).then_some(number)
}
