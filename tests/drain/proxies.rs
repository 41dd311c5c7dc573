//! A proxy program that others wrote, tinyproxy, between a run and its servers.

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

/// tinyproxy, which wants a user and a password. Ends when dropped.
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
        let within = Duration::from_secs(30);
        tokio::time::timeout(within, listens)
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

    /// Whether it was asked for this host and port.
    fn was_asked_for(&self, target: &str) -> bool {
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
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// A queue and Iterable behind TLS, or not, and a proxy.
struct Place {
    world: World,
    pod: Pod,
    proxy: Tinyproxy,
    sqs: String,
    iterable: String,
}

impl Place {
    /// SQS is at `localhost` and Iterable at `127.0.0.1`.
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

    /// Runs with these settings and all that is logged at its most talkative.
    async fn run(&self, environment: &[(&str, &str)]) -> RunReport {
        let mut command = self.pod.command();
        command
            .args([Path::new("--aws-credentials-dir"), &self.pod.dir])
            .env("RUST_LOG", "trace")
            .envs(environment.iter().copied());
        if self.pod.dir.join("ca.pem").exists() {
            command.envs([self.pod.authority()]);
        }
        let (_, report) = self.pod.report_of(command.spawn().unwrap()).await;
        let log = self.pod.log();
        assert!(log.contains("TRACE"), "the log is a talkative one");
        let said = format!("{log}{}", serde_json::to_string(&report).unwrap());
        for secret in [PASSWORD, "c29tZWJvZHk6"] {
            assert!(!said.contains(secret), "the log shows the proxy's password");
        }
        report
    }

    fn passed(&self) -> (bool, bool) {
        (
            self.proxy.was_asked_for(&self.sqs),
            self.proxy.was_asked_for(&self.iterable),
        )
    }
}

async fn goes_through(scheme: &str, variable: &str) {
    let place = Place::new(scheme).await;
    let url = place.proxy.url(PASSWORD);
    let report = place.run(&[(variable, &url)]).await;
    assert_eq!(report.outcome, Outcome::Drained, "{variable}: {report:?}");
    assert_eq!(place.world.iterable.handle.summary().events.stored, 12);
    assert_eq!(place.passed(), (true, true), "{variable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_goes_through_the_proxy_that_the_environment_names_in_either_case() {
    goes_through("https", "HTTPS_PROXY").await;
    goes_through("https", "https_proxy").await;
    goes_through("https", "ALL_PROXY").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http_goes_through_the_proxy_that_the_environment_names_in_either_case() {
    goes_through("http", "HTTP_PROXY").await;
    goes_through("http", "http_proxy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_need_no_proxy_are_reached_without_it() {
    for (variable, hosts, passed) in [
        ("NO_PROXY", "localhost", (false, true)),
        ("no_proxy", "10.0.0.0/8, 127.0.0.0/8", (true, false)),
        ("NO_PROXY", "localhost,127.0.0.1", (false, false)),
        ("NO_PROXY", "*", (false, false)),
    ] {
        let mut place = Place::new("https").await;
        if hosts == "*" {
            // It stands for all names, not for addresses.
            place.iterable = place.iterable.replace("127.0.0.1", "localhost");
            let endpoint = format!("https://{}", place.iterable);
            place.world.spec.iterable.endpoint = Some(endpoint);
            place.pod.all_files(&place.world);
        }
        let url = place.proxy.url(PASSWORD);
        let report = place.run(&[("HTTPS_PROXY", &url), (variable, hosts)]).await;
        assert_eq!(report.outcome, Outcome::Drained, "{hosts}: {report:?}");
        assert_eq!(place.passed(), passed, "{hosts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let place = Place::new("https").await;
    let url = place.proxy.url(&format!("{PASSWORD}-no"));
    let report = place.run(&[("HTTPS_PROXY", &url)]).await;
    assert_eq!(report.outcome, Outcome::QueueDown, "{report:?}");
    assert_eq!(place.world.queue.depth().await.unwrap().visible, 12);

    let report = place
        .run(&[("HTTPS_PROXY", &url), ("NO_PROXY", "localhost")])
        .await;
    assert_eq!(report.outcome, Outcome::SinkDown, "{report:?}");
    assert_eq!(report.messages.released, 10);
}
