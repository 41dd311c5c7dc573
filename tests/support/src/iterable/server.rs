//! The HTTP side: requests in, the project asked, faults done, answers out.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Response, StatusCode, header},
    routing::post,
};
use flate2::read::GzDecoder;
use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::{net::TcpListener, runtime, sync::watch, time::sleep};

use super::{
    Answer, Fault, Gate, History, Options, RequestRecord, StoredEvent, Summary, admin,
    connection::{Connection, Connections},
    events::Events,
    faults::Faults,
    history::{EventCounts, Requests},
    project::{Endpoint, Incoming, Project},
    refusal::Refusal,
};

/// No body is read past this, whatever the limits: 64 MiB.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A running stand-in. It stops when dropped.
///
/// It runs on threads of its own, so tests may block, and share it between async runtimes.
#[derive(Debug)]
pub struct IterableStandIn {
    /// What tests ask and tell it.
    pub handle: Handle,
    url: String,
    runtime: Option<runtime::Runtime>,
}

impl IterableStandIn {
    /// Starts the server; it accepts requests when this returns.
    pub async fn start(options: Options) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("iterable-stand-in")
            .enable_all()
            .build()?;
        let handle = Handle::new(options);
        let served = runtime.spawn(serve(handle.clone())).await;
        let mut stand_in = Self {
            handle,
            url: String::new(),
            runtime: Some(runtime),
        };
        stand_in.url = served.map_err(io::Error::other)??;
        Ok(stand_in)
    }

    /// The base URL, such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for IterableStandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(handle: Handle) -> io::Result<String> {
    let listener = TcpListener::bind(handle.0.options.listen).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let connections = Connections {
        listener,
        accepted: handle.0.connections.clone(),
    };
    let router = Endpoint::ALL
        .into_iter()
        .fold(Router::new(), |router, endpoint| {
            router.route(
                endpoint.path(),
                post(move |state, connection, request| api(endpoint, state, connection, request)),
            )
        })
        .merge(admin::router())
        .fallback(not_found)
        .with_state(handle);
    let service = router.into_make_service_with_connect_info::<Connection>();
    tokio::spawn(axum::serve(connections, service).into_future());
    Ok(url)
}

/// Asks a running stand-in what happened, and tells it what shall happen. Its clones are the same.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: Options,
    project: Mutex<Project>,
    faults: Mutex<Faults>,
    requests: Mutex<Requests>,
    connections: Arc<AtomicU64>,
    changed: watch::Sender<()>,
}

impl Handle {
    fn new(options: Options) -> Self {
        Self(Arc::new(Shared {
            project: Mutex::new(Project::new(options.clone())),
            faults: Mutex::default(),
            requests: Mutex::default(),
            connections: Arc::default(),
            changed: watch::Sender::new(()),
            options,
        }))
    }

    /// Every stored event, in the order in which each was first written.
    pub fn events(&self) -> Vec<StoredEvent> {
        self.with_events(|events| events.iter().cloned().collect())
    }

    /// The event with this id.
    pub fn event(&self, id: &str) -> Option<StoredEvent> {
        self.with_events(|events| events.get(id).cloned())
    }

    /// Every request to the API, in the order in which their answers were decided.
    pub fn requests(&self) -> Vec<RequestRecord> {
        lock(&self.0.requests).records.clone()
    }

    /// The users that were made known by name or by a request: emails in lower case, and userIds.
    pub fn users(&self) -> Vec<String> {
        lock(&self.0.project).users.names()
    }

    /// What happened so far, in numbers.
    pub fn summary(&self) -> Summary {
        let events = self.with_events(|events| EventCounts {
            stored: events.stored(),
            writes: events.writes(),
        });
        Summary {
            requests: lock(&self.0.requests).counts.clone(),
            events,
            faults: lock(&self.0.faults).waiting().len(),
            connections: self.0.connections.load(Ordering::Relaxed),
        }
    }

