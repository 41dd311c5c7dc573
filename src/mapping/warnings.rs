//! Counts of values that were changed or dropped, so that nothing is lost silently.

use std::collections::BTreeMap;

/// A problem that does not prevent forwarding of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MappingWarning {
    /// The event had no valid time: the time of the batch or the queue is used.
    MissingTime,
    /// The event's time was implausible: the time of the batch or the queue is used.
    ImplausibleTime,
    /// The event happened more than 24 hours before the queue received it. According to mParticle,
    /// Iterable rejects such events ("Iterable", docs.mparticle.com); Iterable does not document
    /// this.
    OlderThanADay,
    /// The event name was truncated to 256 characters.
    NameCut,
    /// A field was renamed because Iterable rejects its name.
    FieldRenamed,
    /// A field was dropped because Iterable rejects its name.
    FieldNameRejected,
    /// A field was dropped because another field of the event has the same name.
    FieldDuplicate,
    /// A field was dropped because its value is longer than Iterable keeps.
    FieldTooLong,
    /// A field was dropped because its value is nested too deeply.
    FieldTooDeep,
    /// A field was dropped because its value has the wrong type.
    FieldWrongType,
    /// A field was dropped because its number exceeds 64 bits, or its string has invalid escapes.
    FieldUnreadable,
    /// A field was dropped because the event already has 1,000 fields.
    FieldsTooMany,
}

impl MappingWarning {
    /// All warnings.
    pub const ALL: [Self; 12] = [
        Self::MissingTime,
        Self::ImplausibleTime,
        Self::OlderThanADay,
        Self::NameCut,
        Self::FieldRenamed,
        Self::FieldNameRejected,
        Self::FieldDuplicate,
        Self::FieldTooLong,
        Self::FieldTooDeep,
        Self::FieldWrongType,
        Self::FieldUnreadable,
        Self::FieldsTooMany,
    ];

    /// Returns the warning's identifier.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingTime => "MissingTime",
            Self::ImplausibleTime => "ImplausibleTime",
            Self::OlderThanADay => "OlderThanADay",
            Self::NameCut => "NameCut",
            Self::FieldRenamed => "FieldRenamed",
            Self::FieldNameRejected => "FieldNameRejected",
            Self::FieldDuplicate => "FieldDuplicate",
            Self::FieldTooLong => "FieldTooLong",
            Self::FieldTooDeep => "FieldTooDeep",
            Self::FieldWrongType => "FieldWrongType",
            Self::FieldUnreadable => "FieldUnreadable",
            Self::FieldsTooMany => "FieldsTooMany",
        }
    }
}

/// The number of occurrences of each warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(BTreeMap<MappingWarning, u64>);

impl Warnings {
    /// Counts a warning.
    pub fn add(&mut self, warning: MappingWarning) {
        *self.0.entry(warning).or_default() += 1;
    }

    /// Returns each counted warning with its count.
    pub fn iter(&self) -> impl Iterator<Item = (MappingWarning, u64)> + '_ {
        self.0.iter().map(|(warning, count)| (*warning, *count))
    }

    /// Returns the count of a warning.
    pub fn count(&self, warning: MappingWarning) -> u64 {
        self.0.get(&warning).copied().unwrap_or_default()
    }
}
