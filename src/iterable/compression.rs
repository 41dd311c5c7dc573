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

/// Request bodies are sent as they are.
const OFF: u8 = 0;
/// They are compressed, and no answer has shown yet that the sink reads them.
const UNTRIED: u8 = 1;
/// They are compressed, and the sink reads them.
const ACCEPTED: u8 = 2;

/// Whether request bodies are compressed: as long as the sink reads them. Clones share what is
/// known.
#[derive(Clone, Debug)]
pub(super) struct Gzip(Arc<AtomicU8>);

impl Gzip {
    /// As the user wants it, and not yet tried.
    pub(super) fn new(compression: Compression) -> Self {
        let state = match compression {
            Compression::None => OFF,
            Compression::Gzip => UNTRIED,
        };
        Self(Arc::new(AtomicU8::new(state)))
    }

    /// The compressed body, if bodies are to be compressed.
    pub(super) fn compress(&self, body: &[u8]) -> Option<Vec<u8>> {
        if self.0.load(Ordering::Relaxed) == OFF {
            return None;
        }
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Level::fast());
        encoder.write_all(body).ok()?;
        encoder.finish().ok()
    }

    /// Whether the answer to a compressed request is one to its content. If not, the sink may not
    /// read compressed bodies, and no more are sent.
    pub(super) fn is_accepted(&self, answer: &ApiResponse) -> bool {
        match answer {
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