    /// Waits until what happened satisfies `condition`, looking after each request.
    pub async fn until(&self, condition: impl Fn(&Summary) -> bool) -> Summary {
        let mut changes = self.0.changed.subscribe();
        loop {
            let summary = self.summary();
            if condition(&summary) {
                return summary;
            }
            // The channel can't close while this handle holds its sender.
            let _ = changes.changed().await;
        }
    }

    /// Adds a fault behind those that wait already.
    pub fn add_fault(&self, fault: Fault) {
        lock(&self.0.faults).add(fault);
    }

    /// The faults that still wait for requests.
    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.0.faults).waiting().to_vec()
    }

    /// Forgets all faults, and opens all gates.
    pub fn clear_faults(&self) {
        lock(&self.0.faults).clear();
    }

    /// The gate of that name, at which [`Fault::hold`] holds requests.
    pub fn gate(&self, name: &str) -> Gate {
        lock(&self.0.faults).gate(name)
    }

    /// Makes the user with this email or userId known, at once.
    pub fn know_user(&self, name: &str) {
        lock(&self.0.project).users.know_by_name(name);
    }

    /// Forgets the user with this email or userId: no event of theirs will ever be taken.
    pub fn forget_user(&self, name: &str) {
        lock(&self.0.project).users.forget(name);
    }

    /// Refuses events of this name from now on.
    pub fn disallow_event_name(&self, name: &str) {
        lock(&self.0.project)
            .disallowed_event_names
            .insert(name.to_owned());
    }

    /// Back to the state at the start: no events, no history, no faults, the users of the options.
    pub fn reset(&self) {
        *lock(&self.0.project) = Project::new(self.0.options.clone());
        *lock(&self.0.requests) = Requests::default();
        self.clear_faults();
    }

    pub(super) fn with_events<T>(&self, read: impl FnOnce(&Events) -> T) -> T {
        read(&lock(&self.0.project).events)
    }
}

/// A panic in a test that held the lock is that test's matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn api(
    endpoint: Endpoint,
    State(handle): State<Handle>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, MOST_BYTES).await else {
        return refused(&Refusal::PayloadTooLarge, &handle.0.options);
    };
    let body = read(&head.headers, &bytes, &handle.0.options);
    let fault = lock(&handle.0.faults)
        .take(endpoint.path(), body.as_ref())
        .unwrap_or_default();
    if let Some(gate) = &fault.gate {
        let gate = handle.gate(gate);
        gate.pass().await;
    }

    let now = handle.0.options.clock.now();
    let usual = fault.takes_effect().then(|| {
        let incoming = Incoming {
            endpoint,
            api_key: api_key(&head.headers),
            ip: connection.peer.ip().to_string(),
            bytes: bytes.len(),
            body: body.as_ref(),
        };
        match lock(&handle.0.project).answer(&incoming, now) {
            Ok(answer) => response(StatusCode::OK, "application/json", answer.to_string()),
            Err(refusal) => refused(&refusal, &handle.0.options),
        }
    });
    let response = match &fault.answer {
        Answer::Usual | Answer::Slow { .. } | Answer::Truncated => usual,
        Answer::Canned {
            status,
            headers,
            body,
        } => Some(canned(*status, headers, body)),
        Answer::Cut | Answer::Reset | Answer::Never => None,
    };

    let mut record = RequestRecord {
        at: now,
        path: endpoint.path().to_owned(),
        version: format!("{:?}", head.version),
        headers: BTreeMap::new(),
        bytes: bytes.len(),
        entries: body.as_ref().map_or(0, entries),
        status: response.as_ref().map(|response| response.status().as_u16()),
        body: Value::Null,
    };
    if handle.0.options.history == History::Full {
        record.headers = headers_without_key(&head.headers);
        record.body = body.unwrap_or_default();
    }
    lock(&handle.0.requests).add(record);
    handle.0.changed.send_replace(());

    sleep(handle.0.options.latency + Duration::from_millis(fault.delay_ms)).await;
    deliver(&fault.answer, response, &connection).await
}

