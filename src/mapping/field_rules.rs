//! Rules for the values and names of fields.

use std::borrow::Cow;

use crate::api::{Coerce, DataFieldsSpec, Dates, Dots, RefusedNames};

use super::warnings::MappingWarning;

/// Maximum length of a field name, in characters. This is mParticle's limit.
pub const MAX_NAME_CHARS: usize = 256;
/// The rules for the values and names of fields.
#[derive(Clone, Copy, Debug)]
pub struct FieldRules {
    /// Whether strings become numbers and booleans.
    pub coerce: Coerce,
    /// Format of dates.
    pub dates: Dates,
    refused_names: RefusedNames,
    dots: Dots,
}

impl From<&DataFieldsSpec> for FieldRules {
    fn from(spec: &DataFieldsSpec) -> Self {
        Self {
            coerce: spec.coerce,
            dates: spec.dates,
            refused_names: spec.refused_names,
            dots: spec.dots,
        }
    }
}

impl FieldRules {
    /// Returns these rules with values left unchanged.
    pub const fn as_given(self) -> Self {
        Self {
            coerce: Coerce::Never,
            dates: Dates::Keep,
            ..self
        }
    }
}

/// Returns a name that Iterable's schema accepts, or the warning with which the field is dropped.
/// Iterable rejects names that contain only digits, start with `_`, or contain `,` or `#`, and
/// reads a dot as a path (support.iterable.com, "Best Practices for Field Names and Event Names").
pub fn checked_name(name: &str, rules: FieldRules) -> Result<Cow<'_, str>, MappingWarning> {
    let has_dots = rules.dots == Dots::Replace && name.contains('.');
    let is_rejected = name.contains([',', '#'])
        || name.starts_with('_')
        || name.bytes().all(|byte| byte.is_ascii_digit())
        || name.trim().is_empty()
        || name.chars().nth(MAX_NAME_CHARS).is_some();
    match (is_rejected, has_dots) {
        (false, false) => return Ok(Cow::Borrowed(name)),
        (true, _) if rules.refused_names == RefusedNames::Drop => {
            return Err(MappingWarning::FieldNameRejected);
        }
        _ => {}
    }
    let replaced: String = name
        .trim_start_matches('_')
        .chars()
        .map(|char| match char {
            ',' | '#' => '_',
            '.' if has_dots => '_',
            other => other,
        })
        .collect();
    let trimmed = replaced.trim_start_matches('_');
    if trimmed.trim().is_empty() {
        return Err(MappingWarning::FieldNameRejected);
    }
    let prefix = if trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        "field_"
    } else {
        ""
    };
    Ok(Cow::Owned(
        prefix
            .chars()
            .chain(trimmed.chars())
            .take(MAX_NAME_CHARS)
            .collect(),
    ))
}
