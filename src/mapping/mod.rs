//! From mParticle's batches to Iterable's events. Pure: no I/O, no clock, no randomness.
//!
//! A body is unwrapped ([`body`]) and read as batches ([`mparticle`]). Each event gets a
//! [`kind`], by which it is selected; a user ([`identity`]), a name ([`name`]), a time
//! ([`time`]), an id ([`id`]) and its fields ([`fields`]); and comes out as an [`outcome`].

mod body;
mod coerce;
mod context;
mod fields;
mod id;
mod identity;
mod kind;
mod lenient;
mod mparticle;
mod name;
mod notes;
mod outcome;
mod raw;
mod request;
mod table;
mod time;

use std::borrow::Cow;

use jiff::Timestamp;

use crate::api::{
    ContextGroup, EventSelector, MappingSpec, ProjectType, SkipOrForward, SkipOrReject, WithoutUser,
};

pub use body::{BodyError, excerpt};
pub use identity::{User, check_email, check_user_id};
pub use kind::Kind;
pub use name::TemplateError;
pub use notes::{Note, Notes};
pub use outcome::{
    EventType, Mapped, MappedEvent, RejectReason, Rejected, SkipReason, Skipped, Source,
};
pub use request::{MAX_BYTES, MAX_EVENT_BYTES, MAX_EVENTS, requests};
pub use table::{Field, FieldType};

use context::Context;
use fields::{FieldRules, FieldWriter};
use id::EventId;
use identity::{Identification, Identities, Unidentified, UserKey};
use lenient::Lenient;
use mparticle::{Batch, Event, EventData};
use name::NameTemplate;
use outcome::Head;
use time::Clocks;

/// The mapping of one forwarder, ready to use.
#[derive(Debug)]
pub struct Mapper {
    /// By [`Kind`], whether it is forwarded and how it is named.
    kinds: Vec<KindRule>,
    identification: Identification,
    fields: FieldRules,
    context: Vec<ContextGroup>,
    milliseconds_field: Option<String>,
    development: SkipOrForward,
    replays: SkipOrForward,
    alias_requests: SkipOrReject,
}

#[derive(Debug)]
struct KindRule {
    is_selected: bool,
    template: NameTemplate,
}

/// A mapping that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapperError {
    /// A name's template is wrong.
    #[error("spec.mapping.eventName.{key}: {error}")]
    Template {
        /// The key of `mapping.eventName`.
        key: &'static str,
        /// What is wrong.
        error: TemplateError,
    },
    /// Placeholder addresses exist in email-based projects only (support.iterable.com,
    /// "Project Types and Unique Identifiers").
    #[error(
        "spec.mapping.identity.withoutUser: PlaceholderEmail needs an Email project; set Skip, or spec.iterable.projectType: Email"
    )]
    PlaceholderNeedsEmailProject,
}

impl Mapper {
    /// Prepares a mapping. `transform`: the text of the user's rules where the spec refers to a
    /// ConfigMap.
    pub fn new(
        spec: &MappingSpec,
        project_type: ProjectType,
        transform: Option<&str>,
    ) -> Result<Self, MapperError> {
        let _ = transform;
        if spec.identity.without_user == WithoutUser::PlaceholderEmail
            && project_type != ProjectType::Email
        {
            return Err(MapperError::PlaceholderNeedsEmailProject);
        }
        let kinds = Kind::ALL
            .into_iter()
            .map(|kind| {
                let (key, template) = kind.template(&spec.event_name);
                Ok(KindRule {
                    is_selected: spec.events.contains(&EventSelector::All)
                        || spec.events.contains(&kind.selector()),
                    template: NameTemplate::parse(template, kind)
                        .map_err(|error| MapperError::Template { key, error })?,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            kinds,
            identification: Identification::new(&spec.identity, project_type),
            fields: FieldRules::from(&spec.data_fields),
            context: spec.data_fields.context.clone(),
            milliseconds_field: spec.data_fields.milliseconds_field.clone(),
            development: spec.development,
            replays: spec.replays,
            alias_requests: spec.alias_requests,
        })
    }

    /// Maps the body of one message. `sent_at`: when the queue received it, to tell absurd
    /// clocks by.
    pub fn map(&self, body: &str, sent_at: Option<Timestamp>) -> Result<Mapped, BodyError> {
        let mut mapped = Mapped::default();
        // Nearly every body is one batch as it came. Anything else is taken apart first.
        if let Ok(batch) = serde_json::from_str::<Batch<'_>>(body)
            && (batch.recognised || batch.is_alias_request())
        {
            BatchMapping::new(self, 0, "$", sent_at, &mut mapped).run(&batch);
            return Ok(mapped);
        }
        let documents = body::documents(body)?;
        let is_alone = documents.len() == 1;
        for (index, document) in documents.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let batch = match serde_json::from_str::<Batch<'_>>(&document.text) {
                Ok(batch) if batch.recognised || batch.is_alias_request() => Ok(batch),
                Ok(_) => Err(document.not_a_batch()),
                Err(error) if error.is_data() && !document.text.starts_with('{') => {
                    Err(document.not_a_batch())
                }
                Err(error) => Err(BodyError::syntax(&document.path, &document.text, &error)),
            };
            let mut mapping = BatchMapping::new(self, index, &document.path, sent_at, &mut mapped);
            match batch {
                Ok(batch) => mapping.run(&batch),
                Err(error) if is_alone => return Err(error),
                Err(error) => mapping.reject_batch(RejectReason::NotABatch, error.to_string()),
            }
        }
        Ok(mapped)
    }

