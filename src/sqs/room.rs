//! Room for answers: how much a receive brings is known only once it is there, so a larger
//! answer than was expected is left on its connection until there is memory for it.

use std::{pin::pin, time::Duration};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// How long an answer may take to be read before it counts as held up.
const STALLED: Duration = Duration::from_secs(2);

/// The room that there is for the answer to one receive.
#[derive(Clone, Debug)]
pub struct Room {
    /// How the caller names the receive.
    pub receive: u64,
    /// How large the answer may be, in bytes, to be read without asking.
    pub bytes: usize,
    /// Who hears of what does not fit.
    pub ask: mpsc::UnboundedSender<Squeeze>,
}

/// What comes of too little room.
#[derive(Debug)]
pub enum Squeeze {
    /// An answer is larger than there is room for, or may be, as it does not tell its size.
    Larger {
        /// The receive, by [`Room::receive`].
        receive: u64,
        /// The answer's size in bytes, if it is told.
        bytes: Option<u64>,
        /// To be told once there is room. The receive fails when this is dropped.
        read: oneshot::Sender<()>,
    },
    /// An answer that is read comes no further. Over HTTP/2 all answers of a connection share one
    /// window, which those that wait to be read can fill.
    Stalled,
}

impl Room {
    /// Returns once the answer may be read.
    async fn wait(&self, bytes: Option<u64>) -> Result<(), ConnectorError> {
        if bytes.is_some_and(|bytes| bytes <= self.bytes as u64) {
            return Ok(());
        }
        let (read, told) = oneshot::channel();
        self.tell(Squeeze::Larger {
            receive: self.receive,
            bytes,
            read,
        });
        told.await
            .map_err(|_| ConnectorError::user("the response is no longer needed".into()))
    }

    /// Reads the body of an answer.
    async fn read(&self, body: SdkBody) -> Result<SdkBody, ConnectorError> {
        let mut body = pin!(ByteStream::new(body).collect());
        let read = match timeout(STALLED, &mut body).await {
            Ok(read) => read,
            Err(_) => {
                self.tell(Squeeze::Stalled);
                body.await
            }
        };
        let read = read.map_err(|error| ConnectorError::io(error.into()))?;
        Ok(SdkBody::from(read.into_bytes()))
    }

    fn tell(&self, squeeze: Squeeze) {
        // Nobody listens once the run is over.
        let _ = self.ask.send(squeeze);
    }
}

/// An HTTP client that waits for room before it reads the body of an answer. The wait counts
/// against no time limit, so that the limits on the calls before and after it are set here.
#[derive(Debug)]
pub(super) struct WithRoom<T> {
    pub(super) inner: T,
    pub(super) room: Room,
    /// How long the head of the answer may take.
    pub(super) head_limit: Duration,
    /// How long its body may take.
    pub(super) body_limit: Duration,
}

impl HttpClient for WithRoom<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(WithRoom {
            inner: self.inner.http_connector(settings, components),
            room: self.room.clone(),
            head_limit: self.head_limit,
            body_limit: self.body_limit,
        })
    }
}

impl HttpConnector for WithRoom<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let head = timeout(self.head_limit, self.inner.call(request));
        let (room, body_limit) = (self.room.clone(), self.body_limit);
        HttpConnectorFuture::new(async move {
            let mut answer: HttpResponse = head.await.map_err(late)??;
            room.wait(answer.body().content_length()).await?;
            let body = room.read(answer.take_body());
            *answer.body_mut() = timeout(body_limit, body).await.map_err(late)??;
            Ok(answer)
        })
    }
}

fn late(error: tokio::time::error::Elapsed) -> ConnectorError {
    ConnectorError::timeout(error.into())
}
