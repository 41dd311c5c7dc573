use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use flate2::{Compression as Level, write::GzEncoder};

use super::{ApiResponse, TransportFailure};
use crate::api::Compression;

/// Request bodies are sent uncompressed.
const OFF: u8 = 0;
/// Request bodies are compressed, but the sink has not accepted one yet.
const UNTRIED: u8 = 1;
/// Request bodies are compressed, and the sink has accepted one.
const ACCEPTED: u8 = 2;

/// The state of request compression, shared by its clones. Compression is turned off if the first
/// conclusive response suggests that the sink can't read compressed bodies.
#[derive(Clone, Debug)]
pub(super) struct Gzip(Arc<AtomicU8>);

impl Gzip {
    /// Creates the state for the configured compression.
    pub(super) fn new(compression: Compression) -> Self {
        let state = match compression {
            Compression::None => OFF,
            Compression::Gzip => UNTRIED,
        };
        Self(Arc::new(AtomicU8::new(state)))
    }

    /// Compresses a body. Returns `None` if compression is off.
    pub(super) fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
        if self.0.load(Ordering::Relaxed) == OFF {
            return None;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Level::fast());
        encoder.write_all(body).ok()?;
        encoder.finish().ok()
    }

    /// Returns whether to use the response to a compressed request. If not, the sink may not
    /// support compression, so this turns it off and the caller repeats the request uncompressed.
    pub(super) fn is_usable(&self, response: &ApiResponse) -> bool {
        match response {
            ApiResponse::Accepted(_) => self.0.store(ACCEPTED, Ordering::Relaxed),
            ApiResponse::Rejected(_)
            | ApiResponse::TooLarge
            | ApiResponse::WrongEndpoint(_)
            | ApiResponse::Unavailable {
                kind: TransportFailure::Status(_) | TransportFailure::InvalidResponse,
                ..
            } => {
                let _ = self
                    .0
                    .compare_exchange(UNTRIED, OFF, Ordering::Relaxed, Ordering::Relaxed);
            }
            ApiResponse::Unauthorized(_)
            | ApiResponse::RateLimited { .. }
            | ApiResponse::Unavailable { .. } => {}
        }
        self.0.load(Ordering::Relaxed) != OFF
    }
}
