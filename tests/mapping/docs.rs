//! The tables of `docs/mapping.md` match the program.
//!
//! `UPDATE_DOCS=1 cargo test --test mapping docs` regenerates them.

use std::{env, fs, sync::LazyLock};

use event_forwarder::{
    api::{ContextGroup, EventSelector, MappingSpec},
    mapping::{
        EventKind, Field, FieldType, INTERNAL_MEMBERS, MappingWarning, RejectReason, SkipReason,
        context_fields,
    },
};

const PATH: &str = "docs/mapping.md";

/// Returns the page, updated first if that is requested.
fn page() -> &'static str {
    static CONTENT: LazyLock<String> = LazyLock::new(|| {
        let written = fs::read_to_string(PATH).unwrap();
        if env::var_os("UPDATE_DOCS").is_none() {
            return written;
        }
        let updated = with_tables(&written);
        fs::write(PATH, &updated).unwrap();
        updated
    });
    &CONTENT
}

#[test]
fn documentation_tables_match_the_program() {
    assert!(
        page() == with_tables(page()),
        "docs/mapping.md is stale; run UPDATE_DOCS=1 cargo test --test mapping docs"
    );
}

/// Returns the text with the tables that the program gives.
fn with_tables(text: &str) -> String {
    let tables = [
        ("events", events()),
        ("context", context()),
        ("skipped", skipped()),
        ("rejected", rejected()),
        ("warnings", warnings()),
    ];
    let with_table = |text: String, (name, table): (&str, String)| with_table(&text, name, &table);
    tables.into_iter().fold(text.to_owned(), with_table)
}

fn with_table(text: &str, name: &str, table: &str) -> String {
    let start = format!("<!-- table:{name} -->\n");
    let (before, rest) = text
        .split_once(&start)
        .unwrap_or_else(|| panic!("no table {name}"));
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    format!("{before}{start}{table}<!-- end -->{after}")
}

fn events() -> String {
    let spec = MappingSpec::default();
    let mut table = String::from(
        "| `event_type` | selected by | by default | name | fields |\n| --- | --- | --- | --- | --- |\n",
    );
    for kind in EventKind::ALL {
        let event_type = match kind {
            EventKind::Unknown => "any other".to_owned(),
            EventKind::Media => "`custom_event` of the type media".to_owned(),
            EventKind::Purchase => "`commerce_event`, action purchase".to_owned(),
            _ => format!("`{}`", kind.event_type().unwrap()),
        };
        let (_, name) = kind.template(&spec.event_name);
        let default = if spec.events.contains(&kind.selector()) {
            "forwarded"
        } else {
            "–"
        };
        let fields = match kind {
            EventKind::Unknown => "all members".to_owned(),
            EventKind::Media => "as CustomEvent".to_owned(),
            EventKind::Purchase => "as Commerce".to_owned(),
            _ => fields(kind.fields(), ""),
        };
        table.push_str(&format!(
            "| {event_type} | {:?} | {default} | {name} | {fields} |\n",
            kind.selector()
        ));
    }
    table
}

fn fields(fields: &[Field], within: &str) -> String {
    let ignored: Vec<_> = fields
        .iter()
        .filter(|field| matches!(field.field_type, FieldType::Ignored))
        .map(|field| format!("`{}`", field.source))
        .collect();
    let fields = fields.iter().filter_map(|field| {
        let source = format!("{within}{}", field.source);
        let name = if source == field.target {
            format!("`{source}`")
        } else {
            format!("`{source}` → `{}`", field.target)
        };
        let field_type = match field.field_type {
            FieldType::NameOnly | FieldType::Ignored => return None,
            FieldType::Inline(inner) => return Some(self::fields(inner, &format!("{source}."))),
            FieldType::Text => "string".to_owned(),
            FieldType::Integer => "long".to_owned(),
            FieldType::Decimal => "double".to_owned(),
            FieldType::Boolean => "boolean".to_owned(),
            FieldType::TextList => "array of strings".to_owned(),
            FieldType::Attributes => "object".to_owned(),
            FieldType::Objects(inner) => format!("array of ({})", self::fields(inner, "")),
        };
        Some(format!("{name} {field_type}"))
    });
    let fields = fields.collect::<Vec<_>>().join(", ");
    if ignored.is_empty() {
        fields
    } else {
        format!("{fields}; ignored: {}", ignored.join(", "))
    }
}

