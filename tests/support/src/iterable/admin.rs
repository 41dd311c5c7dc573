//! The admin API: the methods of [`Handle`] over HTTP, for the demo and tests in other processes.

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;

use super::{Fault, Handle, RequestRecord, StoredEvent, Summary};

pub(super) fn router() -> Router<Handle> {
    Router::new()
        .route("/_admin/summary", get(summary))
        .route("/_admin/events", get(events))
        .route("/_admin/requests", get(requests))
        .route(
            "/_admin/faults",
            get(faults).post(add_fault).delete(clear_faults),
        )
        .route("/_admin/gates/{name}", post(open_gate))
        .route("/_admin/users", get(users).post(change_users))
        .route("/_admin/reset", post(reset))
}

async fn summary(State(handle): State<Handle>) -> Json<Summary> {
    Json(handle.summary())
}

/// A filter for events that match all set fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFilter {
    id: Option<String>,
    name: Option<String>,
    user: Option<String>,
    limit: Option<usize>,
}

impl EventFilter {
    fn matches(&self, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        self.id.as_ref().is_none_or(|id| *id == stored.id)
            && self
                .name
                .as_ref()
                .is_none_or(|name| event["eventName"] == *name)
            && self
                .user
                .as_ref()
                .is_none_or(|user| event["email"] == *user || event["userId"] == *user)
    }
}

async fn events(
    State(handle): State<Handle>,
    Query(filter): Query<EventFilter>,
) -> Json<Vec<StoredEvent>> {
    Json(handle.with_events(|events| {
        let matching = events.iter().filter(|event| filter.matches(event));
        matching
            .take(filter.limit.unwrap_or(usize::MAX))
            .cloned()
            .collect()
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLimit {
    limit: Option<usize>,
}

/// Returns the latest requests, oldest first.
async fn requests(
    State(handle): State<Handle>,
    Query(RequestLimit { limit }): Query<RequestLimit>,
) -> Json<Vec<RequestRecord>> {
    let mut requests = handle.requests();
    let surplus = requests.len().saturating_sub(limit.unwrap_or(usize::MAX));
    Json(requests.split_off(surplus))
}

async fn faults(State(handle): State<Handle>) -> Json<Vec<Fault>> {
    Json(handle.faults())
}

async fn add_fault(State(handle): State<Handle>, Json(fault): Json<Fault>) -> StatusCode {
    handle.add_fault(fault);
    StatusCode::NO_CONTENT
}

async fn clear_faults(State(handle): State<Handle>) -> StatusCode {
    handle.clear_faults();
    StatusCode::NO_CONTENT
}

async fn open_gate(State(handle): State<Handle>, Path(name): Path<String>) -> StatusCode {
    handle.gate(&name).open();
    StatusCode::NO_CONTENT
}

async fn users(State(handle): State<Handle>) -> Json<Vec<String>> {
    Json(handle.users())
}

/// Changes to users, by email or userId, and to event names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct Changes {
    known: Vec<String>,
    forgotten: Vec<String>,
    disallowed_event_names: Vec<String>,
}

async fn change_users(State(handle): State<Handle>, Json(changes): Json<Changes>) -> StatusCode {
    changes.known.iter().for_each(|name| handle.add_user(name));
    changes
        .forgotten
        .iter()
        .for_each(|name| handle.forget_user(name));
    changes
        .disallowed_event_names
        .iter()
        .for_each(|name| handle.disallow_event_name(name));
    StatusCode::NO_CONTENT
}

async fn reset(State(handle): State<Handle>) -> StatusCode {
    handle.reset();
    StatusCode::NO_CONTENT
}
