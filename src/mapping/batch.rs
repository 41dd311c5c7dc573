//! The mapping of one batch: the data that its events share, and the steps for each event.

use std::{borrow::Cow, cell::OnceCell, sync::Arc};

use jiff::Timestamp;

use crate::api::{ContextGroup, SkipOrForward, SkipOrReject};

use super::{
    KindRule, Mapper,
    context::{self, ContextFields},
    fields::FieldWriter,
    id::EventId,
    identity::{Identities, UserError, UserKey},
    kind::EventKind,
    lenient::Lenient,
    mapped::{
        Encoded, EventPosition, EventType, Head, MappedBody, MappedEvent, RejectReason, Rejected,
        SkipReason, Skipped,
    },
    mparticle::{Batch, Event, EventData},
    not_forwarded::{EventLocation, NotForwarded},
    program_output::ProgramOutput,
    raw::RawJson,
    time::{EventTime, ReferenceTimes},
    transform::{BatchValue, EvalError, Transform},
    warnings::MappingWarning,
};

/// The mapping of one batch, in progress.
pub struct BatchMapping<'m> {
    mapper: &'m Mapper,
    index: u32,
    path: &'m str,
    text: &'m str,
    sent_at: Option<Timestamp>,
    mapped: &'m mut MappedBody,
}

/// The data that the events of a batch share.
struct BatchScope<'b, 'a> {
    batch: &'b Batch<'a>,
    identities: Identities<'a>,
    user: Result<UserKey, UserError>,
    clocks: ReferenceTimes,
    context: ContextFields,
    skip: Option<SkipReason>,
    /// The input of the custom rules, created when the first event needs it.
    program_input: OnceCell<ProgramInput<'a>>,
}

/// The batch as the custom rules receive it.
struct ProgramInput<'a> {
    events: Vec<RawJson<'a>>,
    envelope: Result<BatchValue, EvalError>,
}

/// A mapped event that is not encoded yet.
struct Draft<'d> {
    kind: EventKind,
    data: &'d EventData<'d>,
    source: EventPosition,
    event_type: &'d EventType,
    event_name: Arc<str>,
    user: Result<UserKey, UserError>,
    id: EventId,
    time: EventTime,
}

impl<'m> BatchMapping<'m> {
    /// Creates the mapping of batch number `index`, at JSON path `path`, with JSON text `text`.
    pub fn new(
        mapper: &'m Mapper,
        index: u32,
        path: &'m str,
        text: &'m str,
        sent_at: Option<Timestamp>,
        mapped: &'m mut MappedBody,
    ) -> Self {
        Self {
            mapper,
            index,
            path,
            text,
            sent_at,
            mapped,
        }
    }

    /// Maps all events of the batch.
    pub fn run(&mut self, batch: &Batch<'m>) {
        if batch.is_alias_request() {
            return self.alias_request();
        }
        let events = match &batch.events {
            Lenient::Missing => return,
            Lenient::Malformed => {
                let detail = format!("at {}.events: not an array", self.path);
                return self.reject_batch(RejectReason::EventsNotAList, 1, detail);
            }
            Lenient::Valid(events) => events,
        };
        if events.is_empty() {
            return;
        }
        let scope = self.scope(batch);
        for entry in events {
            let source = EventPosition {
                batch: self.index,
                event: entry.position,
            };
            let event_type = event_type_of(&entry.event);
            match self.event(source, &event_type, &entry.event, &scope) {
                Ok(event) => self.mapped.events.push(event),
                Err(NotForwarded::Skip(reason)) => {
                    self.mapped.skipped.push(Skipped {
                        source,
                        event_type,
                        reason,
                    });
                }
                Err(NotForwarded::Reject(reason, detail)) => {
                    self.reject(source, event_type, reason, entry.count, detail);
                }
            }
        }
    }

    /// Rejects the batch as one entry that represents `count` values.
    pub fn reject_batch(&mut self, reason: RejectReason, count: u32, detail: String) {
        let source = EventPosition {
            batch: self.index,
            event: 0,
        };
        self.reject(source, Cow::Borrowed(""), reason, count, detail);
    }

    fn reject(
        &mut self,
        source: EventPosition,
        event_type: EventType,
        reason: RejectReason,
        count: u32,
        mut detail: String,
    ) {
        if count > 1 {
            let more = count - 1;
            let entries = if more == 1 { "entry" } else { "entries" };
            detail.push_str(&format!(
                "; an error of this kind in {more} later {entries}"
            ));
        }
        self.mapped.rejected.push(Rejected {
            source,
            count,
            event_type,
            reason,
            detail,
        });
    }

    fn alias_request(&mut self) {
        let source = EventPosition {
            batch: self.index,
            event: 0,
        };
        let event_type = Cow::Borrowed("alias");
        match self.mapper.alias_requests {
            SkipOrReject::Skip => {
                let reason = SkipReason::AliasRequest;
                self.mapped.skipped.push(Skipped {
                    source,
                    event_type,
                    reason,
                });
            }
            SkipOrReject::Reject => {
                let detail = format!(
                    "at {}: a request to merge two profiles, and spec.mapping.aliasRequests is Reject",
                    self.path
                );
                self.reject(source, event_type, RejectReason::AliasRequest, 1, detail);
            }
        }
    }

