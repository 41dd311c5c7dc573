//! What is asked of a run, and whether it was met.

use std::fmt;

use crate::world::{MAX_BYTES, MAX_EVENTS, Tried};

/// All that was tried on one server.
#[derive(Default)]
pub struct Bars(Vec<(&'static str, &'static str, Tried)>);

impl Bars {
    pub fn add(&mut self, setting: &'static str, who: &'static str, tried: Tried) {
        self.0.push((setting, who, tried));
    }

    fn of<'a>(&'a self, setting: &'a str, who: &'a str) -> impl Iterator<Item = &'a Tried> {
        self.0
            .iter()
            .filter(move |(in_setting, by, _)| *in_setting == setting && *by == who)
            .map(|(_, _, tried)| tried)
    }

    fn speed(&self, setting: &str, who: &str) -> f64 {
        self.of(setting, who).map(Tried::speed).sum()
    }

    fn ours(&self) -> impl Iterator<Item = &Tried> {
        ["no latency", "production", "backlog"]
            .into_iter()
            .flat_map(|setting| self.of(setting, "event-forwarder"))
    }
}

impl fmt::Display for Bars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bar = |name: &str, found: String, met: bool| {
            let met = if met { "met" } else { "MISSED" };
            writeln!(f, "  {name:<66} {found:<34} {met}")
        };
        let share = |setting| {
            self.speed(setting, "event-forwarder") / self.speed(setting, "bare ceiling") * 100.0
        };
        let times =
            self.speed("production", "event-forwarder") / self.speed("production", "timer loop");
        bar(
            "production: 50 times the timer loop, or 85 % of the ceiling",
            format!("{times:.1} times, {:.0} %", share("production")),
            times >= 50.0 || share("production") >= 85.0,
        )?;
        bar(
            "no latency: 85 % of the ceiling",
            format!("{:.0} %", share("no latency")),
            share("no latency") >= 85.0,
        )?;
        let sqs = self.ours().map(Tried::sqs_per_thousand).fold(0.0, f64::max);
        bar(
            "requests to SQS per 1,000 messages: at most 203",
            format!("{sqs:.1} at most"),
            sqs <= 203.0,
        )?;
        // The fewest requests that the limits on events and bytes allow.
        let surplus = self
            .ours()
            .map(|tried| {
                let least = (tried.events / MAX_EVENTS).max(tried.sent_bytes / MAX_BYTES);
                (tried.iterable / least.ceil() - 1.0) * 100.0
            })
            .collect::<Vec<_>>();
        let largest = surplus.last().copied().unwrap_or_default();
        bar(
            "requests to Iterable on the longest backlog: 5 % over the least",
            format!("{largest:.1} % over"),
            largest <= 5.0,
        )?;
        let peaks: Vec<_> = self
            .of("backlog", "event-forwarder")
            .map(|tried| tried.mebibytes)
            .collect();
        let (short, long) = (peaks[0], peaks[peaks.len() - 1]);
        bar(
            "peak memory: at most 64 MiB on the longest backlog",
            format!("{long:.1} MiB"),
            long <= 64.0,
        )?;
        bar(
            "peak memory: flat as the backlog grows tenfold",
            format!("{short:.1} MiB, then {long:.1} MiB"),
            long <= short * 1.15,
        )?;
        let first = self
            .of("no latency", "event-forwarder")
            .filter_map(|tried| tried.first_receive)
            .map(|after| after.as_secs_f64() * 1e3)
            .fold(0.0, f64::max);
        bar(
            "from the process's start to its first receive: 50 ms",
            format!("{first:.0} ms"),
            first <= 50.0,
        )
    }
}
