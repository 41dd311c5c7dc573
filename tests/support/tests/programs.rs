//! The programs `fake-iterable` and `sqs-server`, as the demo starts them.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

struct Program {
    child: Child,
    /// The first line of the output: the URL on which the program listens.
    endpoint: String,
}

impl Program {
    fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("its output");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Self {
            child,
            endpoint: line.trim().to_owned(),
        }
    }

    fn address(&self) -> &str {
        self.endpoint.strip_prefix("http://").expect("an address")
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("a signal");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until_closed(address: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "{address} still listens");
        std::thread::yield_now();
    }
}

#[test]
fn fake_iterable_prints_address_and_stops_on_sigterm() {
    let mut program = Program::start(
        env!("CARGO_BIN_EXE_fake-iterable"),
        &[
            "--listen",
            "127.0.0.1:0",
            "--api-key",
            "k",
            "--known-users",
            "a@example.com,b",
            "--rate",
            "0",
        ],
    );
    TcpStream::connect(program.address()).expect("it listens");
    program.send(Signal::TERM);
    assert!(program.child.wait().expect("an end").success());
}

#[test]
fn fake_iterable_prints_why_it_cannot_listen() {
    let output = Command::new(env!("CARGO_BIN_EXE_fake-iterable"))
        .args(["--listen", "192.0.2.1:1"])
        .output()
        .expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("fake-iterable: "));
}

#[test]
fn sqs_server_ends_its_child_even_when_killed() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let mut program = Program::start(
            env!("CARGO_BIN_EXE_sqs-server"),
            &["--server", "fauxqs", "--listen", "127.0.0.1:0"],
        );
        TcpStream::connect(program.address()).expect("it listens");
        program.send(signal);
        let status = program.child.wait().expect("an end");
        assert_eq!(status.success(), signal != Signal::KILL);
        wait_until_closed(program.address());
    }
}

#[test]
fn sqs_server_prints_child_errors_when_start_fails() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("an address").to_string();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sqs-server"))
        .args(["--server", "fauxqs", "--listen", &listen])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut errors = String::new();
    child
        .stderr
        .take()
        .expect("its errors")
        .read_to_string(&mut errors)
        .expect("text");
    assert!(!child.wait().expect("an end").success());
    assert!(errors.contains("EADDRINUSE"), "{errors}");
}
