//! The types of `dataFields`: for all events of one name, a field keeps the type of its first value
//! (section 1.8).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value, json};

use super::{rejection::Rejection, request::TrackRequest};

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

    /// Returns the types that a value is compatible with, the detected type first.
    ///
    /// Returns no types for `null` and arrays.
    fn compatible(value: &Value) -> &'static [Self] {
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

    /// Returns the possible types of a value for an error message.
    ///
    /// As recorded, a string that is not a date has the types `string` and `keyword` (section 1.8).
    fn incoming_names(value: &Value) -> Vec<&'static str> {
        let mut names: Vec<_> = Self::compatible(value)
            .iter()
            .map(|field_type| field_type.name())
            .collect();
        if value.is_string() {
            names.push("keyword");
        }
        names
    }
}

/// Returns whether `text` has Iterable's date format, `yyyy-MM-dd HH:mm:ss +00:00` (section 1.8).
fn is_date(text: &str) -> bool {
    let pattern = b"dddd-dd-dd dd:dd:dd sdd:dd";
    text.len() == pattern.len()
        && text
            .bytes()
            .zip(pattern)
            .all(|(byte, pattern)| match pattern {
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

/// The fields that a request created or that were filtered out (section 1.4).
#[derive(Debug, Default)]
pub(super) struct FieldChanges {
    pub(super) created: BTreeSet<String>,
    pub(super) filtered_out: BTreeSet<String>,
}

/// The types of all fields, by event name and path. A path has dots between the keys of nested
/// objects.
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

    /// Adds the fields of a complete request.
    ///
    /// # Errors
    /// Fails, and adds no fields, if a type does not match or the limit of fields is exceeded.
    pub(super) fn add_fields(
        &mut self,
        events: &[TrackRequest<'_>],
    ) -> Result<FieldChanges, Rejection> {
        let mut pending = PendingChanges::default();
        for event in events {
            for (name, value) in event.data_fields.into_iter().flatten() {
                self.add_field(event, name, value, &mut pending);
            }
        }
        let rejection = if !pending.mismatches.is_empty() {
            Rejection::RequestFieldsTypesMismatched(pending.mismatches)
        } else if self.fields > self.limit {
            Rejection::UniqueFieldsLimitExceeded { limit: self.limit }
        } else {
            return Ok(pending.changes);
        };
        for (event_name, path) in pending.added {
            if let Some(fields) = self.types.get_mut(&event_name) {
                fields.remove(&path);
                self.fields -= 1;
            }
        }
        Err(rejection)
    }

    /// Returns whether a top-level field of an event is dropped, because it is new and the event
    /// does not allow new fields.
    pub(super) fn drops(&self, event: &TrackRequest<'_>, field: &str) -> bool {
        event.create_new_fields == Some(false) && self.type_of(event.event_name, field).is_none()
    }

    fn type_of(&self, event_name: &str, path: &str) -> Option<FieldType> {
        self.types.get(event_name)?.get(path).copied()
    }

    fn add_field(
        &mut self,
        event: &TrackRequest<'_>,
        path: &str,
        value: &Value,
        pending: &mut PendingChanges,
    ) {
        if let Value::Array(elements) = value {
            for element in elements {
                self.add_field(event, path, element, pending);
            }
            return;
        }
        let compatible = FieldType::compatible(value);
        let Some(field_type) = compatible.first() else {
            return;
        };
        match self.type_of(event.event_name, path) {
            Some(expected) if compatible.contains(&expected) => {}
            Some(expected) => pending.mismatch(path, expected, value),
            None if event.create_new_fields == Some(false) => {
                pending.changes.filtered_out.insert(path.to_owned());
                return;
            }
            None => {
                self.types
                    .entry(event.event_name.to_owned())
                    .or_default()
                    .insert(path.to_owned(), *field_type);
                self.fields += 1;
                pending.changes.created.insert(path.to_owned());
                pending
                    .added
                    .push((event.event_name.to_owned(), path.to_owned()));
            }
        }
        if let Value::Object(fields) = value
            && *field_type == FieldType::Object
        {
            for (name, value) in fields {
                self.add_field(event, &format!("{path}.{name}"), value, pending);
            }
        }
    }
}

#[derive(Default)]
struct PendingChanges {
    changes: FieldChanges,
    added: Vec<(String, String)>,
    mismatches: BTreeMap<String, Value>,
}

impl PendingChanges {
    /// Adds a type error in the recorded form. The `category` of an event's field is unconfirmed
    /// (section 1.8).
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
