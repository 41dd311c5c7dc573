//! Parsing of a message body into batches, after removing wrappers.
//!
//! A correct API Gateway setup writes mParticle's JSON to the queue unchanged. An incorrect one
//! leaves it form-encoded, percent-encoded, quoted, in base64, or inside a Lambda or SNS event
//! (`docs/mapping.md` lists them). Each of these can be distinguished from a batch, so each is
//! accepted.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode_str;
use serde_json::error::Category;

use super::{
    mapped::EventPosition,
    mparticle::{Batch, MAX_MALFORMED, Malformed, MalformedCounts, PerKind},
    raw::{JsonType, RawJson, push_text},
};

/// Maximum number of nested wrappers.
const MAX_WRAPPERS: u8 = 4;

/// A value where a batch is expected.
#[derive(Debug)]
pub struct Document<'b> {
    /// JSON path in the body.
    pub path: String,
    /// Well-formed JSON text.
    pub text: Cow<'b, str>,
    /// Number and texts of later values that are not batches and are grouped with this one. Each
    /// text starts with a comma.
    pub more: (u32, String),
}

impl Document<'_> {
    /// Returns the error for a document that is not a batch.
    pub(super) fn not_a_batch(&self) -> BodyError {
        let shape = match RawJson::parse(&self.text).map(RawJson::json_type) {
            Some(JsonType::Object) => "object",
            Some(JsonType::Array) => "array",
            Some(JsonType::String) => "string",
            Some(JsonType::Number) => "number",
            Some(JsonType::Boolean) => "boolean",
            Some(JsonType::Null) | None => "null",
        };
        BodyError::NotABatch {
            path: self.path.clone(),
            shape,
        }
    }
}

/// An error in a body, or in one of its documents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Empty, or only whitespace.
    #[error("the body is empty")]
    Empty,
    /// Neither JSON nor a supported encoding of it.
    #[error(
        "at {path}: neither JSON nor form-encoded, percent-encoded or base64 JSON; it starts with {start:?}. Check that the queue receives mParticle's body unchanged"
    )]
    NotJson {
        /// JSON path.
        path: String,
        /// First characters of the text.
        start: String,
    },
    /// Truncated JSON.
    #[error(
        "at {path}: truncated JSON, which ends after {offset} bytes. Check the size limit of the queue and the mapping template of the API"
    )]
    Truncated {
        /// JSON path.
        path: String,
        /// Length in bytes.
        offset: usize,
    },
    /// Invalid JSON.
    #[error("at {path}: invalid JSON at byte {offset}: {fault}")]
    Syntax {
        /// JSON path.
        path: String,
        /// Byte offset of the error.
        offset: usize,
        /// Message of the JSON parser.
        fault: String,
    },
    /// A JSON value that is not a batch.
    #[error(
        "at {path}: a JSON {shape} that is not an mParticle batch. A batch is an object with events"
    )]
    NotABatch {
        /// JSON path.
        path: String,
        /// JSON type of the value.
        shape: &'static str,
    },
    /// An unresolved pointer of the SQS extended client to a payload in S3.
    #[error(
        "at {path}: an unresolved pointer to a payload in S3; list its bucket in spec.queue.largePayloads.buckets"
    )]
    PayloadPointer {
        /// JSON path.
        path: String,
    },
    /// More nested wrappers than any known setup produces.
    #[error("at {path}: more than {MAX_WRAPPERS} nested wrappers")]
    WrappedTooDeep {
        /// JSON path.
        path: String,
    },
}

impl BodyError {
    /// Returns the reason identifier.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "EmptyBody",
            Self::NotJson { .. } => "NotJson",
            Self::Truncated { .. } => "TruncatedJson",
            Self::Syntax { .. } => "InvalidJson",
            Self::NotABatch { .. } => "NotABatch",
            Self::PayloadPointer { .. } => "PayloadPointer",
            Self::WrappedTooDeep { .. } => "WrappedTooDeep",
        }
    }

    /// Converts an error of serde_json in `text`.
    pub(super) fn syntax(path: &str, text: &str, error: &serde_json::Error) -> Self {
        let path = path.to_owned();
        if error.classify() == Category::Eof {
            return Self::Truncated {
                path,
                offset: text.len(),
            };
        }
        let line_start: usize = text
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum();
        let message = error.to_string();
        let fault = message
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        Self::Syntax {
            path,
            offset: line_start + error.column().saturating_sub(1),
            fault,
        }
    }
}

/// Returns the values of a body where batches are expected, in order. After [`MAX_MALFORMED`]
/// values, the next one that is not a batch represents all later ones that are not, because a body
/// can contain half a million.
pub fn documents(body: &str) -> Result<Vec<Document<'_>>, BodyError> {
    let mut documents = Documents::default();
    unwrap(Cow::Borrowed(body), "$", 0, &mut documents)?;
    Ok(documents.list)
}

