//! Process metrics with the names that Prometheus's client libraries use.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::time::{ClockId, clock_gettime};

/// Process metrics, read at each scrape. Values from `/proc` are omitted on systems without it.
#[derive(Debug)]
pub struct Process {
    started: SystemTime,
}

impl Process {
    /// Creates the metrics of a process that has just started.
    pub fn new() -> Self {
        Self {
            started: SystemTime::now(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = ConstCounter::new(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            "CPU time used",
            None,
            cpu.metric_type(),
        )?)?;
        let mut gauge = |name, help, value: Option<u64>| {
            let Some(value) = value.and_then(|value| i64::try_from(value).ok()) else {
                return Ok(());
            };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge(
            "process_resident_memory_bytes",
            "Memory in use",
            resident_bytes(),
        )?;
        gauge(
            "process_open_fds",
            "Open file descriptors",
            fs::read_dir("/proc/self/fd")
                .ok()
                .map(|open| open.count() as u64),
        )?;
        gauge(
            "process_start_time_seconds",
            "Unix time when the process started",
            self.started
                .duration_since(UNIX_EPOCH)
                .ok()
                .map(|since| since.as_secs()),
        )
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
