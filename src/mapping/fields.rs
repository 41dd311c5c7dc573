//! The `dataFields` of an event.
//!
//! Iterable fixes a field's type by its first value and rejects the complete request if a later
//! value differs. It keeps about 32,000 characters of a value, and its schema rejects some names
//! (support.iterable.com, "Field Data Types" and "Best Practices for Field Names and Event Names").
//! Therefore a field that it would reject is dropped or renamed here, with a warning.

use std::{borrow::Cow, collections::HashSet};

use crate::api::{Coerce, Dates};

use super::{
    coerce,
    context::ContextFields,
    field_rules::{FieldRules, checked_name},
    field_table::{Field, FieldType},
    mparticle::Members,
    raw::{JsonType, RawJson, push_text},
    warnings::{MappingWarning, Warnings},
};

/// Maximum length of a value, in bytes of UTF-8.
pub const MAX_VALUE_BYTES: usize = 32_000;
/// Maximum number of fields of an event. mParticle allows senders 100 attributes.
pub const MAX_FIELDS: usize = 1_000;
/// Maximum nesting depth of a value.
pub const MAX_DEPTH: usize = 16;

/// A writer of a `dataFields` object. It keeps the first field of each name.
pub struct FieldWriter<'w> {
    json: &'w mut String,
    rules: FieldRules,
    warnings: &'w mut Warnings,
    /// Byte ranges of the written names in `json`, including quotes.
    names: Vec<(usize, usize)>,
}

type WriteResult = Result<(), Option<MappingWarning>>;

/// An empty string, which mParticle sends for unknown values. It is not a value in known fields and
/// context fields.
pub const EMPTY_TEXT: &str = "\"\"";

/// An unset value, which is omitted without a warning.
const ABSENT: WriteResult = Err(None);

const fn dropped(warning: MappingWarning) -> WriteResult {
    Err(Some(warning))
}

impl<'w> FieldWriter<'w> {
    /// Starts the object.
    pub fn new(json: &'w mut String, rules: FieldRules, warnings: &'w mut Warnings) -> Self {
        json.push('{');
        Self {
            json,
            rules,
            warnings,
            names: Vec::with_capacity(24),
        }
    }

    /// Ends the object.
    pub fn end(self) {
        self.json.push('}');
    }

    /// Writes the attributes set by the sender, with their types.
    pub fn attributes(&mut self, attributes: RawJson<'_>) {
        self.expect_object(attributes);
        attributes.each_member(|name, value| {
            self.attribute(&name, value);
        });
    }

    /// Writes one attribute.
    pub fn attribute(&mut self, name: &str, value: RawJson<'_>) {
        if value.json_type() == JsonType::Null {
            return;
        }
        let Some(name) = self.checked_name(name) else {
            return;
        };
        self.member(&name, |writer| writer.bounded_value(value));
    }

