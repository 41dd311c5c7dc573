//! How fields may be written and named.

use std::borrow::Cow;

use crate::api::{Coerce, DataFieldsSpec, Dates, Dots, RefusedNames};

use super::warnings::MappingWarning;

/// The longest name of a field, which is mParticle's own limit, in characters.
pub const MAX_NAME_CHARS: usize = 256;
/// How fields are written.
#[derive(Clone, Copy, Debug)]
pub struct FieldRules {
    /// Whether text becomes numbers and booleans.
    pub coerce: Coerce,
    /// How dates are written.
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
    /// These rules, but with values left as they are given.
    pub const fn as_given(self) -> Self {
        Self {
            coerce: Coerce::Never,
            dates: Dates::Keep,
            ..self
        }
    }
}

/// A name that Iterable's schema takes, or why there is none. It refuses names that are only
/// digits, that start with `_`, or that hold `,` or `#`, and reads a dot as a path
/// (support.iterable.com, "Best Practices for Field Names and Event Names").
pub fn checked_name(name: &str, rules: FieldRules) -> Result<Cow<'_, str>, MappingWarning> {
    let dots = rules.dots == Dots::Replace && name.contains('.');
    let refused = name.contains([',', '#'])
        || name.starts_with('_')
        || name.bytes().all(|byte| byte.is_ascii_digit())
        || name.trim().is_empty()
        || name.chars().nth(MAX_NAME_CHARS).is_some();
    match (refused, dots) {
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
            '.' if dots => '_',
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