#[derive(Default)]
struct Documents<'b> {
    list: Vec<Document<'b>>,
    /// Index of the document that later non-batches are grouped with.
    rest: Option<usize>,
}

impl<'b> Documents<'b> {
    fn push(&mut self, path: String, text: Cow<'b, str>) {
        if self.list.len() >= MAX_MALFORMED && !Batch::is_one(&text) {
            if let Some(rest) = self.rest.and_then(|rest| self.list.get_mut(rest)) {
                let (count, texts) = &mut rest.more;
                *count += 1;
                texts.push(',');
                texts.push_str(&text);
                return;
            }
            self.rest = Some(self.list.len());
        }
        self.list.push(Document {
            path,
            text,
            more: (0, String::new()),
        });
    }
}

fn unwrap<'b>(
    text: Cow<'b, str>,
    path: &str,
    wrappers: u8,
    documents: &mut Documents<'b>,
) -> Result<(), BodyError> {
    let path = path.to_owned();
    if wrappers > MAX_WRAPPERS {
        return Err(BodyError::WrappedTooDeep { path });
    }
    let trimmed = trim(&text);
    match trimmed.bytes().next() {
        None => Err(BodyError::Empty),
        Some(b'{' | b'[' | b'"') => match text {
            Cow::Borrowed(text) => values(trim(text), &path, wrappers, documents, Cow::Borrowed),
            Cow::Owned(text) => values(trim(&text), &path, wrappers, documents, |text| {
                Cow::Owned(text.to_owned())
            }),
        },
        Some(_) => match decode(trimmed) {
            Some(decoded) => unwrap(Cow::Owned(decoded), &path, wrappers + 1, documents),
            None => Err(BodyError::NotJson {
                path,
                start: trimmed.chars().take(24).collect(),
            }),
        },
    }
}

/// Parses a sequence of JSON values.
fn values<'t, 'b>(
    text: &'t str,
    path: &str,
    wrappers: u8,
    documents: &mut Documents<'b>,
    keep: impl Fn(&'t str) -> Cow<'b, str>,
) -> Result<(), BodyError> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<RawJson<'t>>();
    let mut values = Vec::new();
    for value in stream.by_ref() {
        values.push(value.map_err(|error| BodyError::syntax(path, text, &error))?);
    }
    let is_sequence = values.len() > 1;
    for (index, value) in values.into_iter().enumerate() {
        // Several values, one per line, are handled like an array of them.
        let path = if is_sequence {
            format!("{path}[{index}]")
        } else {
            path.to_owned()
        };
        match value.json_type() {
            JsonType::Array => {
                let mut elements = Vec::new();
                value.each_element(|element| elements.push(element));
                if is_payload_pointer(&elements) {
                    return Err(BodyError::PayloadPointer { path });
                }
                for (index, element) in elements.into_iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    documents.push(path, keep(element.json()));
                }
            }
            JsonType::String => {
                let inner = value.text().unwrap_or_default().into_owned();
                unwrap(Cow::Owned(inner), &path, wrappers + 1, documents)?;
            }
            _ => match wrapped(value) {
                Some((member, inner)) => {
                    let path = format!("{path}.{member}");
                    unwrap(Cow::Owned(inner), &path, wrappers + 1, documents)?;
                }
                None => documents.push(path, keep(value.json())),
            },
        }
    }
    Ok(())
}

fn trim(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim_ascii()
}