    fn rule(&self, kind: Kind) -> Option<&KindRule> {
        self.kinds.get(kind as usize)
    }
}

/// The mapping of one batch, under way.
struct BatchMapping<'m> {
    mapper: &'m Mapper,
    index: u32,
    path: &'m str,
    sent_at: Option<Timestamp>,
    mapped: &'m mut Mapped,
}

/// What the events of a batch share.
struct Surroundings<'b, 'a> {
    batch: &'b Batch<'a>,
    identities: Identities<'a>,
    user: Result<UserKey, Unidentified>,
    clocks: Clocks,
    context: Context,
    skip: Option<SkipReason>,
}

/// Why an event goes no further.
enum Stop {
    Skip(SkipReason),
    Reject(RejectReason, String),
}

impl<'m> BatchMapping<'m> {
    fn new(
        mapper: &'m Mapper,
        index: u32,
        path: &'m str,
        sent_at: Option<Timestamp>,
        mapped: &'m mut Mapped,
    ) -> Self {
        Self {
            mapper,
            index,
            path,
            sent_at,
            mapped,
        }
    }

    fn run(&mut self, batch: &Batch<'_>) {
        if batch.is_alias_request() {
            return match self.mapper.alias_requests {
                SkipOrReject::Skip => self.mapped.skipped.push(Skipped {
                    source: self.source(0),
                    event_type: Cow::Borrowed("alias"),
                    reason: SkipReason::AliasRequest,
                }),
                SkipOrReject::Reject => self.reject_batch(
                    RejectReason::AliasRequest,
                    format!("at {}: a request to merge two profiles, which spec.mapping.aliasRequests rejects", self.path),
                ),
            };
        }
        let events = match &batch.events {
            Lenient::Missing => return,
            Lenient::Malformed => {
                let detail = format!("at {}.events: not a list of events", self.path);
                return self.reject_batch(RejectReason::EventsNotAList, detail);
            }
            Lenient::Found(events) => events,
        };
        if events.is_empty() {
            return;
        }
        let around = self.surroundings(batch);
        self.mapped.events.reserve(events.len());
        for (index, event) in (0..).zip(events) {
            let event_type = event_type_of(event);
            match self.event(index, &event_type, event, &around) {
                Ok(event) => self.mapped.events.push(event),
                Err(Stop::Skip(reason)) => {
                    self.mapped.skipped.push(Skipped {
                        source: self.source(index),
                        event_type,
                        reason,
                    });
                }
                Err(Stop::Reject(reason, detail)) => self.mapped.rejected.push(Rejected {
                    source: self.source(index),
                    event_type,
                    reason,
                    detail,
                }),
            }
        }
    }

    fn surroundings<'b, 'a>(&self, batch: &'b Batch<'a>) -> Surroundings<'b, 'a> {
        let identities = Identities::read(batch.user_identities);
        let is_replay = batch.is_replay();
        let skip = if self.mapper.development == SkipOrForward::Skip && batch.is_development() {
            Some(SkipReason::Development)
        } else if self.mapper.replays == SkipOrForward::Skip && is_replay {
            Some(SkipReason::Replay)
        } else {
            None
        };
        Surroundings {
            user: self.mapper.identification.user(batch, &identities),
            clocks: Clocks::new(batch.timestamp, self.sent_at, is_replay),
            context: Context::of(batch, &self.mapper.context),
            batch,
            identities,
            skip,
        }
    }

