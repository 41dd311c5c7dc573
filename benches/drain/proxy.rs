//! A TCP proxy that adds latency, does not limit throughput, and records the time of the first
//! receive.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::sleep_until,
};

pub struct Proxy {
    pub url: String,
    first_receive: Arc<OnceLock<Instant>>,
}

impl Proxy {
    /// Starts a proxy to `target` that delays every piece by half of `round_trip`, in both
    /// directions.
    pub async fn start(target: &str, round_trip: Duration) -> Self {
        let target: SocketAddr = target.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let first_receive: Arc<OnceLock<Instant>> = Arc::default();
        let recorded = Arc::clone(&first_receive);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(target).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(relay(
                    from_client,
                    to_server,
                    round_trip / 2,
                    Some(Arc::clone(&recorded)),
                ));
                tokio::spawn(relay(from_server, to_client, round_trip / 2, None));
            }
        });
        Self { url, first_receive }
    }

    pub fn first_receive(&self) -> Option<Instant> {
        self.first_receive.get().copied()
    }
}

async fn relay(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    mut to: impl AsyncWrite + Unpin + Send + 'static,
    delay: Duration,
    first_receive: Option<Arc<OnceLock<Instant>>>,
) {
    let mut buffer = vec![0; 64 << 10];
    if delay.is_zero() {
        // Minimal work, because the server and the clients share the processor.
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            record_receive(&buffer[..count], first_receive.as_deref());
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
        return;
    }
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        while let Some((at, piece)) = receiver.recv().await {
            sleep_until(at.into()).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    });
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let piece = buffer[..count].to_vec();
        record_receive(&piece, first_receive.as_deref());
        if sender.send((Instant::now() + delay, piece)).await.is_err() {
            return;
        }
    }
}

/// Records the time of the first receive.
fn record_receive(piece: &[u8], first_receive: Option<&OnceLock<Instant>>) {
    if let Some(time) = first_receive.filter(|time| time.get().is_none())
        && piece.windows(14).any(|window| window == b"ReceiveMessage")
    {
        let _ = time.set(Instant::now());
    }
}
