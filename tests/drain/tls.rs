//! A private CA and a proxy between a run and both its servers, with their real host names.

use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{Arc, Mutex},
};

use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::sqs::Kind;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

pub use crate::tls_support::certificates;
use crate::{
    process::Pod,
    tls_support,
    world::{Setting, World, batches},
};

on_each_server!(run_uses_proxy_and_additional_ca_certificate);

/// Starts a TLS terminator in front of `target`, which offers `protocols` by ALPN. Returns its port
/// on localhost.
pub async fn terminator(dir: &Path, target: &str, protocols: &[&str]) -> u16 {
    let localhost = Ipv4Addr::LOCALHOST.into();
    tls_support::terminator(dir, localhost, target, protocols).await
}

/// A proxy that accepts CONNECT, resolves every host to this machine, and records the targets.
pub struct ConnectProxy {
    pub url: String,
    targets: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Starts a proxy that maps the HTTPS port, 443, to `https`.
    pub async fn start(https: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let targets: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = Arc::clone(&targets);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let recorded = Arc::clone(&recorded);
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    let mut head = String::new();
                    while client.read_line(&mut head).await.ok()? > 2 {}
                    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
                    let port = match target.rsplit_once(':')?.1.parse().ok()? {
                        443 => https,
                        port => port,
                    };
                    recorded.lock().unwrap().push(target.to_owned());
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                    client
                        .write_all(b"HTTP/1.1 200 Connected\r\n\r\n")
                        .await
                        .ok()?;
                    copy_bidirectional(&mut client, &mut server).await.ok()
                });
            }
        });
        Self { url, targets }
    }

    /// Returns the requested hosts with their ports.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

async fn run_uses_proxy_and_additional_ca_certificate(kind: Kind) {
    let mut world = World::new(Setting::on(kind)).await;
    world.queue.send(&batches(30, 2)).await.unwrap();
    let pod = Pod::new("tls");
    certificates(&pod.dir, "DNS:sqs.test,DNS:iterable.test");
    let sqs = terminator(&pod.dir, &world.sqs.endpoint(), &[]).await;
    let iterable = terminator(&pod.dir, world.iterable.url(), &[]).await;
    let proxy = ConnectProxy::start(443).await;
    world.spec.queue.endpoint = Some(format!("https://sqs.test:{sqs}"));
    world.spec.iterable.endpoint = Some(format!("https://iterable.test:{iterable}"));
    pod.all_files(&world);
    let https_proxy = ("HTTPS_PROXY", proxy.url.clone());

    let child = pod.start_with([https_proxy.clone()]);
    let (code, report) = pod.report_of(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(23), Outcome::QueueDown),
        "the server's certificate is not trusted: {report:?}"
    );

    let child = pod.start_with([https_proxy, pod.ca_file()]);
    let (code, report) = pod.end(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(0), Outcome::Drained),
        "{report:?}"
    );
    assert_eq!(report.messages.deleted, 30);
    let targets = proxy.targets();
    for server in [
        format!("sqs.test:{sqs}"),
        format!("iterable.test:{iterable}"),
    ] {
        assert!(targets.contains(&server), "{server} in {targets:?}");
    }
}
