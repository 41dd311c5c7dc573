//! When runs start: a cron schedule, in a time zone whose clock changes. Pure.

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
    /// Reads a cron expression of five fields, or a macro. More is taken here than by Kubernetes,
    /// which refuses the CronJob then.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(schedule: &str, time_zone: TimeZone) -> Result<Self, CronError> {
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .sloppy_ranges(true)
            .build()
            .parse(&spelled_out(schedule))?;
        Ok(Self { cron, time_zone })
    }

    /// The first start after `now`; none if there is never another, as on 31 February.
    ///
    /// As with kube-controller-manager, a start in the hour that a clock skips does not take place,
    /// and one in the hour that it repeats takes place twice. So the clock is read between two
    /// changes of it as one that never changes.
    pub fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut after = now;
        let mut offset = self.time_zone.to_offset(now);
        let mut changes = self.time_zone.following(now);
        loop {
            let by_the_clock = self
                .cron
                .find_next_occurrence(&offset.to_datetime(after), false)
                .ok()?;
            let start = offset.to_timestamp(by_the_clock).ok()?;
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

/// The schedule in words that mean to croner what they mean to Kubernetes.
fn spelled_out(schedule: &str) -> String {
    let fields = schedule.split_whitespace().map(|field| match field {
        "@midnight" => "@daily",
        // A step of one says nothing, so the day of the week alone counts beside it.
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

    /// The table is what the library says by which kube-controller-manager starts runs. What it
    /// refuses is left out here, since admission refuses it before. So is what Kubernetes gets wrong:
    /// where a clock changes by half an hour, as on Lord Howe, it misses or repeats starts of these
    /// two days, and in Beirut one on the day that has no midnight.
    #[test]
    fn runs_start_when_kubernetes_starts_them() {
        let table = include_str!("../../tests/cron/table.txt");
        let mut compared = 0;
        let mut wrong = Vec::new();
        for line in table.lines() {
            let fields: Vec<_> = line.split('|').collect();
            let [name, schedule, after, expected] = fields[..] else {
                panic!("{line}")
            };
            let missed =
                name == "Australia/Lord_Howe" || (name, schedule) == ("Asia/Beirut", "30 2 29 3 *");
            if missed || expected == "rejected" {
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
    fn a_day_that_a_zone_left_out_is_passed_over() {
        let schedule = Schedule::parse("0 0 1 * *", zone("Pacific/Apia")).expect("a schedule");
        let before = "2011-12-29T20:00:00Z".parse().expect("a time");
        let new_year = "2011-12-31T10:00:00Z".parse().expect("a time");
        assert_eq!(schedule.next_after(before), Some(new_year));
    }

    #[test]
    fn every_has_no_fixed_times_and_is_refused() {
        Schedule::parse("@every 1h", TimeZone::UTC).expect_err("@every");
    }
}
