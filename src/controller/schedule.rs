//! When runs start: cron schedules, read and reckoned as kube-controller-manager does, its clock
//! changes included. Pure.

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, Time},
    tz::TimeZone,
};

/// A start is looked for so many years ahead, as Kubernetes does.
const YEARS_AHEAD: i16 = 5;
/// How often a search goes on to another day, month or year at most: a zone that leaves out whole
/// days, as Samoa did in 2011, would keep it for ever.
const MAX_STEPS: u32 = 10_000;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// A part of a time that a search moves by.
#[derive(Debug, Clone, Copy)]
enum Level {
    Month,
    Day,
    Hour,
    Minute,
}

/// The times at which runs start.
#[derive(Debug)]
pub struct Schedule {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
    time_zone: TimeZone,
}

/// Why a schedule can't be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There are not five fields.
    #[error("it has {0} fields")]
    FieldCount(usize),
    /// A word that starts with @ and is no macro.
    #[error("{0} is no macro")]
    Macro(String),
    /// A part of a field is neither a number nor a name that the field knows, or out of bounds.
    #[error("\"{term}\" is no {field}")]
    Term {
        /// The part.
        term: String,
        /// The field's name.
        field: &'static str,
    },
}

/// The values that one field lets through.
#[derive(Debug, Clone, Copy)]
struct Field {
    bits: u64,
    /// Whether it is a star or a question mark, and so says nothing.
    any: bool,
}

/// What a field may hold.
struct Bounds {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds::of("minute", 0, 59);
const HOURS: Bounds = Bounds::of("hour", 0, 23);
const DAYS: Bounds = Bounds::of("day of month", 1, 31);
const MONTHS: Bounds = Bounds {
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
    ..Bounds::of("month", 1, 12)
};
const WEEKDAYS: Bounds = Bounds {
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    ..Bounds::of("day of week", 0, 6)
};

impl Schedule {
    /// Reads a cron expression of five fields, or a macro.
    ///
    /// # Errors
    /// Whatever Kubernetes refuses, and `@every`, which has no fixed times.
    pub fn parse(schedule: &str, time_zone: TimeZone) -> Result<Self, ScheduleError> {
        let expression = match schedule {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            word if word.starts_with('@') => return Err(ScheduleError::Macro(word.to_owned())),
            fields => fields,
        };
        let fields: Vec<_> = expression.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ScheduleError::FieldCount(fields.len()));
        };
        Ok(Self {
            minutes: MINUTES.parse(minutes)?,
            hours: HOURS.parse(hours)?,
            days: DAYS.parse(days)?,
            months: MONTHS.parse(months)?,
            weekdays: WEEKDAYS.parse(weekdays)?,
            time_zone,
        })
    }

    /// The first start after `now`; none within five years, as on 31 February.
    ///
    /// A start in the hour that a clock skips does not take place; one in the hour that it repeats
    /// takes place twice. Where a clock jumps by less than an hour, or at midnight, Kubernetes may
    /// pass over further starts: the steps here are its own, so that they are the same ones.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.as_second();
        let mut at = (now + 1).div_euclid(MINUTE) * MINUTE;
        let last_year = self.local(at)?.year() + YEARS_AHEAD;
        let mut level = Level::Month;
        // Once one level has moved on, all below it stand at their beginning.
        let mut moved = false;
        for _ in 0..MAX_STEPS {
            let local = self.local(at)?;
            if local.year() > last_year {
                return None;
            }
            let fits = match level {
                Level::Month => self.months.has(local.month()),
                Level::Day => self.takes_day(local.date()),
                Level::Hour => self.hours.has(local.hour()),
                Level::Minute => self.minutes.has(local.minute()) && at > now,
            };
            level = match (fits, level) {
                (true, Level::Month) => Level::Day,
                (true, Level::Day) => Level::Hour,
                (true, Level::Hour) => Level::Minute,
                (true, Level::Minute) => return Timestamp::from_second(at).ok(),
                (false, level) => {
                    if let Some(beginning) = level.beginning(local).filter(|_| !moved) {
                        at = self.instant(beginning)?;
                    }
                    moved = true;
                    at = self.step(level, at)?;
                    // What began anew is looked at from the top.
                    match level.is_first(self.local(at)?) {
                        true => Level::Month,
                        false => level,
                    }
                }
            };
        }
        None
    }

    /// The next month, day, hour or minute.
    fn step(&self, level: Level, at: i64) -> Option<i64> {
        match level {
            Level::Month => self.instant(next_month(self.local(at)?)?),
            Level::Day => {
                let tomorrow = self.local(at)?.checked_add(1.day()).ok()?;
                self.midnight_near(self.instant(tomorrow)?)
            }
            Level::Hour => Some(at + HOUR),
            Level::Minute => Some(at + MINUTE),
        }
    }

    /// With a star in either, both the day of the month and that of the week must fit; else one.
    fn takes_day(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        match self.days.any || self.weekdays.any {
            true => day && weekday,
            false => day || weekday,
        }
    }

    fn local(&self, at: i64) -> Option<DateTime> {
        let at = Timestamp::from_second(at).ok()?;
        Some(self.time_zone.to_datetime(at))
    }

    fn offset(&self, at: i64) -> Option<i64> {
        let at = Timestamp::from_second(at).ok()?;
        Some(i64::from(self.time_zone.to_offset(at).seconds()))
    }

    /// The instant of a local time. Of one that exists twice or not at all, that which Go chooses:
    /// it reads the local time as UTC, and then once more with the offset that was found.
    fn instant(&self, local: DateTime) -> Option<i64> {
        let as_utc = TimeZone::UTC.to_timestamp(local).ok()?.as_second();
        match self.offset(as_utc)? {
            0 => Some(as_utc),
            guess => Some(as_utc - self.offset(as_utc - guess)?),
        }
    }

    /// A step of a day that did not end at midnight, since there is none, goes there by the clock.
    fn midnight_near(&self, at: i64) -> Option<i64> {
        Some(match i64::from(self.local(at)?.hour()) {
            0 => at,
            hour if hour > 12 => at + (24 - hour) * HOUR,
            hour => at - hour * HOUR,
        })
    }
}