/// The body as JSON; none if it is no JSON, or in gzip and that is not read.
fn read(headers: &HeaderMap, bytes: &[u8], options: &Options) -> Option<Value> {
    let is_gzip = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "gzip");
    if is_gzip && !options.answers.refuse_gzip {
        return serde_json::from_reader(GzDecoder::new(bytes)).ok();
    }
    serde_json::from_slice(bytes).ok()
}

/// Lets the answer go out in the fault's way, or not at all.
async fn deliver(
    answer: &Answer,
    response: Option<Response<Body>>,
    connection: &Connection,
) -> Response<Body> {
    let response = response.unwrap_or_default();
    match answer {
        Answer::Usual | Answer::Canned { .. } => response,
        Answer::Slow {
            piece_bytes,
            pause_ms,
        } => in_pieces(response, *piece_bytes, Duration::from_millis(*pause_ms)).await,
        Answer::Truncated => truncated(response).await,
        Answer::Never => std::future::pending().await,
        Answer::Cut => {
            connection.cut();
            response
        }
        Answer::Reset => {
            connection.reset();
            response
        }
    }
}

async fn not_found(State(handle): State<Handle>, request: Request) -> Response<Body> {
    let endpoint = request.uri().path().to_owned();
    refused(&Refusal::NotFound { endpoint }, &handle.0.options)
}

/// Section 1.1: `Api-Key`, or `Api_Key`.
fn api_key(headers: &HeaderMap) -> Option<&str> {
    ["api-key", "api_key"]
        .into_iter()
        .find_map(|name| headers.get(name)?.to_str().ok())
}

fn headers_without_key(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "api-key" | "api_key"))
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect()
}

fn entries(body: &Value) -> usize {
    ["events", "users"]
        .into_iter()
        .filter_map(|list| body.get(list)?.as_array())
        .map(Vec::len)
        .sum()
}

fn refused(refusal: &Refusal, options: &Options) -> Response<Body> {
    let (media_type, body) = refusal.body();
    let mut response = response(refusal.status(), media_type, body);
    if let (Refusal::RateLimitExceeded { .. }, Some(seconds)) =
        (refusal, options.answers.retry_after)
    {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn canned(status: u16, headers: &BTreeMap<String, String>, body: &str) -> Response<Body> {
    headers
        .iter()
        .fold(
            Response::builder().status(status),
            |response, (name, value)| response.header(name, value),
        )
        .body(Body::from(body.to_owned()))
        .unwrap_or_else(|error| {
            response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("the fault's answer is no HTTP: {error}"),
            )
        })
}

fn response(status: StatusCode, media_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(media_type),
    );
    response
}

async fn in_pieces(
    response: Response<Body>,
    piece_bytes: usize,
    pause: Duration,
) -> Response<Body> {
    with_body(response, |whole| {
        Body::from_stream(stream::unfold(whole, move |mut rest| async move {
            if rest.is_empty() {
                return None;
            }
            sleep(pause).await;
            let piece = rest.split_to(piece_bytes.clamp(1, rest.len()));
            Some((Ok::<_, Infallible>(piece), rest))
        }))
    })
    .await
}

async fn truncated(response: Response<Body>) -> Response<Body> {
    with_body(response, |whole| {
        let half = whole.slice(..whole.len() / 2);
        // What is there is sent before the failure only if the body pauses in between.
        let failure = stream::once(async {
            tokio::task::yield_now().await;
            Err(io::Error::from(io::ErrorKind::ConnectionAborted))
        });
        Body::from_stream(stream::iter([Ok(half)]).chain(failure))
    })
    .await
}

/// Another body under the same head, which goes on to promise the length of the first.
async fn with_body(response: Response<Body>, change: impl FnOnce(Bytes) -> Body) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let whole = to_bytes(body, MOST_BYTES).await.unwrap_or_default();
    head.headers
        .insert(header::CONTENT_LENGTH, whole.len().into());
    Response::from_parts(head, change(whole))
}