    fn scope<'b, 'a>(&self, batch: &'b Batch<'a>) -> BatchScope<'b, 'a> {
        let identities = Identities::read(batch.user_identities);
        let is_replay = batch.is_replay();
        let skip = if self.mapper.development == SkipOrForward::Skip && batch.is_development() {
            Some(SkipReason::Development)
        } else if self.mapper.replays == SkipOrForward::Skip && is_replay {
            Some(SkipReason::Replay)
        } else {
            None
        };
        BatchScope {
            user: self.mapper.user_resolver.user(batch, &identities),
            clocks: ReferenceTimes::new(
                batch.timestamp,
                self.sent_at,
                is_replay || batch.is_from_a_server(),
            ),
            context: ContextFields::new(batch, &self.mapper.context),
            batch,
            identities,
            skip,
            program_input: OnceCell::new(),
        }
    }

    fn event(
        &mut self,
        source: EventPosition,
        event_type: &EventType,
        event: &Lenient<Event<'m>>,
        scope: &BatchScope<'_, 'm>,
    ) -> Result<MappedEvent, NotForwarded> {
        let at = EventLocation {
            path: self.path,
            event: source.event,
        };
        let Lenient::Valid(event) = event else {
            let why = "not an object with event_type and data";
            return Err(at.reject(RejectReason::EventNotAnObject, "", why));
        };
        let empty = EventData::default();
        let data = if let Lenient::Valid(data) = &event.data {
            data
        } else {
            &empty
        };
        let kind = EventKind::from_event(event_type, data);
        let rule = self.select(kind, event_type, &event.data, scope, at)?;
        if kind == EventKind::ScreenView && data.is_screen_left() {
            return Err(NotForwarded::Skip(SkipReason::ScreenLeft));
        }
        if data.lacks_identity() {
            let why = "no source_message_id, event_id or timestamp_unixtime_ms, so it can't be distinguished from other events";
            return Err(at.reject(RejectReason::NoIdOrTime, ".data", why));
        }
        if let (Err(error), None) = (&scope.user, &self.mapper.transform) {
            return Err(at.user_error(error));
        }
        let name = rule
            .template
            .render(event_type, data, &mut self.mapped.warnings);
        let Some(event_name) = name else {
            let why = "it has no value for the name template in spec.mapping.eventName";
            return Err(at.reject(RejectReason::NoEventName, "", why));
        };
        let time = scope.clocks.event_time(data.timestamp);
        if let Some(warning) = time.warning {
            self.mapped.warnings.add(warning);
        }
        let draft = Draft {
            kind,
            data,
            source,
            event_type,
            event_name,
            user: scope.user.clone(),
            id: EventId::derive(
                event_type,
                data,
                scope.batch,
                &scope.identities,
                scope.user.as_ref().ok(),
            ),
            time,
        };
        match &self.mapper.transform {
            None => self.encode(draft, scope, at),
            Some(transform) => self.transform(transform, draft, scope, at),
        }
    }