fn context() -> String {
    let groups = [
        ContextGroup::Session,
        ContextGroup::Application,
        ContextGroup::Device,
        ContextGroup::Location,
        ContextGroup::Locale,
        ContextGroup::Source,
    ];
    let default = MappingSpec::default().data_fields.context;
    let mut table = String::from("| group | by default | fields |\n| --- | --- | --- |\n");
    for group in groups {
        let names: Vec<_> = context_fields(group)
            .into_iter()
            .map(|name| format!("`{name}`"))
            .collect();
        let default = if default.contains(&group) {
            "added"
        } else {
            "–"
        };
        table.push_str(&format!(
            "| {group:?} | {default} | {} |\n",
            names.join(", ")
        ));
    }
    table
}

fn reasons<'r>(reasons: impl Iterator<Item = (&'r str, &'r str)>) -> String {
    let rows: String = reasons
        .map(|(reason, meaning)| format!("| {reason} | {meaning} |\n"))
        .collect();
    format!("| reason | meaning |\n| --- | --- |\n{rows}")
}

fn skipped() -> String {
    reasons(SkipReason::ALL.iter().map(|reason| {
        let meaning = match reason {
            SkipReason::NotSelected => "not selected by `mapping.events`",
            SkipReason::ScreenLeft => "a stopped Android activity",
            SkipReason::Development => "from mParticle's development environment",
            SkipReason::Replay => "a replay, with `mapping.replays: Skip`",
            SkipReason::AliasRequest => "a request to merge two profiles",
            SkipReason::NoUser => "no user identifier of the kind that the project uses",
            SkipReason::DroppedByTransform => "dropped by the custom rules",
        };
        (reason.as_str(), meaning)
    }))
}

fn rejected() -> String {
    reasons(RejectReason::ALL.iter().map(|reason| {
        let meaning = match reason {
            RejectReason::NotABatch => "an element of an array of batches is not a batch",
            RejectReason::EventsNotAList => "`events` of a batch is not an array",
            RejectReason::EventNotAnObject => "an element of `events` is not an object",
            RejectReason::NoEventType => "`event_type` is missing, null or empty",
            RejectReason::NoIdOrTime => {
                "no ID and no time, so it can't be distinguished from other events"
            }
            RejectReason::DataNotAnObject => "`data` is not an object",
            RejectReason::NoEventName => "the event has no value for its name template",
            RejectReason::InvalidEmail => "Iterable would reject the email address",
            RejectReason::InvalidUserId => "Iterable would reject the userId",
            RejectReason::TooLarge => "larger than a request can be",
            RejectReason::TransformFailed => "the custom rules raised an error",
            RejectReason::TransformTooCostly => "the custom rules exceeded a limit",
            RejectReason::TransformOutput => "the output of the custom rules is not a valid event",
            RejectReason::AliasRequest => {
                "a request to merge two profiles, with `mapping.aliasRequests: Reject`"
            }
        };
        (reason.as_str(), meaning)
    }))
}

fn warnings() -> String {
    reasons(MappingWarning::ALL.iter().map(|warning| {
        let meaning = match warning {
            MappingWarning::MissingTime => "no valid time: the time of the batch or the queue is used",
            MappingWarning::ImplausibleTime => "an implausible time: the time of the batch or the queue is used",
            MappingWarning::OlderThanADay => {
                "it happened more than 24 hours before the queue received it: according to mParticle, Iterable rejects such events, but Iterable does not document this"
            }
            MappingWarning::NameCut => "the event name was truncated to 256 characters",
            MappingWarning::FieldRenamed => "a field was renamed because Iterable rejects its name",
            MappingWarning::FieldNameRejected => "a field was dropped because of its name",
            MappingWarning::FieldDuplicate => "a field was dropped because another field has the same name",
            MappingWarning::FieldTooLong => "a field was dropped because of its length",
            MappingWarning::FieldTooDeep => "a field was dropped because of its nesting",
            MappingWarning::FieldWrongType => "a field was dropped because of its type",
            MappingWarning::FieldUnreadable => "a field was dropped because its value can't be sent",
            MappingWarning::FieldsTooMany => "a field was dropped because the event already has 1,000 fields",
        };
        (warning.as_str(), meaning)
    }))
}

#[test]
fn internal_members_are_documented() {
    let text = page();
    let names = INTERNAL_MEMBERS.map(|name| format!("`{name}`"));
    assert!(text.contains(&names.join(", ")), "{}", names.join(", "));
}

#[test]
fn every_selector_is_documented_and_selects_a_kind() {
    let text = page();
    for kind in EventKind::ALL {
        let selector = kind.selector();
        assert_ne!(selector, EventSelector::All);
        assert!(text.contains(&format!("| {selector:?} |")), "{selector:?}");
    }
}