impl Level {
    /// The beginning of the month, day or hour; none of the minute, at which searches always are.
    fn beginning(self, local: DateTime) -> Option<DateTime> {
        let date = local.date();
        match self {
            Self::Month => Some(date.first_of_month().into()),
            Self::Day => Some(date.into()),
            Self::Hour => Some(DateTime::from_parts(
                date,
                Time::constant(local.hour(), 0, 0, 0),
            )),
            Self::Minute => None,
        }
    }

    /// Whether the month, day, hour or minute is the first of its year, month, day or hour.
    fn is_first(self, local: DateTime) -> bool {
        match self {
            Self::Month => local.month() == 1,
            Self::Day => local.day() == 1,
            Self::Hour => local.hour() == 0,
            Self::Minute => local.minute() == 0,
        }
    }
}

/// The same day of the next month; if that month has no such day, so many days into the one after.
fn next_month(local: DateTime) -> Option<DateTime> {
    let first = local.date().first_of_month().checked_add(1.month()).ok()?;
    let date = first
        .checked_add((i64::from(local.day()) - 1).days())
        .ok()?;
    Some(DateTime::from_parts(date, local.time()))
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

impl Bounds {
    const fn of(name: &'static str, first: u32, last: u32) -> Self {
        Self {
            name,
            first,
            last,
            names: &[],
        }
    }

    fn parse(&self, field: &str) -> Result<Field, ScheduleError> {
        let mut all = Field {
            bits: 0,
            any: false,
        };
        for term in field.split(',') {
            let one = self.term(term).ok_or_else(|| ScheduleError::Term {
                term: term.to_owned(),
                field: self.name,
            })?;
            all.bits |= one.bits;
            all.any |= one.any;
        }
        Ok(all)
    }

    /// `*`, `?`, `VALUE` or `VALUE-VALUE`, each with `/STEP` or without. A step of more than one
    /// says something, even after a star.
    fn term(&self, term: &str) -> Option<Field> {
        let (range, step) = match term.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (term, None),
        };
        let star = matches!(range, "*" | "?");
        let (first, last) = match range.split_once('-') {
            _ if star => (self.first, self.last),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => {
                let first = self.value(range)?;
                (first, if step.is_some() { self.last } else { first })
            }
        };
        let step = step.unwrap_or(1);
        if first < self.first || last > self.last || first > last {
            return None;
        }
        Some(Field {
            bits: (first..=last)
                .step_by(step.try_into().ok()?)
                .fold(0, |bits, value| bits | 1 << value),
            any: star && step == 1,
        })
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        match named {
            Some(position) => Some(self.first + u32::try_from(position).ok()?),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).expect("a time zone")
    }

    fn starts(schedule: &Schedule, after: Timestamp) -> String {
        let mut times = Vec::new();
        let mut after = Some(after);
        while let (Some(time), true) = (after, times.len() < 3) {
            after = schedule.next_after(time);
            times.push(after.map_or("never".to_owned(), |time| time.to_string()));
        }
        times.join(" ")
    }

    /// The table is what the library says by which kube-controller-manager starts runs.
    #[test]
    fn runs_start_when_kubernetes_starts_them() {
        let table = include_str!("../../tests/cron/table.txt");
        let mut wrong = Vec::new();
        for line in table.lines() {
            let fields: Vec<_> = line.split('|').collect();
            let [name, schedule, after, expected] = fields[..] else {
                panic!("{line}")
            };
            let actual = match Schedule::parse(schedule, zone(name)) {
                Ok(schedule) => starts(&schedule, after.parse().expect("a time")),
                Err(_) => "refused".to_owned(),
            };
            if actual != expected {
                wrong.push(format!("{line}\n    but here {actual}"));
            }
        }
        assert!(table.lines().count() > 1000);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_search_ends_in_a_zone_that_left_out_a_day() {
        let schedule = Schedule::parse("0 0 1 * *", zone("Pacific/Apia")).expect("a schedule");
        let before = "2011-12-29T20:00:00Z".parse().expect("a time");
        assert_eq!(schedule.next_after(before), None);
    }

    #[test]
    fn every_has_no_fixed_times_and_is_refused() {
        let refused = Schedule::parse("@every 1h", TimeZone::UTC).expect_err("@every");
        assert_eq!(refused.to_string(), "@every 1h is no macro");
    }
}
