//! A private authority and a proxy between a run and both its servers, under their real names.

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

on_each_server!(a_run_goes_through_a_proxy_and_trusts_an_authority_of_its_own);

/// Takes TLS off in front of `target`, offering `protocols` by ALPN; answers its port.
pub async fn terminator(dir: &Path, target: &str, protocols: &[&str]) -> u16 {
    let localhost = Ipv4Addr::LOCALHOST.into();
    tls_support::terminator(dir, localhost, target, protocols).await
}

/// A proxy that takes CONNECT and finds every host on this machine, and notes what it was asked
/// for.
pub struct ConnectProxy {
    pub url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// A proxy that finds the port of HTTPS, 443, at `https`.
    pub async fn start(https: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    let mut head = String::new();
                    while client.read_line(&mut head).await.ok()? > 2 {}
                    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?;
                    let port = match target.rsplit_once(':')?.1.parse().ok()? {
                        443 => https,
                        port => port,
                    };
                    noted.lock().unwrap().push(target.to_owned());
                    let mut server = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
                    client
                        .write_all(b"HTTP/1.1 200 Connected\r\n\r\n")
                        .await
                        .ok()?;
                    copy_bidirectional(&mut client, &mut server).await.ok()
                });
            }
        });
        Self { url, asked }
    }

    /// The hosts that it was asked for, with their ports.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn a_run_goes_through_a_proxy_and_trusts_an_authority_of_its_own(kind: Kind) {
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
    let through = ("HTTPS_PROXY", proxy.url.clone());

    let child = pod.start_with([through.clone()]);
    let (code, report) = pod.report_of(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(23), Outcome::QueueDown),
        "nobody vouches for the server: {report:?}"
    );

    let child = pod.start_with([through, pod.authority()]);
    let (code, report) = pod.end(child).await;
    assert_eq!(
        (code, report.outcome),
        (Some(0), Outcome::Drained),
        "{report:?}"
    );
    assert_eq!(report.messages.deleted, 30);
    let asked = proxy.asked();
    for server in [
        format!("sqs.test:{sqs}"),
        format!("iterable.test:{iterable}"),
    ] {
        assert!(asked.contains(&server), "{server} in {asked:?}");
    }
}