    /// Returns the rule for a kind of event, or the reason why the event is not forwarded.
    fn select(
        &self,
        kind: EventKind,
        event_type: &str,
        data: &Lenient<EventData<'_>>,
        scope: &BatchScope<'_, '_>,
        at: EventLocation<'_>,
    ) -> Result<&'m KindRule, NotForwarded> {
        if event_type.is_empty() {
            let why = "missing, null or empty";
            return Err(at.reject(RejectReason::NoEventType, ".event_type", why));
        }
        let mapper: &'m Mapper = self.mapper;
        let Some(rule) = mapper.rule(kind).filter(|rule| rule.is_selected) else {
            return Err(NotForwarded::Skip(SkipReason::NotSelected));
        };
        if let Some(reason) = scope.skip {
            return Err(NotForwarded::Skip(reason));
        }
        if let Lenient::Malformed = data {
            return Err(at.reject(RejectReason::DataNotAnObject, ".data", "not an object"));
        }
        Ok(rule)
    }

    fn encode(
        &mut self,
        draft: Draft<'_>,
        scope: &BatchScope<'_, '_>,
        at: EventLocation<'_>,
    ) -> Result<MappedEvent, NotForwarded> {
        let encoded = self.encode_draft(&draft, scope);
        let Draft {
            event_name,
            user,
            source,
            event_type,
            ..
        } = draft;
        let user = user.map_err(|error| at.user_error(&error))?;
        at.fits(MappedEvent::new(
            encoded,
            event_name,
            user,
            source,
            event_type.clone(),
        ))
    }

    fn encode_draft(&mut self, draft: &Draft<'_>, scope: &BatchScope<'_, '_>) -> Encoded {
        let head = Head {
            event_name: &draft.event_name,
            user: draft.user.as_ref().ok().map(UserKey::user),
            id: draft.id.as_str(),
            created_at: draft.time.seconds(),
            more: "",
        };
        let attributes = draft
            .data
            .custom_attributes
            .map_or(0, |raw| raw.json().len());
        let size_hint = 384 + scope.context.json().len() + attributes;
        Encoded::new(head, size_hint, |json| self.data_fields(json, draft, scope))
    }

    /// Writes the sender's attributes first and unknown members last, because the first of two
    /// fields with the same name is kept.
    fn data_fields(&mut self, json: &mut String, draft: &Draft<'_>, scope: &BatchScope<'_, '_>) {
        let data = draft.data;
        let mut writer = FieldWriter::new(json, self.mapper.fields, &mut self.mapped.warnings);
        if let Some(attributes) = data.custom_attributes {
            writer.attributes(attributes);
        }
        let fields = draft.kind.fields();
        writer.known(fields, &|name| data.extra_member(name));
        if self.mapper.context.contains(&ContextGroup::Session) {
            writer.known(context::SESSION, &|_| data.session_uuid);
        }
        if self.mapper.context.contains(&ContextGroup::Location)
            && let Some(location) = data.location
        {
            writer.expect_object(location);
            writer.known(context::LOCATION, &|name| location.member(name));
        }
        writer.context(&scope.context);
        if let (Some(field), Some(millis)) = (&self.mapper.milliseconds_field, draft.time.millis) {
            writer.integer(field, millis);
        }
        writer.unknown(fields, &data.extra);
        writer.end();
    }

    /// Applies the custom rules. Their output is subject to the same checks as every event.
    fn transform(
        &mut self,
        transform: &Transform,
        draft: Draft<'_>,
        scope: &BatchScope<'_, 'm>,
        at: EventLocation<'_>,
    ) -> Result<MappedEvent, NotForwarded> {
        let input = self.encode_draft(&draft, scope).json;
        let program_input = scope.program_input.get_or_init(|| self.program_input());
        let event = program_input
            .events
            .get(draft.source.event as usize)
            .copied();
        let (Some(input), Some(event)) = (RawJson::parse(&input), event) else {
            let error = EvalError::Failed("the event can't be parsed again".to_owned());
            return Err(at.eval_error(&error));
        };
        let output = match &program_input.envelope {
            Ok(envelope) => transform.run(input, event, envelope),
            Err(error) => Err(error.clone()),
        };
        let output = output
            .map_err(|error| at.eval_error(&error))?
            .ok_or(NotForwarded::Skip(SkipReason::DroppedByTransform))?;
        let Some(output) = RawJson::parse(&output) else {
            let error = EvalError::Failed("its output can't be parsed".to_owned());
            return Err(at.eval_error(&error));
        };
        let project = self.mapper.user_resolver.project();
        let output =
            ProgramOutput::read(output, project).map_err(|error| at.output_error(&error))?;
        let user = match (output.user, draft.user) {
            (Some(user), _) => user,
            (None, Err(error)) => return Err(at.user_error(&error)),
            (None, Ok(_)) => return Err(NotForwarded::Skip(SkipReason::NoUser)),
        };
        if output.is_name_cut {
            self.mapped.warnings.add(MappingWarning::NameCut);
        }
        let head = Head {
            event_name: &output.event_name,
            user: Some(user.user()),
            id: &output.id,
            created_at: output.created_at,
            more: &output.more,
        };
        let encoded = Encoded::new(head, 512, |json| {
            let rules = self.mapper.fields.as_given();
            let mut writer = FieldWriter::new(json, rules, &mut self.mapped.warnings);
            if let Some(fields) = output.data_fields {
                writer.attributes(fields);
            }
            writer.end();
        });
        let event_type = draft.event_type.clone();
        at.fits(MappedEvent::new(
            encoded,
            output.event_name,
            user,
            draft.source,
            event_type,
        ))
    }

    fn program_input(&self) -> ProgramInput<'m> {
        let (mut events, mut envelope) = (Vec::new(), Vec::new());
        if let Some(batch) = RawJson::parse(self.text) {
            batch.each_member(|name, value| match &*name {
                "events" => value.each_element(|event| events.push(event)),
                _ => envelope.push((name, value)),
            });
        }
        ProgramInput {
            events,
            envelope: Transform::batch(&envelope),
        }
    }
}

/// Returns the event type for reports, without copying known types.
fn event_type_of(event: &Lenient<Event<'_>>) -> EventType {
    let Lenient::Valid(Event {
        event_type: Some(raw),
        ..
    }) = event
    else {
        return Cow::Borrowed("");
    };
    match raw.scalar() {
        None => Cow::Borrowed(""),
        Some(text) => EventKind::ALL
            .into_iter()
            .filter_map(EventKind::event_type)
            .find(|name| *name == text)
            .map_or_else(|| Cow::Owned(text.into_owned()), Cow::Borrowed),
    }
}
