//! When: the event's own time, checked against clocks that can be trusted more.

use jiff::Timestamp;

use super::{raw::RawJson, warnings::MappingWarning};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// 2010-01-01T00:00:00Z in milliseconds. mParticle is younger; a clock that says less was never set.
const EARLIEST: i64 = 1_262_304_000_000;

/// The time of an event in milliseconds, if any is known, and what had to be done to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTime {
    /// Milliseconds since 1970.
    pub millis: Option<i64>,
    /// Set if it is not the event's own time, or long before the queue received it.
    pub warning: Option<MappingWarning>,
}

impl EventTime {
    /// Iterable's `createdAt`: whole seconds, rounded down.
    pub fn seconds(self) -> Option<i64> {
        self.millis.map(|millis| millis.div_euclid(1000))
    }
}

/// Clocks around an event.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceTimes {
    batch: Option<i64>,
    sent_at: Option<i64>,
    may_be_old: bool,
}

impl ReferenceTimes {
    /// The clocks of a batch: its own, the sender's or mParticle's, and the queue's. `may_be_old`:
    /// its events may have happened long before.
    pub fn new(batch: Option<RawJson<'_>>, sent_at: Option<Timestamp>, may_be_old: bool) -> Self {
        Self {
            batch: batch.and_then(millis),
            sent_at: sent_at.map(Timestamp::as_millisecond),
            may_be_old,
        }
    }

    /// The event's own time. One that is missing, zero, or can't be read, or that is absurd,
    /// gives way to the batch's, that to the queue's; with neither, Iterable takes the time of
    /// receipt.
    pub fn event_time(&self, own: Option<RawJson<'_>>) -> EventTime {
        let own = own.and_then(millis);
        if let Some(own) = own.filter(|own| self.is_plausible(*own)) {
            let is_old = self
                .sent_at
                .is_some_and(|sent_at| own < sent_at.saturating_sub(DAY));
            return EventTime {
                millis: Some(own),
                warning: is_old.then_some(MappingWarning::OlderThanADay),
            };
        }
        let warning = if own.is_some() {
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

    /// Absurd is: before 2010; more than a day after the queue received it, which no event
    /// can be; or more than a year before, unless it may be
    /// that old: a replay, or from a server.
    fn is_plausible(&self, millis: i64) -> bool {
        let (Some(now), true) = (self.sent_at.or(self.batch), millis >= EARLIEST) else {
            return millis >= EARLIEST;
        };
        millis <= now.saturating_add(DAY)
            && (self.may_be_old || millis >= now.saturating_sub(365 * DAY))
    }
}

/// Milliseconds from a number or text. A fraction is cut off; what can only be seconds is taken
/// as seconds; zero, which mParticle writes for unknown, is none.
fn millis(raw: RawJson<'_>) -> Option<i64> {
    let text = raw.scalar()?;
    let whole = match text.trim().split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        Some(_) => return None,
        None => text.trim(),
    };
    let number: i64 = whole.parse().ok()?;
    // Seconds of 2010 to 2286 read as milliseconds lie in 1970.
    if (EARLIEST / 1000..10_000_000_000).contains(&number) {
        return Some(number * 1000);
    }
    (number != 0).then_some(number)
}
