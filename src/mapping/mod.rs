//! Maps mParticle batches to Iterable events. Pure: no I/O, no clock, no randomness.
//!
//! `body` unwraps a message body and `mparticle` parses its batches. `batch` maps each event: its
//! `kind`, by which it is selected, user (`identity`), `name`, `time`, `id` and `fields`. The
//! custom rules (`transform`) are applied last. `mapped` holds the result.

mod batch;
mod body;
mod coerce;
mod context;
mod field_rules;
mod field_table;
mod fields;
mod id;
mod identity;
mod kind;
mod lenient;
mod mapped;
mod mparticle;
mod name;
mod not_forwarded;
mod program_output;
mod raw;
mod request;
mod time;
mod transform;
mod warnings;

use jiff::Timestamp;

use crate::api::{
    ConfigMapKeyRef, ContextGroup, EventSelector, MappingSpec, MissingUserPolicy, ProjectType,
    SkipOrForward, SkipOrReject,
};

pub use body::{BodyError, Excerpt, excerpt};
pub use context::context_fields;
pub use field_table::{Field, FieldType};
pub use identity::{User, check_email, check_user_id};
pub use kind::EventKind;
pub use mapped::{
    EventPosition, EventType, MappedBody, MappedEvent, RejectReason, Rejected, SkipReason, Skipped,
};
pub use mparticle::INTERNAL_MEMBERS;
pub use name::{TemplateError, placeholders};
pub use request::{MAX_BYTES, MAX_EVENT_BYTES, MAX_EVENTS};
pub use transform::{Exhausted, FUEL, TransformError};
pub use warnings::{MappingWarning, Warnings};

use batch::BatchMapping;
use field_rules::FieldRules;
use identity::UserResolver;
use mparticle::Batch;
use name::NameTemplate;
use transform::Transform;

/// The compiled mapping of one forwarder.
#[derive(Debug)]
pub struct Mapper {
    /// One rule per [`EventKind`], in the order of its variants.
    kinds: Vec<KindRule>,
    user_resolver: UserResolver,
    fields: FieldRules,
    context: Vec<ContextGroup>,
    milliseconds_field: Option<String>,
    development: SkipOrForward,
    replays: SkipOrForward,
    alias_requests: SkipOrReject,
    transform: Option<Transform>,
}

#[derive(Debug)]
struct KindRule {
    is_selected: bool,
    template: NameTemplate,
}

/// A mapping that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapperError {
    /// An event name template is invalid.
    #[error("spec.mapping.eventName.{key}: {error}")]
    Template {
        /// The key of `mapping.eventName`.
        key: &'static str,
        /// The problem.
        error: TemplateError,
    },
    /// `PlaceholderEmail` is set, but placeholder addresses exist only in email-based projects
    /// (support.iterable.com, "Project Types and Unique Identifiers").
    #[error(
        "spec.mapping.identity.withoutUser: PlaceholderEmail requires an Email project; set Skip, or set spec.iterable.projectType: Email"
    )]
    PlaceholderNeedsEmailProject,
    /// The custom rules are invalid.
    #[error("spec.mapping.transform: {0}")]
    Transform(#[from] TransformError),
    /// The program of the custom rules was not found in its ConfigMap.
    #[error(
        "spec.mapping.transform.configMapKeyRef: key {key} in ConfigMap {name} not found; create it, or remove the reference"
    )]
    TransformMissing {
        /// The ConfigMap's name.
        name: String,
        /// The key in it.
        key: String,
    },
}

impl Mapper {
    /// Compiles a mapping. `transform` is the program of the custom rules, used if the spec has no
    /// `mapping.transform.jq`.
    pub fn new(
        spec: &MappingSpec,
        project_type: ProjectType,
        transform: Option<&str>,
    ) -> Result<Self, MapperError> {
        if spec.identity.without_user == MissingUserPolicy::PlaceholderEmail
            && project_type != ProjectType::Email
        {
            return Err(MapperError::PlaceholderNeedsEmailProject);
        }
        let kinds = EventKind::ALL
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
            .collect::<Result<_, MapperError>>()?;
        Ok(Self {
            kinds,
            user_resolver: UserResolver::new(&spec.identity, project_type),
            fields: FieldRules::from(&spec.data_fields),
            context: spec.data_fields.context.clone(),
            milliseconds_field: spec.data_fields.milliseconds_field.clone(),
            development: spec.development,
            replays: spec.replays,
            alias_requests: spec.alias_requests,
            transform: program(spec, transform)?.map(Transform::new).transpose()?,
        })
    }

    /// Maps the body of one message. `sent_at` is the time at which the queue received it, used to
    /// detect implausible event times.
    pub fn map(&self, body: &str, sent_at: Option<Timestamp>) -> Result<MappedBody, BodyError> {
        if self.transform.is_some() {
            return transform::on_large_stack(|| self.map_on_current_stack(body, sent_at));
        }
        self.map_on_current_stack(body, sent_at)
    }

    fn map_on_current_stack(
        &self,
        body: &str,
        sent_at: Option<Timestamp>,
    ) -> Result<MappedBody, BodyError> {
        let mut mapped = MappedBody::default();
        // Fast path: nearly every body is a single batch without a wrapper.
        if let Ok(batch) = serde_json::from_str::<Batch<'_>>(body)
            && batch.is_known()
        {
            BatchMapping::new(self, 0, "$", body, sent_at, &mut mapped).run(&batch);
            return Ok(mapped);
        }
        let documents = body::documents(body)?;
        let is_single = documents.len() == 1;
        for (index, document) in documents.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let batch = match serde_json::from_str::<Batch<'_>>(&document.text) {
                Ok(batch) if batch.is_known() => Ok(batch),
                Ok(_) => Err(document.not_a_batch()),
                Err(error) if error.is_data() && !document.text.starts_with('{') => {
                    Err(document.not_a_batch())
                }
                Err(error) => Err(BodyError::syntax(&document.path, &document.text, &error)),
            };
            let mut mapping = BatchMapping::new(
                self,
                index,
                &document.path,
                &document.text,
                sent_at,
                &mut mapped,
            );
            match batch {
                Ok(batch) => mapping.run(&batch),
                Err(error) if is_single => return Err(error),
                Err(error) => {
                    let count = 1 + document.more.0;
                    mapping.reject_batch(RejectReason::NotABatch, count, error.to_string());
                }
            }
        }
        Ok(mapped)
    }

    fn rule(&self, kind: EventKind) -> Option<&KindRule> {
        self.kinds.get(kind as usize)
    }
}

/// Returns the program of the custom rules, if any.
fn program<'p>(
    spec: &'p MappingSpec,
    fallback: Option<&'p str>,
) -> Result<Option<&'p str>, MapperError> {
    let Some(transform) = &spec.transform else {
        return Ok(fallback);
    };
    match (
        transform.jq.as_deref(),
        fallback,
        &transform.config_map_key_ref,
    ) {
        (Some(program), ..) | (None, Some(program), _) => Ok(Some(program)),
        (None, None, Some(ConfigMapKeyRef { name, key })) => Err(MapperError::TransformMissing {
            name: name.clone(),
            key: key.clone(),
        }),
        (None, None, None) => Ok(None),
    }
}
