//! Start times of runs: a cron schedule in a time zone with clock changes. Pure.

use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// The times at which runs start.
#[derive(Debug)]
pub struct Schedule {
    cron: Cron,
    time_zone: TimeZone,
}

impl Schedule {
    /// Parses a cron expression of five fields, or a macro. Accepts more than Kubernetes, which
    /// then rejects the CronJob.
    ///
    /// # Errors
    /// Returns an error if the expression is invalid.
    pub fn parse(schedule: &str, time_zone: TimeZone) -> Result<Self, CronError> {
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .sloppy_ranges(true)
            .build()
            .parse(&for_croner(schedule))?;
        Ok(Self { cron, time_zone })
    }

    /// Returns the first start after `now`, or `None` if there is none, as on 31 February.
    ///
    /// As in kube-controller-manager, starts in an hour that a clock change skips do not happen,
    /// and starts in an hour that it repeats happen twice. Between two clock changes, the
    /// calculation therefore uses a fixed UTC offset.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut after = now;
        let mut offset = self.time_zone.to_offset(now);
        let mut changes = self.time_zone.following(now);
        loop {
            let local_start = self
                .cron
                .find_next_occurrence(&offset.to_datetime(after), false)
                .ok()?;
            let start = offset.to_timestamp(local_start).ok()?;
            match changes.next() {
                Some(change) if start >= change.timestamp() => {
                    after = change.timestamp() - SignedDuration::from_secs(1);
                    offset = change.offset();
                }
                _ => return Some(start),
            }
        }
    }
}

/// Replaces the fields that croner interprets differently than Kubernetes.
fn for_croner(schedule: &str) -> String {
    let fields = schedule.split_whitespace().map(|field| match field {
        "@midnight" => "@daily",
        // Kubernetes treats this as `*`, so only the other of the two day fields counts.
        "*/1" => "*",
        field => field,
    });
    fields.collect::<Vec<_>>().join(" ")
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

    /// The table is the output of kube-controller-manager's cron library. Skips the schedules that
    /// the library rejects, because admission rejects them too. Also skips errors of Kubernetes: it
    /// misses or repeats starts on the two days when Lord Howe's clock changes by half an hour, and
    /// one start in Beirut on the day without midnight.
    #[test]
    fn start_times_match_kubernetes() {
        let table = include_str!("../../tests/cron/table.txt");
        let mut compared = 0;
        let mut wrong = Vec::new();
        for line in table.lines() {
            let fields: Vec<_> = line.split('|').collect();
            let [name, schedule, after, expected] = fields[..] else {
                panic!("{line}")
            };
            let is_kubernetes_error =
                name == "Australia/Lord_Howe" || (name, schedule) == ("Asia/Beirut", "30 2 29 3 *");
            if is_kubernetes_error || expected == "rejected" {
                continue;
            }
            let schedule = Schedule::parse(schedule, zone(name)).expect(line);
            let actual = starts(&schedule, after.parse().expect("a time"));
            compared += 1;
            if actual != expected {
                wrong.push(format!("{line}\n    but here {actual}"));
            }
        }
        assert!(compared > 1000);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Samoa had no 30 December 2011; its clock went from UTC-10 to UTC+14.
    #[test]
    fn day_missing_in_time_zone_is_skipped() {
        let schedule = Schedule::parse("0 0 1 * *", zone("Pacific/Apia")).expect("a schedule");
        let before = "2011-12-29T20:00:00Z".parse().expect("a time");
        let new_year = "2011-12-31T10:00:00Z".parse().expect("a time");
        assert_eq!(schedule.next_after(before), Some(new_year));
    }

    #[test]
    fn at_every_schedule_is_rejected() {
        Schedule::parse("@every 1h", TimeZone::UTC).expect_err("@every");
    }
}
