//! Connections that a request handler can close without an answer.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

const OPEN: u8 = 0;
const CUT: u8 = 1;
const RESET: u8 = 2;

/// A handler's view of its connection.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    ending: Arc<AtomicU8>,
}

impl Connection {
    /// Stops all writes: the next write attempt closes the connection.
    pub(super) fn cut(&self) {
        self.ending.store(CUT, Ordering::Release);
    }

    /// Like [`Connection::cut`], but with a reset (RST) instead of an orderly close (FIN).
    pub(super) fn reset(&self) {
        self.ending.store(RESET, Ordering::Release);
    }
}

/// Accepts connections and counts them.
pub(super) struct Connections {
    pub(super) listener: TcpListener,
    pub(super) accepted: Arc<AtomicU64>,
}

impl Listener for Connections {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        let (tcp, peer) = Listener::accept(&mut self.listener).await;
        // Avoids waiting for the client's acknowledgements before small answers. This fails only
        // on a dead connection.
        let _ = tcp.set_nodelay(true);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let connection = Connection {
            peer,
            ending: Arc::new(AtomicU8::new(OPEN)),
        };
        (Stream { tcp, connection }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Connections>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().connection.clone()
    }
}

pub(super) struct Stream {
    tcp: TcpStream,
    connection: Connection,
}

impl Stream {
    fn check_open(&self) -> io::Result<()> {
        match self.connection.ending.load(Ordering::Acquire) {
            OPEN => return Ok(()),
            RESET => self.tcp.set_zero_linger()?,
            _ => {}
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_open()?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_open()?;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
