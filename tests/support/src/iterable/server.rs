//! The HTTP server: reads requests, applies faults and sends the project's answers.

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
    rejection::Rejection,
};

/// Maximum bytes of a body, regardless of the configured limits: 64 MiB.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// A running fake Iterable server. It stops when dropped.
///
/// It runs on separate threads, so tests can block and share it between async runtimes.
#[derive(Debug)]
pub struct FakeIterable {
    /// Control and inspection of the server.
    pub handle: Handle,
    url: String,
    runtime: Option<runtime::Runtime>,
}

impl FakeIterable {
    /// Starts the server; it accepts requests when this returns.
    pub async fn start(options: Options) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fake-iterable")
            .enable_all()
            .build()?;
        let handle = Handle::new(options);
        let served = runtime.spawn(serve(handle.clone())).await;
        let mut fake_iterable = Self {
            handle,
            url: String::new(),
            runtime: Some(runtime),
        };
        fake_iterable.url = served.map_err(io::Error::other)??;
        Ok(fake_iterable)
    }

    /// Returns the base URL, such as `http://127.0.0.1:8080`.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for FakeIterable {
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

/// Controls and inspects a running fake Iterable server. Clones share the same server.
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

    /// Returns every stored event, in the order of their first writes.
    pub fn events(&self) -> Vec<StoredEvent> {
        self.with_events(|events| events.iter().cloned().collect())
    }

    /// Returns the event with this ID.
    pub fn event(&self, id: &str) -> Option<StoredEvent> {
        self.with_events(|events| events.get(id).cloned())
    }

    /// Returns every request to the API, in the order in which their answers were decided.
    pub fn requests(&self) -> Vec<RequestRecord> {
        lock(&self.0.requests).records.clone()
    }

    /// Returns the users that were added by name or by a request, sorted: emails in lower case,
    /// and userIds.
    pub fn users(&self) -> Vec<String> {
        lock(&self.0.project).users.names()
    }

    /// Returns the counts so far.
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

    /// Waits until the summary satisfies `condition`, which is checked after every request.
    pub async fn until(&self, condition: impl Fn(&Summary) -> bool) -> Summary {
        let mut changes = self.0.changed.subscribe();
        loop {
            let summary = self.summary();
            if condition(&summary) {
                return summary;
            }
            // The channel can't close, because this handle owns its sender.
            let _ = changes.changed().await;
        }
    }

    /// Adds a fault after the existing ones.
    pub fn add_fault(&self, fault: Fault) {
        lock(&self.0.faults).add(fault);
    }

    /// Returns the faults that still wait for requests.
    pub fn faults(&self) -> Vec<Fault> {
        lock(&self.0.faults).waiting().to_vec()
    }

    /// Removes all faults and opens all gates.
    pub fn clear_faults(&self) {
        lock(&self.0.faults).clear();
    }

    /// Returns the gate with this name, at which [`Fault::hold`] holds requests.
    pub fn gate(&self, name: &str) -> Gate {
        lock(&self.0.faults).gate(name)
    }

    /// Adds the user with this email or userId, visible immediately.
    pub fn add_user(&self, name: &str) {
        lock(&self.0.project).users.add_by_name(name);
    }

    /// Forgets the user with this email or userId: all events of this user are rejected.
    pub fn forget_user(&self, name: &str) {
        lock(&self.0.project).users.forget(name);
    }

    /// Rejects events of this name from now on.
    pub fn disallow_event_name(&self, name: &str) {
        lock(&self.0.project)
            .disallowed_event_names
            .insert(name.to_owned());
    }

    /// Restores the initial state: no events, history or faults, and the users of the options.
    pub fn reset(&self) {
        *lock(&self.0.project) = Project::new(self.0.options.clone());
        *lock(&self.0.requests) = Requests::default();
        self.clear_faults();
    }

    pub(super) fn with_events<T>(&self, read: impl FnOnce(&Events) -> T) -> T {
        read(&lock(&self.0.project).events)
    }
}

/// Locks the mutex; a panic in another test that held the lock is ignored.
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
    let Ok(bytes) = to_bytes(body, MAX_BODY_BYTES).await else {
        return rejection_response(&Rejection::PayloadTooLarge, &handle.0.options);
    };
    let body = parse_body(&head.headers, &bytes, &handle.0.options);
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
            Err(rejection) => rejection_response(&rejection, &handle.0.options),
        }
    });
    let response = match &fault.answer {
        Answer::Usual | Answer::Slow { .. } | Answer::Truncated => usual,
        Answer::Canned {
            status,
            headers,
            body,
        } => Some(canned_response(*status, headers, body)),
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

/// Parses the body. Returns `None` if it is not valid JSON, or if it is gzip and gzip is rejected.
fn parse_body(headers: &HeaderMap, bytes: &[u8], options: &Options) -> Option<Value> {
    let is_gzip = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|encoding| encoding == "gzip");
    if is_gzip && !options.answers.reject_gzip {
        return serde_json::from_reader(GzDecoder::new(bytes)).ok();
    }
    serde_json::from_slice(bytes).ok()
}

/// Sends the answer as the fault requires, or not at all.
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
    rejection_response(&Rejection::NotFound { endpoint }, &handle.0.options)
}

/// Returns the API key from the header `Api-Key` or `Api_Key` (section 1.1).
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

fn rejection_response(rejection: &Rejection, options: &Options) -> Response<Body> {
    let (media_type, body) = rejection.body();
    let mut response = response(rejection.status(), media_type, body);
    if let (Rejection::RateLimitExceeded { .. }, Some(seconds)) =
        (rejection, options.answers.retry_after)
    {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

fn canned_response(status: u16, headers: &BTreeMap<String, String>, body: &str) -> Response<Body> {
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
                format!("the fault's answer is not valid HTTP: {error}"),
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
    with_body(response, |full| {
        Body::from_stream(stream::unfold(full, move |mut rest| async move {
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
    with_body(response, |full| {
        let half = full.slice(..full.len() / 2);
        // The half is sent before the failure only if the body yields in between.
        let failure = stream::once(async {
            tokio::task::yield_now().await;
            Err(io::Error::from(io::ErrorKind::ConnectionAborted))
        });
        Body::from_stream(stream::iter([Ok(half)]).chain(failure))
    })
    .await
}

/// Replaces the body and keeps the head, including the content length of the original body.
async fn with_body(response: Response<Body>, change: impl FnOnce(Bytes) -> Body) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let full = to_bytes(body, MAX_BODY_BYTES).await.unwrap_or_default();
    head.headers
        .insert(header::CONTENT_LENGTH, full.len().into());
    Response::from_parts(head, change(full))
}