    /// Writes the members in a table, with the types of the table.
    pub fn known<'a>(&mut self, fields: &[Field], find: &dyn Fn(&str) -> Option<RawJson<'a>>) {
        for field in fields {
            let Some(value) = find(field.source) else {
                continue;
            };
            match field.field_type {
                FieldType::NameOnly | FieldType::Ignored => {}
                FieldType::Inline(fields) => {
                    self.expect_object(value);
                    let members = members_of(value);
                    self.known(fields, &|name| find_member(&members, name));
                }
                field_type => {
                    self.member(field.target, |writer| writer.typed_value(field_type, value))
                }
            }
        }
    }

    /// Writes the members that are not in a table, as attributes.
    pub fn unknown(&mut self, fields: &[Field], members: &Members<'_>) {
        for (name, value) in members {
            if !fields.iter().any(|field| field.source == name) {
                self.attribute(name, *value);
            }
        }
    }

    /// Writes an integer.
    pub fn integer(&mut self, name: &str, value: i64) {
        self.member(name, |writer| {
            writer.json.push_str(&value.to_string());
            Ok(())
        });
    }

    /// Adds a warning if a value that should have members is not an object.
    pub fn expect_object(&mut self, value: RawJson<'_>) {
        let is_wrong = match value.json_type() {
            JsonType::Object | JsonType::Null => false,
            JsonType::String => value.json() != EMPTY_TEXT,
            _ => true,
        };
        if is_wrong {
            self.warnings.add(MappingWarning::FieldWrongType);
        }
    }

    /// Writes the fields that the events of the batch share.
    pub fn context(&mut self, context: &ContextFields) {
        for warning in context.warnings() {
            self.warnings.add(*warning);
        }
        for (name, member) in context.members_json() {
            if self.names.len() == MAX_FIELDS {
                self.warnings.add(MappingWarning::FieldsTooMany);
                continue;
            }
            let is_duplicate = self
                .names
                .iter()
                .any(|(from, to)| &self.json[*from..*to] == name);
            if is_duplicate {
                self.warnings.add(MappingWarning::FieldDuplicate);
                continue;
            }
            if !self.names.is_empty() {
                self.json.push(',');
            }
            let start = self.json.len();
            self.json.push_str(member);
            self.names.push((start, start + name.len()));
        }
    }

    /// Writes a name and a value. Writes nothing if the name exists or the value is unset or
    /// dropped.
    fn member(&mut self, name: &str, value: impl FnOnce(&mut Self) -> WriteResult) {
        if self.names.len() == MAX_FIELDS {
            return self.warnings.add(MappingWarning::FieldsTooMany);
        }
        let start = self.json.len();
        if !self.names.is_empty() {
            self.json.push(',');
        }
        let name_start = self.json.len();
        push_text(self.json, name);
        let name_end = self.json.len();
        let (before, this) = self.json.split_at(name_start);
        let written = if self
            .names
            .iter()
            .any(|(from, to)| &before[*from..*to] == this)
        {
            dropped(MappingWarning::FieldDuplicate)
        } else {
            self.json.push(':');
            value(self)
        };
        match written {
            Ok(()) => self.names.push((name_start, name_end)),
            Err(warning) => {
                self.json.truncate(start);
                if let Some(warning) = warning {
                    self.warnings.add(warning);
                }
            }
        }
    }

    fn checked_name<'n>(&mut self, name: &'n str) -> Option<Cow<'n, str>> {
        match checked_name(name, self.rules) {
            Ok(Cow::Borrowed(name)) => Some(Cow::Borrowed(name)),
            Ok(renamed) => {
                self.warnings.add(MappingWarning::FieldRenamed);
                Some(renamed)
            }
            Err(warning) => {
                self.warnings.add(warning);
                None
            }
        }
    }

    fn typed_value(&mut self, field_type: FieldType, value: RawJson<'_>) -> WriteResult {
        let is_list = value.json_type() == JsonType::Array;
        match field_type {
            FieldType::Objects(fields) => self.list(value, is_list, |writer, element| {
                writer.object(fields, element)
            }),
            FieldType::TextList => self.list(value, is_list, Self::text),
            FieldType::Attributes => match value.json_type() {
                JsonType::Object => self.bounded_value(value),
                _ if value.json() == EMPTY_TEXT => ABSENT,
                _ => dropped(MappingWarning::FieldWrongType),
            },
            FieldType::Text => self.text(value),
            FieldType::Integer => self.number(value, coerce::integer),
            FieldType::Decimal => self.number(value, coerce::decimal),
            FieldType::Boolean => match (value.boolean(), value.scalar()) {
                (Some(boolean), _) => {
                    self.json.push_str(if boolean { "true" } else { "false" });
                    Ok(())
                }
                (None, None) if value.json_type() == JsonType::String => ABSENT,
                _ => dropped(MappingWarning::FieldWrongType),
            },
            // `known` handles these. They are not nested in other types.
            FieldType::Inline(_) | FieldType::NameOnly | FieldType::Ignored => ABSENT,
        }
    }

    fn text(&mut self, value: RawJson<'_>) -> WriteResult {
        let Some(text) = value.scalar() else {
            return match value.json_type() {
                JsonType::String if value.plain_text().is_some() => ABSENT,
                JsonType::String => dropped(MappingWarning::FieldUnreadable),
                _ => dropped(MappingWarning::FieldWrongType),
            };
        };
        if text.len() > MAX_VALUE_BYTES {
            return dropped(MappingWarning::FieldTooLong);
        }
        match value.plain_text() {
            Some(_) => self.json.push_str(value.json()),
            None => push_text(self.json, &text),
        }
        Ok(())
    }

    fn number(
        &mut self,
        value: RawJson<'_>,
        read: impl FnOnce(&str) -> Option<Cow<'_, str>>,
    ) -> WriteResult {
        let Some(text) = value.scalar() else {
            return match value.json_type() {
                JsonType::String => ABSENT,
                _ => dropped(MappingWarning::FieldWrongType),
            };
        };
        match read(text.trim()) {
            Some(number) => {
                self.json.push_str(&number);
                Ok(())
            }
            None if text.trim().is_empty() => ABSENT,
            None => dropped(MappingWarning::FieldWrongType),
        }
    }

    /// Writes an array whose elements are written by `element`, without unset elements. A value
    /// that is not an array becomes an array of one.
    fn list(
        &mut self,
        value: RawJson<'_>,
        is_list: bool,
        mut element: impl FnMut(&mut Self, RawJson<'_>) -> WriteResult,
    ) -> WriteResult {
        let start = self.json.len();
        self.json.push('[');
        let mut each = |raw: RawJson<'_>| {
            let before = self.json.len();
            if before > start + 1 {
                self.json.push(',');
            }
            if let Err(warning) = element(self, raw) {
                self.json.truncate(before);
                if let Some(warning) = warning {
                    self.warnings.add(warning);
                }
            }
        };
        if is_list {
            value.each_element(&mut each);
        } else {
            each(value);
        }
        if self.json.len() == start + 1 {
            return ABSENT;
        }
        self.json.push(']');
        Ok(())
    }

    fn object(&mut self, fields: &[Field], value: RawJson<'_>) -> WriteResult {
        if value.json_type() != JsonType::Object {
            return if value.json_type() == JsonType::Null {
                ABSENT
            } else {
                dropped(MappingWarning::FieldWrongType)
            };
        }
        let members = members_of(value);
        let start = self.json.len();
        self.json.push('{');
        for field in fields {
            let Some(value) = find_member(&members, field.source) else {
                continue;
            };
            let before = self.json.len();
            if before > start + 1 {
                self.json.push(',');
            }
            push_text(self.json, field.target);
            self.json.push(':');
            if let Err(warning) = self.typed_value(field.field_type, value) {
                self.json.truncate(before);
                if let Some(warning) = warning {
                    self.warnings.add(warning);
                }
            }
        }
        self.json.push('}');
        Ok(())
    }

    /// Writes a value set by the sender, if its complete length is within [`MAX_VALUE_BYTES`].
    fn bounded_value(&mut self, value: RawJson<'_>) -> WriteResult {
        let start = self.json.len();
        self.free_value(value, MAX_DEPTH)?;
        let is_nested = matches!(value.json_type(), JsonType::Array | JsonType::Object);
        if is_nested && self.json.len() - start > MAX_VALUE_BYTES {
            return dropped(MappingWarning::FieldTooLong);
        }
        Ok(())
    }

    /// Writes a value set by the sender. Its type stays, except for strings that the rules convert.
    fn free_value(&mut self, value: RawJson<'_>, depth: usize) -> WriteResult {
        match value.json_type() {
            JsonType::Null => ABSENT,
            JsonType::Boolean => {
                self.json.push_str(value.json());
                Ok(())
            }
            JsonType::Number if coerce::is_sendable(value.json()) => {
                self.json.push_str(value.json());
                Ok(())
            }
            JsonType::Number => dropped(MappingWarning::FieldUnreadable),
            JsonType::String => self.free_text(value),
            JsonType::Array | JsonType::Object if depth == 0 => {
                dropped(MappingWarning::FieldTooDeep)
            }
            JsonType::Array => self.free_list(value, depth - 1),
            JsonType::Object => self.free_object(value, depth - 1),
        }
    }

    fn free_text(&mut self, value: RawJson<'_>) -> WriteResult {
        let Some(text) = value.text() else {
            return dropped(MappingWarning::FieldUnreadable);
        };
        if text.len() > MAX_VALUE_BYTES {
            return dropped(MappingWarning::FieldTooLong);
        }
        if self.rules.dates == Dates::Iterable
            && let Some(date) = coerce::date(&text)
        {
            push_text(self.json, &date);
            return Ok(());
        }
        if self.rules.coerce == Coerce::LikeMParticle
            && let Some(scalar) = coerce::like_mparticle(&text)
        {
            self.json.push_str(&scalar);
            return Ok(());
        }
        match value.plain_text() {
            Some(_) => self.json.push_str(value.json()),
            None => push_text(self.json, &text),
        }
        Ok(())
    }

    fn free_list(&mut self, value: RawJson<'_>, depth: usize) -> WriteResult {
        let start = self.json.len();
        self.json.push('[');
        let mut result = Ok(());
        value.each_element(|element| {
            if result.is_err() {
                return;
            }
            let before = self.json.len();
            if before > start + 1 {
                self.json.push(',');
            }
            if let Err(warning) = self.free_value(element, depth) {
                self.json.truncate(before);
                if warning.is_some() {
                    result = Err(warning);
                }
            }
        });
        self.json.push(']');
        result
    }

    fn free_object(&mut self, value: RawJson<'_>, depth: usize) -> WriteResult {
        let start = self.json.len();
        self.json.push('{');
        let mut names = HashSet::new();
        let mut result = Ok(());
        value.each_member(|name, member| {
            if result.is_err() || member.json_type() == JsonType::Null {
                return;
            }
            let Some(name) = self.checked_name(&name).map(Cow::into_owned) else {
                return;
            };
            if names.contains(&name) {
                return self.warnings.add(MappingWarning::FieldDuplicate);
            }
            let before = self.json.len();
            if before > start + 1 {
                self.json.push(',');
            }
            push_text(self.json, &name);
            self.json.push(':');
            if let Err(warning) = self.free_value(member, depth) {
                self.json.truncate(before);
                result = Err(warning);
            }
            names.insert(name);
        });
        self.json.push('}');
        result
    }
}

fn members_of(value: RawJson<'_>) -> Members<'_> {
    let mut members = Vec::with_capacity(16);
    value.each_member(|name, value| members.push((name, value)));
    members
}

fn find_member<'a>(members: &[(Cow<'a, str>, RawJson<'a>)], name: &str) -> Option<RawJson<'a>> {
    members
        .iter()
        .rev()
        .find(|(key, _)| key == name)
        .and_then(|(_, value)| value.present())
}
