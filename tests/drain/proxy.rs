//! A TCP proxy with network faults.

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

/// A fault of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFault {
    /// No fault.
    None,
    /// Closes the connection after this many bytes.
    Close(usize),
    /// Resets the connection after this many bytes.
    Reset(usize),
    /// Silently forwards nothing more after this many bytes.
    Stall(usize),
    /// Delays every piece.
    Slow,
    /// Accepts the connection and forwards nothing.
    NeverAnswer,
}

/// A proxy in front of one server.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Mutex<Vec<ConnectionFault>>>,
    fault_count: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let faults: Arc<Mutex<Vec<ConnectionFault>>> = Arc::default();
        let fault_count: Arc<AtomicU64> = Arc::default();
        let (next_faults, count) = (Arc::clone(&faults), Arc::clone(&fault_count));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let fault = next_faults
                    .lock()
                    .unwrap()
                    .pop()
                    .unwrap_or(ConnectionFault::None);
                if fault != ConnectionFault::None {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                tokio::spawn(connection(client, target, fault));
            }
        });
        Self {
            address,
            faults,
            fault_count,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the faults of the next connections, in reverse order.
    pub fn set_faults(&self, faults: Vec<ConnectionFault>) {
        *self.faults.lock().unwrap() = faults;
    }

    /// Returns the number of connections that had a fault.
    pub fn fault_count(&self) -> u64 {
        self.fault_count.load(Ordering::Relaxed)
    }
}

async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    fault: ConnectionFault,
) -> io::Result<()> {
    if fault == ConnectionFault::NeverAnswer {
        std::future::pending::<()>().await;
    }
    let mut server = TcpStream::connect(target).await?;
    let mut remaining = match fault {
        ConnectionFault::Close(bytes)
        | ConnectionFault::Reset(bytes)
        | ConnectionFault::Stall(bytes) => bytes,
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
        if fault == ConnectionFault::Slow {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let forwarded = count.min(remaining);
        remaining -= forwarded;
        if from_client {
            server.write_all(&up[..forwarded]).await?;
        } else {
            client.write_all(&down[..forwarded]).await?;
        }
        if remaining > 0 {
            continue;
        }
        match fault {
            ConnectionFault::Reset(_) => client.set_zero_linger()?,
            ConnectionFault::Stall(_) => std::future::pending().await,
            _ => {}
        }
        return Ok(());
    }
}
