//! Event names, rendered from templates.

use std::sync::Arc;

use super::{
    field_table::{Field, FieldType},
    kind::EventKind,
    mparticle::EventData,
    raw::RawJson,
    warnings::{MappingWarning, Warnings},
};

/// Maximum length of an event name, in characters. This is mParticle's limit; Iterable documents
/// none.
pub const MAX_NAME_CHARS: usize = 256;

/// The text for a placeholder without a value.
const NO_VALUE: &str = "Unknown";

/// A template for the names of one kind of event.
#[derive(Debug)]
pub enum NameTemplate {
    /// A name without placeholders.
    Constant(Arc<str>),
    /// Text and placeholders.
    Parts(Vec<Part>),
}

/// A piece of a template.
#[derive(Debug)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// `{event_type}`
    EventType,
    /// `{action}`: the commerce action in Pascal case.
    Action,
    /// `{transition}`: the application transition in Pascal case.
    Transition,
    /// A member of the event, by its path at mParticle.
    Member(Vec<String>),
}

/// An error in a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An unmatched brace.
    #[error("unmatched brace; write a placeholder as {{screen_name}}")]
    Unbalanced,
    /// A placeholder that the kind does not have.
    #[error("{{{placeholder}}} is not a placeholder of this event type; use one of {known}")]
    UnknownPlaceholder {
        /// The name in braces.
        placeholder: String,
        /// The valid placeholders.
        known: String,
    },
    /// Empty, or only whitespace.
    #[error("a name must not be empty or whitespace")]
    Blank,
}

impl NameTemplate {
    /// Parses a template for events of a kind.
    pub fn parse(template: &str, kind: EventKind) -> Result<Self, TemplateError> {
        if template.trim().is_empty() {
            return Err(TemplateError::Blank);
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find(['{', '}']) {
            let (text, braced) = rest.split_at(open);
            if !text.is_empty() {
                parts.push(Part::Text(text.to_owned()));
            }
            let (name, after) = braced
                .strip_prefix('{')
                .and_then(|inner| inner.split_once('}'))
                .filter(|(name, _)| !name.contains('{'))
                .ok_or(TemplateError::Unbalanced)?;
            parts.push(Part::placeholder(name, kind)?);
            rest = after;
        }
        if parts.is_empty() {
            return Ok(Self::Constant(Arc::from(template)));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self::Parts(parts))
    }

    /// Renders the name of an event. Returns `None` if literal text and values are all blank or
    /// missing.
    pub fn render(
        &self,
        event_type: &str,
        data: &EventData<'_>,
        warnings: &mut Warnings,
    ) -> Option<Arc<str>> {
        let parts = match self {
            Self::Constant(name) => return Some(Arc::clone(name)),
            Self::Parts(parts) => parts,
        };
        let mut name = String::new();
        let mut has_value = false;
        for part in parts {
            match part.value(event_type, data) {
                Some(value) => {
                    has_value |= !value.trim().is_empty();
                    name.push_str(&value);
                }
                None => name.push_str(NO_VALUE),
            }
        }
        if !has_value {
            return None;
        }
        if let Some((end, _)) = name.char_indices().nth(MAX_NAME_CHARS) {
            name.truncate(end);
            warnings.add(MappingWarning::NameCut);
        }
        Some(Arc::from(name))
    }
}

impl Part {
    fn placeholder(name: &str, kind: EventKind) -> Result<Self, TemplateError> {
        let is_commerce = matches!(kind, EventKind::Commerce | EventKind::Purchase);
        match name {
            "event_type" => Ok(Self::EventType),
            "action" if is_commerce => Ok(Self::Action),
            "transition" if kind == EventKind::ApplicationStateTransition => Ok(Self::Transition),
            _ if kind == EventKind::Unknown => Ok(Self::Member(vec![name.to_owned()])),
            _ => path_of(name, kind.fields())
                .map(Self::Member)
                .ok_or_else(|| TemplateError::UnknownPlaceholder {
                    placeholder: name.to_owned(),
                    known: placeholders(kind).join(", "),
                }),
        }
    }

    fn value(&self, event_type: &str, data: &EventData<'_>) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::EventType => Some(event_type.to_owned()),
            Self::Action => data.commerce_action().map(|action| pascal_case(&action)),
            Self::Transition => {
                let kind = data.extra_member("application_transition_type")?.scalar()?;
                Some(pascal_case(
                    kind.strip_prefix("application_").unwrap_or(&kind),
                ))
            }
            Self::Member(path) => {
                let (first, rest) = path.split_first()?;
                let start = data.extra_member(first);
                let member = rest.iter().fold(start, |at, name| at?.member(name));
                member
                    .and_then(RawJson::scalar)
                    .map(|text| text.into_owned())
            }
        }
    }
}

/// Returns the placeholders that are valid in a template for a kind.
pub fn placeholders(kind: EventKind) -> Vec<String> {
    let mut names = vec!["{event_type}".to_owned()];
    if matches!(kind, EventKind::ApplicationStateTransition) {
        names.push("{transition}".to_owned());
    }
    collect_names(kind.fields(), &mut names);
    names
}

fn collect_names(fields: &[Field], names: &mut Vec<String>) {
    for field in fields {
        let name = format!("{{{}}}", field.target);
        match field.field_type {
            FieldType::Inline(inner) => collect_names(inner, names),
            FieldType::Objects(_)
            | FieldType::Attributes
            | FieldType::TextList
            | FieldType::Ignored => {}
            _ if names.contains(&name) => {}
            _ => names.push(name),
        }
    }
}

fn path_of(name: &str, fields: &[Field]) -> Option<Vec<String>> {
    fields.iter().find_map(|field| match field.field_type {
        FieldType::Inline(inner) => {
            let mut path = path_of(name, inner)?;
            path.insert(0, field.source.to_owned());
            Some(path)
        }
        FieldType::Objects(_)
        | FieldType::Attributes
        | FieldType::TextList
        | FieldType::Ignored => None,
        _ => (field.target == name).then(|| vec![field.source.to_owned()]),
    })
}

/// Converts `add_to_cart` to `AddToCart`, mParticle's spelling of actions.
fn pascal_case(words: &str) -> String {
    words
        .split('_')
        .flat_map(|word| {
            let mut chars = word.chars();
            let first = chars.next().map(|first| first.to_ascii_uppercase());
            first.into_iter().chain(chars)
        })
        .collect()
}
