//! `docs/mapping.md` says what the program does. `UPDATE_DOCS=1 cargo test --test mapping docs`
//! writes the tables anew.

use event_forwarder::{
    api::{ContextGroup, EventSelector, MappingSpec},
    mapping::{
        EventKind, Field, FieldType, INTERNAL_MEMBERS, MappingWarning, RejectReason, SkipReason,
        context_fields,
    },
};

const PATH: &str = "docs/mapping.md";

#[test]
fn the_tables_in_the_documentation_are_those_of_the_program() {
    let written = std::fs::read_to_string(PATH).unwrap();
    let mut expected = written.clone();
    for (name, table) in [
        ("events", events()),
        ("context", context()),
        ("skipped", skipped()),
        ("rejected", rejected()),
        ("warnings", warnings()),
    ] {
        expected = with_table(&expected, name, &table);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, expected).unwrap();
    } else {
        assert!(
            written == expected,
            "docs/mapping.md is stale; run UPDATE_DOCS=1 cargo test --test mapping docs"
        );
    }
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
            EventKind::Unknown => "all its members".to_owned(),
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
    let left_out: Vec<_> = fields
        .iter()
        .filter(|field| matches!(field.field_type, FieldType::Ignored))
        .map(|field| format!("`{}`", field.source))
        .collect();
    let fields = fields.iter().filter_map(|field| {
        let from = format!("{within}{}", field.source);
        let name = if from == field.target {
            format!("`{from}`")
        } else {
            format!("`{from}` → `{}`", field.target)
        };
        let holds = match field.field_type {
            FieldType::NameOnly | FieldType::Ignored => return None,
            FieldType::Inline(inner) => return Some(self::fields(inner, &format!("{from}."))),
            FieldType::Text => "text".to_owned(),
            FieldType::Integer => "long".to_owned(),
            FieldType::Decimal => "double".to_owned(),
            FieldType::Boolean => "boolean".to_owned(),
            FieldType::TextList => "list of text".to_owned(),
            FieldType::Attributes => "object".to_owned(),
            FieldType::Objects(inner) => format!("list of ({})", self::fields(inner, "")),
        };
        Some(format!("{name} {holds}"))
    });
    let fields = fields.collect::<Vec<_>>().join(", ");
    if left_out.is_empty() {
        fields
    } else {
        format!("{fields}; left out: {}", left_out.join(", "))
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

fn reasons<'w>(words: impl Iterator<Item = (&'w str, &'w str)>) -> String {
    let rows: String = words
        .map(|(word, meaning)| format!("| {word} | {meaning} |\n"))
        .collect();
    format!("| reason | meaning |\n| --- | --- |\n{rows}")
}

fn skipped() -> String {
    reasons(SkipReason::ALL.iter().map(|reason| {
        let meaning = match reason {
            SkipReason::NotSelected => "`mapping.events` does not select it",
            SkipReason::ScreenLeft => "an Android activity that stopped",
            SkipReason::Development => "from mParticle's development environment",
            SkipReason::Replay => "a replay, with `mapping.replays: Skip`",
            SkipReason::AliasRequest => "a request to merge two profiles",
            SkipReason::NoUser => "no key that the project knows users by",
            SkipReason::DroppedByTransform => "the forwarder's own rules dropped it",
        };
        (reason.as_str(), meaning)
    }))
}

fn rejected() -> String {
    reasons(RejectReason::ALL.iter().map(|reason| {
        let meaning = match reason {
            RejectReason::NotABatch => "in a list of batches, something that is none",
            RejectReason::EventsNotAList => "a batch's `events` is no list",
            RejectReason::EventNotAnObject => "an entry of `events` is no object",
            RejectReason::NoEventType => "`event_type` is missing, null or empty",
            RejectReason::NoIdOrTime => "no id and no time, so nothing tells it from another event",
            RejectReason::DataNotAnObject => "`data` is no object",
            RejectReason::NoEventName => "nothing in it gives a name by the template",
            RejectReason::InvalidEmail => "Iterable would refuse the email address",
            RejectReason::InvalidUserId => "Iterable would refuse the userId",
            RejectReason::TooLarge => "larger than a request may be",
            RejectReason::TransformFailed => "the forwarder's own rules raised an error",
            RejectReason::TransformTooCostly => "the forwarder's own rules were stopped at a bound",
            RejectReason::TransformOutput => {
                "the forwarder's own rules made something that is no event"
            }
            RejectReason::AliasRequest => {
                "a request to merge two profiles, with `mapping.aliasRequests: Reject`"
            }
        };
        (reason.as_str(), meaning)
    }))
}

fn warnings() -> String {
    reasons(MappingWarning::ALL.iter().map(|note| {
        let meaning = match note {
            MappingWarning::MissingTime => "no readable time: the batch's or the queue's was taken",
            MappingWarning::ImplausibleTime => "an absurd time: the batch's or the queue's was taken",
            MappingWarning::OlderThanADay => {
                "it happened more than 24 hours before the queue received it: mParticle says that Iterable takes none so old, Iterable does not say so"
            }
            MappingWarning::NameCut => "the event's name was cut to 256 characters",
            MappingWarning::FieldRenamed => "a field got a name that Iterable takes",
            MappingWarning::FieldNameRejected => "a field was dropped for its name",
            MappingWarning::FieldDuplicate => "a field was dropped since another has its name",
            MappingWarning::FieldTooLong => "a field was dropped for its length",
            MappingWarning::FieldTooDeep => "a field was dropped for its nesting",
            MappingWarning::FieldWrongType => "a field was dropped for its type",
            MappingWarning::FieldUnreadable => "a field was dropped since its value can't be sent",
            MappingWarning::FieldsTooMany => "a field was dropped since the event has a thousand",
        };
        (note.as_str(), meaning)
    }))
}

#[test]
fn the_members_that_never_become_fields_are_documented() {
    let text = std::fs::read_to_string(PATH).unwrap();
    let names = INTERNAL_MEMBERS.map(|name| format!("`{name}`"));
    assert!(text.contains(&names.join(", ")), "{}", names.join(", "));
}

#[test]
fn every_selector_is_documented_and_selects_a_kind() {
    let text = std::fs::read_to_string(PATH).unwrap();
    for kind in EventKind::ALL {
        let selector = kind.selector();
        assert_ne!(selector, EventSelector::All);
        assert!(text.contains(&format!("| {selector:?} |")), "{selector:?}");
    }
}
