//! A TCP proxy that does to connections what networks do.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// It is closed after so many bytes.
    Cut(usize),
    /// It is reset after so many bytes.
    Reset(usize),
    /// After so many bytes nothing passes any more, and nobody is told.
    Stall(usize),
    /// Every piece takes its time.
    Slow,
    /// It is accepted, and that is all.
    HalfOpen,
}

/// A proxy in front of one server.
pub struct Proxy {
    address: SocketAddr,
    forecast: Arc<Mutex<Vec<Weather>>>,
    met: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let forecast: Arc<Mutex<Vec<Weather>>> = Arc::default();
        let met: Arc<AtomicU64> = Arc::default();
        let (coming, count) = (Arc::clone(&forecast), Arc::clone(&met));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let weather = coming.lock().unwrap().pop().unwrap_or(Weather::Fair);
                if weather != Weather::Fair {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                tokio::spawn(connection(client, target, weather));
            }
        });
        Self {
            address,
            forecast,
            met,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The weather of the next connections, the last one first.
    pub fn forecast(&self, weather: Vec<Weather>) {
        *self.forecast.lock().unwrap() = weather;
    }

    /// How many connections met something else than fair weather.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::Relaxed)
    }
}

async fn connection(mut client: TcpStream, target: SocketAddr, weather: Weather) -> io::Result<()> {
    if weather == Weather::HalfOpen {
        std::future::pending::<()>().await;
    }
    let mut server = TcpStream::connect(target).await?;
    let mut left = match weather {
        Weather::Cut(bytes) | Weather::Reset(bytes) | Weather::Stall(bytes) => bytes,
        _ => usize::MAX,
    };
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    loop {
        let (count, from_client) = tokio::select! {
            count = client.read(&mut up) => (count?, true),
            count = server.read(&mut down) => (count?, false),
        };
        if count == 0 {
            return Ok(());
        }
        if weather == Weather::Slow {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let passed = count.min(left);
        left -= passed;
        if from_client {
            server.write_all(&up[..passed]).await?;
        } else {
            client.write_all(&down[..passed]).await?;
        }
        if left > 0 {
            continue;
        }
        match weather {
            Weather::Reset(_) => client.set_zero_linger()?,
            Weather::Stall(_) => std::future::pending().await,
            _ => {}
        }
        return Ok(());
    }
}
