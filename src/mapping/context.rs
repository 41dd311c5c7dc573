//! Context fields, which the events of a batch share, encoded once per batch.

use crate::api::ContextGroup;

use super::{
    field_table::{Field, FieldType},
    fields::{EMPTY_TEXT, MAX_VALUE_BYTES},
    identity,
    mparticle::Batch,
    raw::{JsonType, RawJson, push_text},
    warnings::MappingWarning,
};

const fn field(name: &'static str, field_type: FieldType) -> Field {
    Field {
        source: name,
        target: name,
        field_type,
    }
}

/// Session fields, which differ per event.
pub const SESSION: &[Field] = &[field("session_uuid", FieldType::Text)];

/// Location fields, which differ per event.
pub const LOCATION: &[Field] = &[
    field("latitude", FieldType::Decimal),
    field("longitude", FieldType::Decimal),
    field("country_code", FieldType::Text),
    field("region_code", FieldType::Text),
    field("city_name", FieldType::Text),
    field("postal_code", FieldType::Text),
];

const APPLICATION: &[&str] = &["application_name", "application_version"];
const DEVICE: &[&str] = &["platform", "os_version", "device_model"];
const LOCALE: &[&str] = &["locale_language", "locale_country", "timezone_offset"];
const SOURCE: &[&str] = &["channel", "partner"];

/// Returns the field names of a group.
pub fn context_fields(group: ContextGroup) -> Vec<&'static str> {
    let names = |fields: &[Field]| fields.iter().map(|field| field.target).collect();
    match group {
        ContextGroup::Session => names(SESSION),
        ContextGroup::Location => names(LOCATION),
        ContextGroup::Application => APPLICATION.to_vec(),
        ContextGroup::Device => DEVICE.to_vec(),
        ContextGroup::Locale => LOCALE.to_vec(),
        ContextGroup::Source => [SOURCE, &["mpid", "environment"]].concat(),
    }
}

/// The fields that are added to every event of a batch, as members of a JSON object.
#[derive(Debug, Default)]
pub struct ContextFields {
    json: String,
    fields: Vec<ContextField>,
    warnings: Vec<MappingWarning>,
}

/// The byte offsets of a field in [`ContextFields`]: its start, the end of its name, and its end.
#[derive(Clone, Copy, Debug)]
pub struct ContextField {
    start: usize,
    name_end: usize,
    end: usize,
}

impl ContextFields {
    /// Encodes the requested groups of a batch.
    pub fn new(batch: &Batch<'_>, groups: &[ContextGroup]) -> Self {
        let mut context = Self::default();
        for group in groups {
            match group {
                // Written per event.
                ContextGroup::Session | ContextGroup::Location => {}
                ContextGroup::Application => context.members(batch.application_info, APPLICATION),
                ContextGroup::Device => context.members(batch.device_info, DEVICE),
                ContextGroup::Locale => context.members(batch.device_info, LOCALE),
                ContextGroup::Source => {
                    context.members(batch.source_info, SOURCE);
                    if let Some(mpid) = batch.mpid.filter(|mpid| !identity::is_no_mpid(*mpid)) {
                        context.value("mpid", mpid);
                    }
                    if let Some(environment) = batch.environment {
                        context.value("environment", environment);
                    }
                }
            }
        }
        context
    }

    /// Returns the members, separated by commas.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns each member: its name in quotes, and its complete text.
    pub fn members_json(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| {
            (
                &self.json[field.start..field.name_end],
                &self.json[field.start..field.end],
            )
        })
    }

    /// Returns the warnings about values that were dropped from every event.
    pub fn warnings(&self) -> &[MappingWarning] {
        &self.warnings
    }

    fn members(&mut self, from: Option<RawJson<'_>>, names: &[&str]) {
        let Some(from) = from else { return };
        if from.json_type() != JsonType::Object && from.json() != EMPTY_TEXT {
            self.warnings.push(MappingWarning::FieldWrongType);
        }
        from.each_member(|name, value| {
            if names.contains(&&*name) {
                self.value(&name, value);
            }
        });
    }

    fn value(&mut self, name: &str, value: RawJson<'_>) {
        match (value.scalar(), value.json_type()) {
            (Some(text), _) if text.len() > MAX_VALUE_BYTES => {
                self.warnings.push(MappingWarning::FieldTooLong)
            }
            (Some(text), _) => self.add(name, &text),
            (None, JsonType::Null) => {}
            (None, JsonType::String) if value.json() == EMPTY_TEXT => {}
            (None, JsonType::String) => self.warnings.push(MappingWarning::FieldUnreadable),
            (None, _) => self.warnings.push(MappingWarning::FieldWrongType),
        }
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.json.is_empty() {
            self.json.push(',');
        }
        let start = self.json.len();
        push_text(&mut self.json, name);
        let name_end = self.json.len();
        self.json.push(':');
        push_text(&mut self.json, value);
        self.fields.push(ContextField {
            start,
            name_end,
            end: self.json.len(),
        });
    }
}
