//! What was changed or left out on the way, counted, so that nothing is lost in silence.

use std::collections::BTreeMap;

/// Something that was done to an event that went on nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MappingWarning {
    /// The event had no time of its own: the batch's or the queue's was taken.
    MissingTime,
    /// The event's time was absurd: the batch's or the queue's was taken.
    ImplausibleTime,
    /// The event happened more than 24 hours before the queue received it. mParticle says that
    /// Iterable takes none so old ("Iterable", docs.mparticle.com); Iterable itself does not say so.
    OlderThanADay,
    /// The event's name was cut to 256 characters.
    NameCut,
    /// A field's name was changed to one that Iterable takes.
    FieldRenamed,
    /// A field was dropped: Iterable refuses its name.
    FieldNameRejected,
    /// A field was dropped: another of the event has that name.
    FieldDuplicate,
    /// A field was dropped: its value is longer than Iterable keeps.
    FieldTooLong,
    /// A field was dropped: its value nests too deep.
    FieldTooDeep,
    /// A field was dropped: its value is not of the type that the field has.
    FieldWrongType,
    /// A field was dropped: its number is beyond 64 bits, or its text has escapes that spell no
    /// character.
    FieldUnreadable,
    /// A field was dropped: the event has more than a thousand.
    FieldsTooMany,
}

impl MappingWarning {
    /// Every one.
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

    /// The warning as a word.
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

/// How often each warning was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(BTreeMap<MappingWarning, u64>);

impl Warnings {
    /// Takes a warning.
    pub fn add(&mut self, warning: MappingWarning) {
        *self.0.entry(warning).or_default() += 1;
    }

    /// Each warning that was taken, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (MappingWarning, u64)> + '_ {
        self.0.iter().map(|(warning, count)| (*warning, *count))
    }

    /// How often a warning was taken.
    pub fn count(&self, warning: MappingWarning) -> u64 {
        self.0.get(&warning).copied().unwrap_or_default()
    }
}
