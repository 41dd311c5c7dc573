//! A server as a child process that is killed with all its descendants.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::{fs::FileExt, process::CommandExt},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Error, Kind};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Executes the server, after starting a process that kills it when standard input closes.
///
/// This process holds the other end of that pipe, so the server ends with it, even after SIGKILL.
const END_WITH_PARENT: &str = r#"
    exec 3<&0 </dev/null
    { cat <&3 >/dev/null; kill -KILL $$; } &
    exec "$@" 3<&-
"#;

#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    address: SocketAddr,
    log: File,
}

impl ServerProcess {
    /// Starts `command`, which prints its address once it listens, and waits for that line.
    pub(super) async fn start(
        kind: Kind,
        command: Command,
        listen: SocketAddr,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let log = unlinked_file(kind).map_err(Error::io("cannot create a log file"))?;
        let output = || {
            log.try_clone()
                .map_err(Error::io("cannot share the log file"))
        };

        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", END_WITH_PARENT, "sh"])
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(output()?)
            .stderr(output()?)
            .process_group(0);
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        let child = shell
            .spawn()
            .map_err(Error::io(format!("cannot start {kind}")))?;

        let mut server = Self {
            child,
            address: listen,
            log,
        };
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(port) = listening_port(&server.log(), kind, listen) {
                server.address.set_port(port);
                return Ok(server);
            }
            if server.has_ended() || Instant::now() > deadline {
                return Err(Error::NotListening {
                    server: kind,
                    listen,
                    log: last_lines(&server.log(), 20),
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn log(&self) -> String {
        let length = self.log.metadata().map_or(0, |metadata| metadata.len());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        match self.log.read_exact_at(&mut bytes, 0) {
            Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("the log can't be read: {error}"),
        }
    }

    pub(super) async fn ended(&mut self) {
        while !self.has_ended() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // If the server has already ended, at most the process that reads the pipe is left, so
        // errors are ignored.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Creates a file for both processes that is already unlinked, so it disappears with them.
fn unlinked_file(kind: Kind) -> io::Result<File> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let path = std::env::temp_dir().join(format!(
        "event-forwarder-{kind}-{}-{}.log",
        std::process::id(),
        COUNTER.fetch_add(1, Ordering::Relaxed)
    ));
    let file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// Returns the port that the server printed.
fn listening_port(printed: &str, kind: Kind, listen: SocketAddr) -> Option<u16> {
    let mut host = listen;
    host.set_port(0);
    let host = host.to_string();
    let before_port = format!("{}{}", kind.listening_prefix(), host.trim_end_matches('0'));
    let (_, rest) = printed.split_once(&before_port)?;
    // An incomplete line can contain an incomplete port.
    let line = &rest[..rest.find('\n')?];
    let digits = line
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(line.len());
    line[..digits].parse().ok()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_parsed_from_output_of_each_server() {
        let listen: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        for (kind, printed, port) in [
            (
                Kind::Moto,
                "WARNING: development server\n * Running on http://127.0.0.1:37443\n",
                Some(37443),
            ),
            (
                Kind::Fauxqs,
                "listening on http://127.0.0.1:44087\n",
                Some(44087),
            ),
            (Kind::Fauxqs, "listening on http://127.0.0.1:440", None),
            (
                Kind::Fauxqs,
                "EADDRINUSE: address already in use 127.0.0.1:44087\n",
                None,
            ),
            (Kind::Fauxqs, "", None),
            (
                Kind::ElasticMq,
                "INFO - Started SQS rest server, bind address 127.0.0.1:42193, visible server address http://127.0.0.1:1\n",
                Some(42193),
            ),
        ] {
            assert_eq!(listening_port(printed, kind, listen), port, "{printed}");
        }
    }
}
