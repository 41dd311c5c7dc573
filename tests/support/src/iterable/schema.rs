//! The types of `dataFields`: for all events of one name, a field keeps the type of its first value (section 1.8).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::{refusal::Refusal, request::TrackRequest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldType {
    Boolean,
    Date,
    Double,
    GeoLocation,
    Long,
    Object,
    String,
}

impl FieldType {
    fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Double => "double",
            Self::GeoLocation => "geo_location",
            Self::Long => "long",
            Self::Object => "object",
            Self::String => "string",
        }
    }

    /// The types that a value fits, its own first. `null` and arrays have none of their own.
    fn fitting(value: &Value) -> &'static [Self] {
        match value {
            Value::Null | Value::Array(_) => &[],
            Value::Bool(_) => &[Self::Boolean],
            Value::Number(number) if number.is_f64() => &[Self::Double],
            Value::Number(_) => &[Self::Long, Self::Double],
            Value::String(text) if is_date(text) => &[Self::Date, Self::String],
            Value::String(_) => &[Self::String],
            Value::Object(fields) if is_geo_location(fields) => &[Self::GeoLocation, Self::Object],
            Value::Object(_) => &[Self::Object],
        }
    }

    /// As recorded: a text that is no date has the possible types `string` and `keyword` (section 1.8).
    fn incoming_names(value: &Value) -> Vec<&'static str> {
        let mut names: Vec<_> = Self::fitting(value)
            .iter()
            .map(|fits| fits.name())
            .collect();
        if value.is_string() {
            names.push("keyword");
        }
        names
    }
}

/// Iterable's own form, `yyyy-MM-dd HH:mm:ss +00:00` (section 1.8).
fn is_date(text: &str) -> bool {
    let form = b"dddd-dd-dd dd:dd:dd sdd:dd";
    text.len() == form.len()
        && text.bytes().zip(form).all(|(byte, form)| match form {
            b'd' => byte.is_ascii_digit(),
            b's' => matches!(byte, b'+' | b'-'),
            other => byte == *other,
        })
}

fn is_geo_location(fields: &Map<String, Value>) -> bool {
    fields.len() == 2
        && ["lat", "lon"]
            .iter()
            .all(|name| fields.get(*name).is_some_and(Value::is_number))
}

/// The field names that a request brought or lost (section 1.4).
#[derive(Debug, Default)]
pub(super) struct FieldChanges {
    pub(super) created: BTreeSet<String>,
    pub(super) filtered_out: BTreeSet<String>,
}

/// The types of all fields, by event name and by the field's path, with dots between the keys of nested objects.
#[derive(Debug)]
pub(super) struct Schema {
    types: HashMap<String, HashMap<String, FieldType>>,
    fields: usize,
    limit: usize,
}

impl Schema {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            types: HashMap::new(),
            fields: 0,
            limit,
        }
    }

    /// Learns the fields of a whole request, or refuses it and learns nothing.
    pub(super) fn learn(&mut self, events: &[TrackRequest<'_>]) -> Result<FieldChanges, Refusal> {
        let mut learning = Learning::default();
        for event in events {
            for (name, value) in event.data_fields.into_iter().flatten() {
                self.learn_field(event, name, value, &mut learning);
            }
        }
        let refusal = if !learning.mismatches.is_empty() {
            Refusal::RequestFieldsTypesMismatched(learning.mismatches)
        } else if self.fields > self.limit {
            Refusal::UniqueFieldsLimitExceeded { limit: self.limit }
        } else {
            return Ok(learning.changes);
        };
        for (event_name, path) in learning.added {
            if let Some(fields) = self.types.get_mut(&event_name) {
                fields.remove(&path);
                self.fields -= 1;
            }
        }
        Err(refusal)
    }

    /// Whether a top-level field of an event is one that is dropped, since it is new and may not be created.
    pub(super) fn drops(&self, event: &TrackRequest<'_>, field: &str) -> bool {
        event.create_new_fields == Some(false) && self.type_of(event.event_name, field).is_none()
    }

    fn type_of(&self, event_name: &str, path: &str) -> Option<FieldType> {
        self.types.get(event_name)?.get(path).copied()
    }

    fn learn_field(
        &mut self,
        event: &TrackRequest<'_>,
        path: &str,
        value: &Value,
        learning: &mut Learning,
    ) {
        if let Value::Array(elements) = value {
            for element in elements {
                self.learn_field(event, path, element, learning);
            }
            return;
        }
        let fitting = FieldType::fitting(value);
        let Some(own) = fitting.first() else { return };
        match self.type_of(event.event_name, path) {
            Some(expected) if fitting.contains(&expected) => {}
            Some(expected) => learning.mismatch(path, expected, value),
            None if event.create_new_fields == Some(false) => {
                learning.changes.filtered_out.insert(path.to_owned());
                return;
            }
            None => {
                self.types
                    .entry(event.event_name.to_owned())
                    .or_default()
                    .insert(path.to_owned(), *own);
                self.fields += 1;
                learning.changes.created.insert(path.to_owned());
                learning
                    .added
                    .push((event.event_name.to_owned(), path.to_owned()));
            }
        }
        if let Value::Object(fields) = value
            && *own == FieldType::Object
        {
            for (name, value) in fields {
                self.learn_field(event, &format!("{path}.{name}"), value, learning);
            }
        }
    }
}

#[derive(Default)]
struct Learning {
    changes: FieldChanges,
    added: Vec<(String, String)>,
    mismatches: BTreeMap<String, Value>,
}

impl Learning {
    /// In the recorded form; the `category` of an event's field is unconfirmed (section 1.8).
    fn mismatch(&mut self, path: &str, expected: FieldType, value: &Value) {
        self.mismatches.entry(path.to_owned()).or_insert_with(|| {
            json!({
                "incomingTypes": FieldType::incoming_names(value),
                "expectedType": expected.name(),
                "category": "event",
                "offendingValue": value,
                "_type": "UnexpectedType",
            })
        });
    }
}
