//! The targets of a run, and whether they are met.

use std::fmt;

use crate::world::{MAX_BYTES, MAX_EVENTS, Measurement};

/// All measurements on one server, with their settings and candidates.
#[derive(Default)]
pub struct Targets(Vec<(&'static str, &'static str, Measurement)>);

impl Targets {
    pub fn add(
        &mut self,
        setting: &'static str,
        candidate: &'static str,
        measurement: Measurement,
    ) {
        self.0.push((setting, candidate, measurement));
    }

    fn measurements<'a>(
        &'a self,
        setting: &'a str,
        candidate: &'a str,
    ) -> impl Iterator<Item = &'a Measurement> {
        self.0
            .iter()
            .filter(move |(in_setting, by, _)| *in_setting == setting && *by == candidate)
            .map(|(_, _, measurement)| measurement)
    }

    fn speed(&self, setting: &str, candidate: &str) -> f64 {
        self.measurements(setting, candidate)
            .map(Measurement::speed)
            .sum()
    }

    fn event_forwarder(&self) -> impl Iterator<Item = &Measurement> {
        ["no latency", "production", "backlog"]
            .into_iter()
            .flat_map(|setting| self.measurements(setting, "event-forwarder"))
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut target = |name: &str, measured: String, is_met: bool| {
            let result = if is_met { "met" } else { "MISSED" };
            writeln!(f, "  {name:<66} {measured:<34} {result}")
        };
        let share = |setting| {
            self.speed(setting, "event-forwarder") / self.speed(setting, "bare ceiling") * 100.0
        };
        let times =
            self.speed("production", "event-forwarder") / self.speed("production", "timer loop");
        target(
            "production: 50 times the timer loop, or 85 % of the ceiling",
            format!("{times:.1} times, {:.0} %", share("production")),
            times >= 50.0 || share("production") >= 85.0,
        )?;
        target(
            "no latency: 85 % of the ceiling",
            format!("{:.0} %", share("no latency")),
            share("no latency") >= 85.0,
        )?;
        let sqs = self
            .event_forwarder()
            .map(Measurement::sqs_per_thousand)
            .fold(0.0, f64::max);
        target(
            "requests to SQS per 1,000 messages: at most 203",
            format!("{sqs:.1} at most"),
            sqs <= 203.0,
        )?;
        // The minimum follows from the limits on events and bytes.
        let surplus = self
            .event_forwarder()
            .map(|measurement| {
                let minimum =
                    (measurement.events / MAX_EVENTS).max(measurement.sent_bytes / MAX_BYTES);
                (measurement.iterable / minimum.ceil() - 1.0) * 100.0
            })
            .collect::<Vec<_>>();
        let largest = surplus.last().copied().unwrap_or_default();
        target(
            "requests to Iterable on the longest backlog: 5 % over the minimum",
            format!("{largest:.1} % over"),
            largest <= 5.0,
        )?;
        let peaks: Vec<_> = self
            .measurements("backlog", "event-forwarder")
            .map(|measurement| measurement.mebibytes)
            .collect();
        let (short, long) = (peaks[0], peaks[peaks.len() - 1]);
        target(
            "peak memory: at most 64 MiB on the longest backlog",
            format!("{long:.1} MiB"),
            long <= 64.0,
        )?;
        target(
            "peak memory: constant as the backlog grows tenfold",
            format!("{short:.1} MiB, then {long:.1} MiB"),
            long <= short * 1.15,
        )?;
        let first = self
            .measurements("no latency", "event-forwarder")
            .filter_map(|measurement| measurement.first_receive)
            .map(|after| after.as_secs_f64() * 1e3)
            .fold(0.0, f64::max);
        target(
            "from the process's start to its first receive: 50 ms",
            format!("{first:.0} ms"),
            first <= 50.0,
        )
    }
}
