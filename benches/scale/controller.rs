//! The controller as a process, with the OS's counters of it.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use event_forwarder_test_support::{free_address, sqs::SqsServer};
use tokio::process::{Child, Command};

use crate::AnyError;

/// A running controller.
pub struct Controller {
    process: Child,
    pid: u32,
    metrics: String,
}

impl Controller {
    /// Starts the controller as the chart does. It can use ambient credentials for the SQS server.
    pub fn start(sqs: &SqsServer) -> Result<Self, AnyError> {
        let address = free_address()?;
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scale-controller.log");
        let process = Command::new(env!("CARGO_BIN_EXE_event-forwarder"))
            .args(["controller", "--image=localhost/event-forwarder:none"])
            .arg(format!("--listen={address}"))
            .arg(format!("--ambient-credentials-hosts={}", sqs.endpoint()))
            .args(["--lease-namespace=default", "--identity=scale"])
            .env("AWS_ACCESS_KEY_ID", "ambient")
            .env("AWS_SECRET_ACCESS_KEY", "ambient")
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let pid = process.id().ok_or("the controller ended immediately")?;
        Ok(Self {
            process,
            pid,
            metrics: format!("http://{address}/metrics"),
        })
    }

    /// Sends a termination signal, and waits until the controller has exited.
    pub async fn stop(mut self) -> Result<(), AnyError> {
        let pid = self.pid.to_string();
        Command::new("kill").arg(&pid).status().await?;
        let status = self.process.wait().await?;
        status
            .success()
            .then_some(())
            .ok_or_else(|| format!("the controller ended with {status}").into())
    }

    /// Returns the used CPU time.
    pub fn cpu(&self) -> Result<Duration, AnyError> {
        cpu_of(self.pid).ok_or_else(|| "the controller has ended".into())
    }

    /// Returns the current memory, in KiB.
    pub fn memory(&self) -> Result<u64, AnyError> {
        self.status("VmRSS:")
    }

    /// Returns the peak memory, in KiB.
    pub fn peak(&self) -> Result<u64, AnyError> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Result<u64, AnyError> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.ok_or("the controller has ended")?.parse()?)
    }

    /// Returns the number of finished reconciliations.
    pub async fn reconciliations(&self) -> Result<u64, AnyError> {
        let text = reqwest::get(&self.metrics).await?.text().await?;
        let count = text.lines().find_map(|line| {
            line.strip_prefix("event_forwarder_reconcile_duration_seconds_count ")
        });
        Ok(count.unwrap_or("0").parse()?)
    }

    /// Waits until `count` reconciliations have finished.
    pub async fn until_reconciled(&self, count: usize) -> Result<(), AnyError> {
        loop {
            // The request fails until the controller listens.
            let done = self.reconciliations().await.unwrap_or(0);
            if done >= count as u64 {
                return Ok(());
            }
            self.cpu()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until the controller used at most 10 % of a core in each of five consecutive seconds.
    pub async fn settle(&self) -> Result<(), AnyError> {
        let second = Duration::from_secs(1);
        let mut calm = 0;
        while calm < 5 {
            let before = self.cpu()?;
            tokio::time::sleep(second).await;
            let busy = self.cpu()? - before > second / 10;
            calm = if busy { 0 } else { calm + 1 };
        }
        Ok(())
    }
}

/// Returns the CPU time of all threads of a process.
pub fn cpu_of(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in parentheses: fields 14 and 15 of the file, in hundredths of a second.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