/// Returns whether the elements are a pointer to S3:
/// `["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": …, "s3Key": …}]`
/// (github.com/awslabs/amazon-sqs-java-extended-client-lib).
fn is_payload_pointer(elements: &[RawJson<'_>]) -> bool {
    match elements {
        [class, pointer] => {
            class
                .text()
                .is_some_and(|class| class.ends_with("S3Pointer"))
                && pointer.member("s3BucketName").is_some()
        }
        _ => false,
    }
}

/// Returns the member of a Lambda proxy event or SNS envelope that contains the body, and the body.
fn wrapped(value: RawJson<'_>) -> Option<(&'static str, String)> {
    let (mut body, mut message, mut is_base64, mut is_notification, mut has_events) =
        (None, None, false, false, false);
    value.each_member(|key, member| match &*key {
        "body" => body = member.text(),
        "isBase64Encoded" => is_base64 = member.boolean() == Some(true),
        "Message" => message = member.text(),
        "Type" => is_notification = member.plain_text() == Some("Notification"),
        "events" => has_events = true,
        _ => {}
    });
    match (body, message) {
        _ if has_events => None,
        (Some(body), _) if is_base64 => Some(("body", from_base64(&body)?)),
        (Some(body), _) => Some(("body", body.into_owned())),
        (None, Some(message)) if is_notification => Some(("Message", message.into_owned())),
        _ => None,
    }
}

/// Removes one encoding: a form with a `MessageBody`, percent-encoding, or base64.
fn decode(text: &str) -> Option<String> {
    let form = text
        .split('&')
        .find_map(|pair| pair.strip_prefix("MessageBody="))
        .filter(|_| text.contains('='));
    if let Some(value) = form {
        return from_form(value);
    }
    if text.starts_with('%') {
        return from_form(text);
    }
    from_base64(text)
}

fn from_form(value: &str) -> Option<String> {
    let spaced = value.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

fn from_base64(text: &str) -> Option<String> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let compact: String = text
        .chars()
        .filter(|char| !char.is_ascii_whitespace())
        .collect();
    let alphabet = if compact.contains(['-', '_']) {
        URL_SAFE
    } else {
        STANDARD
    };
    let bytes = GeneralPurpose::new(&alphabet, config)
        .decode(compact)
        .ok()?;
    String::from_utf8(bytes).ok()
}

/// A body reduced to some of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The body.
    pub body: String,
    /// Number of events.
    pub events: usize,
}

/// Returns `body` reduced to the events at `sources`, with the envelopes of their batches, for the
/// dead-letter queue. Mapping the result gives the same event IDs. A source that represents several
/// malformed entries includes all of them.
pub fn excerpt(body: &str, sources: &[EventPosition]) -> Result<Excerpt, BodyError> {
    let mut by_batch = BTreeMap::<usize, BTreeSet<usize>>::new();
    for source in sources {
        by_batch
            .entry(source.batch as usize)
            .or_default()
            .insert(source.event as usize);
    }
    let (mut kept, mut count, mut is_single) = (Vec::new(), 0, true);
    for (index, document) in documents(body)?.iter().enumerate() {
        if let (Some(events), Some(batch)) = (by_batch.get(&index), RawJson::parse(&document.text))
        {
            let (more, texts) = &document.more;
            let (batch, events) = excerpt_of_batch(batch, events);
            kept.push(batch + texts);
            is_single &= *more == 0;
            count += events + *more as usize;
        }
    }
    let body = match kept.as_slice() {
        [batch] if batch.starts_with('{') && is_single => kept.remove(0),
        _ => format!("[{}]", kept.join(",")),
    };
    let events = count;
    Ok(Excerpt { body, events })
}

/// Returns a batch reduced to the events in `kept`, and the number of these events.
fn excerpt_of_batch(batch: RawJson<'_>, kept: &BTreeSet<usize>) -> (String, usize) {
    if batch.json_type() != JsonType::Object {
        return (batch.json().to_owned(), 1);
    }
    let mut text = String::from("{");
    // An `events` value that is not an array counts as one, as in its rejection.
    let mut count = 1;
    batch.each_member(|name, value| {
        if text.len() > 1 {
            text.push(',');
        }
        push_text(&mut text, &name);
        text.push(':');
        if name == "events" && value.json_type() == JsonType::Array {
            text.push('[');
            count = 0;
            let mut is_kept = KeptEntries::new(kept);
            value.each_element(|event| {
                if is_kept.next(event) {
                    if count > 0 {
                        text.push(',');
                    }
                    count += 1;
                    text.push_str(event.json());
                }
            });
            text.push(']');
        } else {
            text.push_str(value.json());
        }
    });
    text.push('}');
    (text, count)
}

/// The decision for each entry of `events`, in order, whether it is kept.
struct KeptEntries<'k> {
    kept: &'k BTreeSet<usize>,
    position: usize,
    counts: MalformedCounts,
    /// Whether the entry that represents later malformed entries is kept, by kind.
    rest: PerKind<bool>,
}

impl<'k> KeptEntries<'k> {
    fn new(kept: &'k BTreeSet<usize>) -> Self {
        Self {
            kept,
            position: 0,
            counts: MalformedCounts::default(),
            rest: PerKind::default(),
        }
    }

    fn next(&mut self, entry: RawJson<'_>) -> bool {
        let mut is_kept = self.kept.contains(&self.position);
        self.position += 1;
        let entry = serde_json::from_str(entry.json()).unwrap_or_default();
        if let Some(kind) = Malformed::from_entry(&entry) {
            let rest = self.rest.get_mut(kind);
            match self.counts.next(kind).cmp(&MAX_MALFORMED) {
                Ordering::Less => {}
                Ordering::Equal => *rest = is_kept,
                Ordering::Greater => is_kept = *rest,
            }
        }
        is_kept
    }
}
