//! A third-party proxy, tinyproxy, between a run and its servers.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use event_forwarder::drain::report::{Outcome, RunReport};
use event_forwarder_test_support::{free_address, sqs::Kind};
use tokio::{net::TcpStream, sync::OnceCell};

use crate::{
    process::Pod,
    tls::{certificates, terminator},
    world::{Setting, World, batches},
};

const PASSWORD: &str = "hush-hush-hush";

/// A tinyproxy that requires a user and a password. It ends when dropped.
struct Tinyproxy {
    process: Child,
    address: SocketAddr,
    log: std::path::PathBuf,
}

impl Tinyproxy {
    async fn start(dir: &Path) -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        INSTALLED.get_or_init(install).await;
        let address = free_address().unwrap();
        let log = dir.join("tinyproxy.log");
        let configuration = dir.join("tinyproxy.conf");
        let settings = format!(
            "Port {}\nListen {}\nTimeout 60\nLogLevel Connect\nLogFile \"{}\"\nBasicAuth somebody {PASSWORD}\n",
            address.port(),
            address.ip(),
            log.display()
        );
        std::fs::write(&configuration, settings).unwrap();
        let process = Command::new("tinyproxy")
            .arg("-d")
            .arg("-c")
            .arg(&configuration)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), listens)
            .await
            .expect("tinyproxy listens");
        Self {
            process,
            address,
            log,
        }
    }

    fn url(&self, password: &str) -> String {
        format!("http://somebody:{password}@{}", self.address)
    }

    /// Returns whether a client requested this host and port.
    fn received_request_for(&self, target: &str) -> bool {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines()
            .filter(|line| line.contains("Request"))
            .any(|line| {
                line.contains(&format!("CONNECT {target} "))
                    || line.contains(&format!("http://{target}/"))
            })
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn install() {
    let script = "command -v tinyproxy || tests/install-packages tinyproxy";
    let output = tokio::process::Command::new("sh")
        .args(["-c", script])
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}

/// A queue and Iterable, with or without TLS, and a proxy.
struct ProxiedWorld {
    world: World,
    pod: Pod,
    proxy: Tinyproxy,
    sqs: String,
    iterable: String,
}

impl ProxiedWorld {
    /// Creates a world with SQS on `localhost` and Iterable on `127.0.0.1`.
    async fn new(scheme: &str) -> Self {
        let mut world = World::new(Setting::on(Kind::Fauxqs)).await;
        let pod = Pod::new("proxied");
        let (sqs, iterable) = if scheme == "https" {
            certificates(&pod.dir, "DNS:localhost,IP:127.0.0.1");
            (
                terminator(&pod.dir, &world.sqs.endpoint(), &[]).await,
                terminator(&pod.dir, world.iterable.url(), &["h2"]).await,
            )
        } else {
            let port = |url: &str| url.rsplit_once(':').unwrap().1.parse().unwrap();
            (port(&world.sqs.endpoint()), port(world.iterable.url()))
        };
        let (sqs, iterable) = (format!("localhost:{sqs}"), format!("127.0.0.1:{iterable}"));
        world.spec.queue.endpoint = Some(format!("{scheme}://{sqs}"));
        world.spec.iterable.endpoint = Some(format!("{scheme}://{iterable}"));
        world.queue.send(&batches(12, 1)).await.unwrap();
        pod.all_files(&world);
        let proxy = Tinyproxy::start(&pod.dir).await;
        Self {
            world,
            pod,
            proxy,
            sqs,
            iterable,
        }
    }

    /// Runs with these environment variables and the log level `trace`.
    async fn run(&self, environment: &[(&str, &str)]) -> RunReport {
        let mut command = self.pod.command();
        command
            .args([Path::new("--aws-credentials-dir"), &self.pod.dir])
            .env("RUST_LOG", "trace")
            .envs(environment.iter().copied());
        if self.pod.dir.join("ca.pem").exists() {
            command.envs([self.pod.ca_file()]);
        }
        let (_, report) = self.pod.report_of(command.spawn().unwrap()).await;
        let log = self.pod.log();
        assert!(log.contains("TRACE"), "the log level is trace");
        let output = format!("{log}{}", serde_json::to_string(&report).unwrap());
        for secret in [PASSWORD, "c29tZWJvZHk6"] {
            assert!(
                !output.contains(secret),
                "the log or the report contains the proxy's password"
            );
        }
        report
    }

    /// Returns whether requests to SQS and to Iterable used the proxy.
    fn used_proxy(&self) -> (bool, bool) {
        (
            self.proxy.received_request_for(&self.sqs),
            self.proxy.received_request_for(&self.iterable),
        )
    }
}

async fn goes_through(scheme: &str, variable: &str) {
    let world = ProxiedWorld::new(scheme).await;
    let url = world.proxy.url(PASSWORD);
    let report = world.run(&[(variable, &url)]).await;
    assert_eq!(report.outcome, Outcome::Drained, "{variable}: {report:?}");
    assert_eq!(world.world.iterable.handle.summary().events.stored, 12);
    assert_eq!(world.used_proxy(), (true, true), "{variable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_uses_proxy_from_environment() {
    goes_through("https", "HTTPS_PROXY").await;
    goes_through("https", "https_proxy").await;
    goes_through("https", "ALL_PROXY").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_uses_proxy_from_environment() {
    goes_through("http", "HTTP_PROXY").await;
    goes_through("http", "http_proxy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proxy_hosts_are_reached_directly() {
    for (variable, hosts, expected) in [
        ("NO_PROXY", "localhost", (false, true)),
        ("no_proxy", "10.0.0.0/8, 127.0.0.0/8", (true, false)),
        ("NO_PROXY", "localhost,127.0.0.1", (false, false)),
        ("NO_PROXY", "*", (false, false)),
    ] {
        let mut world = ProxiedWorld::new("https").await;
        if hosts == "*" {
            // `*` matches all names, but no addresses.
            world.iterable = world.iterable.replace("127.0.0.1", "localhost");
            let endpoint = format!("https://{}", world.iterable);
            world.world.spec.iterable.endpoint = Some(endpoint);
            world.pod.all_files(&world.world);
        }
        let url = world.proxy.url(PASSWORD);
        let report = world.run(&[("HTTPS_PROXY", &url), (variable, hosts)]).await;
        assert_eq!(report.outcome, Outcome::Drained, "{hosts}: {report:?}");
        assert_eq!(world.used_proxy(), expected, "{hosts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rejecting_proxy_ends_run_without_leaking_password() {
    let world = ProxiedWorld::new("https").await;
    let url = world.proxy.url(&format!("{PASSWORD}-no"));
    let report = world.run(&[("HTTPS_PROXY", &url)]).await;
    assert_eq!(report.outcome, Outcome::QueueDown, "{report:?}");
    assert_eq!(world.world.queue.depth().await.unwrap().visible, 12);

    let report = world
        .run(&[("HTTPS_PROXY", &url), ("NO_PROXY", "localhost")])
        .await;
    assert_eq!(report.outcome, Outcome::SinkDown, "{report:?}");
    assert_eq!(report.messages.released, 10);
}
