//! A server as a child process: started, watched until it listens, and ended with all that it started.

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

const POLL: Duration = Duration::from_millis(20);

/// Becomes the server, after leaving a process behind that ends it once standard input closes.
/// We hold the other end of that pipe, so the server goes when we go, even by a SIGKILL.
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
        within: Duration,
    ) -> Result<Self, Error> {
        let log = nameless_file(kind).map_err(Error::io("cannot make a log file"))?;
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
        let deadline = Instant::now() + within;
        loop {
            if let Some(port) = port_in(&server.log(), kind, listen) {
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
            tokio::time::sleep(POLL).await;
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
            tokio::time::sleep(POLL).await;
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // A server that has ended already leaves at most the process that watches our pipe, so no error matters.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A file that both processes write and read, and that is gone when both are.
fn nameless_file(kind: Kind) -> io::Result<File> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let path = std::env::temp_dir().join(format!(
        "event-forwarder-{kind}-{}-{}.log",
        std::process::id(),
        MADE.fetch_add(1, Ordering::Relaxed)
    ));
    let file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// The port that the server says it listens on.
fn port_in(printed: &str, kind: Kind, listen: SocketAddr) -> Option<u16> {
    let mut host = listen;
    host.set_port(0);
    let host = host.to_string();
    let before_port = format!(
        "{}{}",
        kind.says_before_address(),
        host.trim_end_matches('0')
    );
    let (_, rest) = printed.split_once(&before_port)?;
    // A line that was written by half has half a port.
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
    fn the_port_is_read_from_what_each_server_prints() {
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
            assert_eq!(port_in(printed, kind, listen), port, "{printed}");
        }
    }
}
