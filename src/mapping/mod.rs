//! A stand-in for the mapping: custom events of one batch, with the barest of rules.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::api::{MappingSpec, ProjectType};

/// Maps bodies.
pub struct Mapper(ProjectType);

/// A mapping that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("the mapping can't be used")]
pub struct MapperError;

/// A body that holds no batch.
#[derive(Debug, thiserror::Error)]
#[error("the body is no mParticle batch: {0}")]
pub struct BodyError(String);

impl BodyError {
    /// The reason, a PascalCase word.
    pub fn reason(&self) -> &'static str {
        "BadBody"
    }
}

/// Where in a body an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The batch.
    pub batch: u32,
    /// The event in it.
    pub event: u32,
}

/// What a body became.
#[derive(Debug, Default)]
pub struct Mapped {
    /// To send.
    pub events: Vec<MappedEvent>,
    /// Left out.
    pub skipped: Vec<Skipped>,
    /// Refused.
    pub rejected: Vec<Rejected>,
}

/// An event left out by a rule.
#[derive(Debug)]
pub struct Skipped {
    /// Where it stands.
    pub source: Source,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why an event was left out.
#[derive(Debug, Clone, Copy)]
pub enum SkipReason {
    /// The type is not sent.
    TypeNotSent,
}

impl SkipReason {
    /// A PascalCase word.
    pub fn as_str(self) -> &'static str {
        "TypeNotSent"
    }
}

/// An event that can't be sent.
#[derive(Debug)]
pub struct Rejected {
    /// Where it stands.
    pub source: Source,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub reason: RejectReason,
    /// More on it.
    pub detail: String,
}

/// Why an event can't be sent.
#[derive(Debug, Clone, Copy)]
pub enum RejectReason {
    /// Nothing names its user.
    NoUser,
}

impl RejectReason {
    /// A PascalCase word.
    pub fn as_str(self) -> &'static str {
        "NoUser"
    }
}

/// How an event names its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User<'a> {
    /// By email.
    Email(&'a str),
    /// By userId.
    UserId(&'a str),
}

/// One encoded TrackRequest.
#[derive(Debug, Clone)]
pub struct MappedEvent {
    json: String,
    name: String,
    email: bool,
    user: String,
    id: String,
    source: Source,
}

impl MappedEvent {
    /// The encoded request.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The event's name.
    pub fn event_name(&self) -> &str {
        &self.name
    }

    /// The user.
    pub fn user(&self) -> User<'_> {
        if self.email {
            User::Email(&self.user)
        } else {
            User::UserId(&self.user)
        }
    }

    /// The stable id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The event without one data field; none if it hasn't that field.
    pub fn without_field(&self, field: &str) -> Option<MappedEvent> {
        let mut value: Value = serde_json::from_str(&self.json).ok()?;
        value
            .get_mut("dataFields")?
            .as_object_mut()?
            .remove(field)?;
        Some(MappedEvent {
            json: value.to_string(),
            ..self.clone()
        })
    }
}

impl Mapper {
    /// A mapper for one project.
    pub fn new(
        _: &MappingSpec,
        project_type: ProjectType,
        _: Option<&str>,
    ) -> Result<Mapper, MapperError> {
        Ok(Mapper(project_type))
    }

    /// Maps one body.
    pub fn map(&self, body: &str, _: Option<jiff::Timestamp>) -> Result<Mapped, BodyError> {
        let batch: Value =
            serde_json::from_str(body).map_err(|error| BodyError(error.to_string()))?;
        let events = batch["events"]
            .as_array()
            .ok_or_else(|| BodyError("no events".to_owned()))?;
        let identity = |kind: &str| {
            batch["user_identities"]
                .as_array()
                .and_then(|all| all.iter().find(|one| one["identity_type"] == kind))
                .and_then(|one| one["identity"].as_str())
                .map(str::to_owned)
        };
        let email = self.0 != ProjectType::UserId;
        let user = if email {
            identity("email")
        } else {
            identity("customer_id")
        };
        let mut mapped = Mapped::default();
        for (index, event) in (0u32..).zip(events) {
            let source = Source {
                batch: 0,
                event: index,
            };
            let event_type = event["event_type"].as_str().unwrap_or_default().to_owned();
            if event_type != "custom_event" {
                mapped.skipped.push(Skipped {
                    source,
                    event_type,
                    reason: SkipReason::TypeNotSent,
                });
                continue;
            }
            let Some(user) = user.clone() else {
                mapped.rejected.push(Rejected {
                    source,
                    event_type,
                    reason: RejectReason::NoUser,
                    detail: "no identity".to_owned(),
                });
                continue;
            };
            let name = event["data"]["event_name"]
                .as_str()
                .unwrap_or("unnamed")
                .to_owned();
            let digest = Sha256::digest(format!("{user}{event}"));
            let id: String = digest[..16]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let mut request = Map::new();
            request.insert(
                if email { "email" } else { "userId" }.to_owned(),
                json!(user),
            );
            request.insert("eventName".to_owned(), json!(name));
            request.insert("id".to_owned(), json!(id));
            if let Some(at) = event["data"]["timestamp_unixtime_ms"].as_i64() {
                request.insert("createdAt".to_owned(), json!(at / 1000));
            }
            if event["data"]["custom_attributes"].is_object() {
                request.insert(
                    "dataFields".to_owned(),
                    event["data"]["custom_attributes"].clone(),
                );
            }
            mapped.events.push(MappedEvent {
                json: Value::Object(request).to_string(),
                name,
                email,
                user,
                id,
                source,
            });
        }
        Ok(mapped)
    }
}

/// A body with just those events, that [`Mapper::map`] reads again.
pub fn excerpt(body: &str, sources: &[Source]) -> Result<String, BodyError> {
    let mut batch: Value =
        serde_json::from_str(body).map_err(|error| BodyError(error.to_string()))?;
    let mut index = 0;
    if let Some(events) = batch["events"].as_array_mut() {
        events.retain(|_| {
            index += 1;
            sources.iter().any(|source| source.event == index - 1)
        });
    }
    Ok(batch.to_string())
}