    fn event(
        &mut self,
        index: u32,
        event_type: &EventType,
        event: &Lenient<Event<'_>>,
        around: &Surroundings<'_, '_>,
    ) -> Result<MappedEvent, Stop> {
        let at = |what: &str| format!("at {}.events[{index}]{what}", self.path);
        let Lenient::Found(event) = event else {
            return Err(Stop::Reject(
                RejectReason::EventNotAnObject,
                at(": not an object with event_type and data"),
            ));
        };
        if event_type.is_empty() {
            return Err(Stop::Reject(
                RejectReason::NoEventType,
                at(".event_type: missing, null or empty"),
            ));
        }
        let nothing = EventData::default();
        let data = if let Lenient::Found(data) = &event.data {
            data
        } else {
            &nothing
        };
        let kind = Kind::of(event_type, data);
        let Some(rule) = self.mapper.rule(kind).filter(|rule| rule.is_selected) else {
            return Err(Stop::Skip(SkipReason::NotSelected));
        };
        if let Some(reason) = around.skip {
            return Err(Stop::Skip(reason));
        }
        if let Lenient::Malformed = event.data {
            return Err(Stop::Reject(RejectReason::DataNotAnObject, at(".data: not an object")));
        }
        if data.is_nameless() {
            return Err(Stop::Reject(
                RejectReason::NoData,
                at(".data: no source_message_id, event_id or timestamp_unixtime_ms, so nothing tells it from another event"),
            ));
        }
        if kind == Kind::ScreenView && data.is_screen_left() {
            return Err(Stop::Skip(SkipReason::ScreenLeft));
        }
        let user = around.user.clone().map_err(|error| match error {
            Unidentified::NoUser => Stop::Skip(SkipReason::NoUser),
            Unidentified::InvalidEmail(rule) => Stop::Reject(
                RejectReason::InvalidEmail,
                format!("at {}.user_identities: {rule}", self.path),
            ),
            Unidentified::InvalidUserId(rule) => Stop::Reject(
                RejectReason::InvalidUserId,
                format!("at {}.user_identities: {rule}", self.path),
            ),
        })?;
        let Some(event_name) = rule
            .template
            .render(event_type, data, &mut self.mapped.notes)
        else {
            return Err(Stop::Reject(
                RejectReason::NoEventName,
                at(": nothing in it gives a name by the template in spec.mapping.eventName"),
            ));
        };
        let id = EventId::derive(event_type, data, around.batch, &around.identities);
        let time = around.clocks.event_time(data.timestamp);
        if let Some(note) = time.note {
            self.mapped.notes.add(note);
        }
        let head = Head {
            event_name,
            user,
            id: id.into_text(),
            source: self.source(index),
            event_type: event_type.clone(),
        };
        let hint = 384
            + around.context.json().len()
            + data.custom_attributes.map_or(0, |raw| raw.json().len());
        Ok(MappedEvent::encode(head, time.seconds(), hint, |json| {
            self.data_fields(json, kind, data, time.millis, around);
        }))
    }

    /// The sender's attributes come first: of two fields with one name, the first stays.
    fn data_fields(
        &mut self,
        json: &mut String,
        kind: Kind,
        data: &EventData<'_>,
        millis: Option<i64>,
        around: &Surroundings<'_, '_>,
    ) {
        let mut writer = FieldWriter::new(json, self.mapper.fields, &mut self.mapped.notes);
        if let Some(attributes) = data.custom_attributes {
            writer.attributes(attributes);
        }
        if kind == Kind::Unknown {
            for (name, value) in &data.own {
                writer.attribute(name, *value);
            }
        } else {
            writer.known(kind.fields(), &|name| data.own(name));
        }
        if self.mapper.context.contains(&ContextGroup::Session) {
            writer.known(context::SESSION, &|_| data.session_uuid);
        }
        if let (true, Some(location)) = (
            self.mapper.context.contains(&ContextGroup::Location),
            data.location,
        ) {
            writer.known(context::LOCATION, &|name| location.member(name));
        }
        writer.context(&around.context);
        if let (Some(field), Some(millis)) = (&self.mapper.milliseconds_field, millis) {
            writer.integer(field, millis);
        }
        writer.end();
    }

    fn source(&self, event: u32) -> Source {
        Source {
            batch: self.index,
            event,
        }
    }

    fn reject_batch(&mut self, reason: RejectReason, detail: String) {
        let source = self.source(0);
        self.mapped.rejected.push(Rejected {
            source,
            event_type: Cow::Borrowed(""),
            reason,
            detail,
        });
    }
}

/// The type of an event as it is reported: without a copy for those that are known.
fn event_type_of(event: &Lenient<Event<'_>>) -> EventType {
    let Lenient::Found(Event {
        event_type: Some(raw),
        ..
    }) = event
    else {
        return Cow::Borrowed("");
    };
    match raw.scalar() {
        None => Cow::Borrowed(""),
        Some(text) => Kind::ALL
            .into_iter()
            .filter_map(Kind::event_type)
            .find(|known| *known == text)
            .map_or_else(|| Cow::Owned(text.into_owned()), Cow::Borrowed),
    }
}
