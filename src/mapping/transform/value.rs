//! The JSON values of custom programs. Numbers keep their notation, and sizes are tracked and
//! limited.

use std::{cmp::Ordering, fmt, sync::Arc};

use indexmap::IndexMap;

use crate::mapping::raw::{JsonType, RawJson, push_text};

use super::meter::{self, Exhausted};

/// Maximum size of a value, in bytes. Shared parts count at each occurrence.
pub const MAX_SIZE: usize = 4 << 20;
/// Maximum nesting depth of a value.
pub const MAX_DEPTH: usize = 64;

/// The approximate size of a value without its text, in bytes.
const OVERHEAD: usize = 32;

/// A JSON value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(Arc<str>),
    /// An array.
    List(Arc<Node<Vec<Value>>>),
    /// An object, with its members in order.
    Object(Arc<Node<ObjectMembers>>),
}

/// The members of an object.
pub type ObjectMembers = IndexMap<Arc<str>, Value>;

/// A number. Input that is not a 64-bit integer keeps its notation, so that a program passes it on
/// unchanged.
#[derive(Clone, Debug)]
pub enum Number {
    /// A 64-bit integer.
    Integer(i64),
    /// A result of arithmetic.
    Double(f64),
    /// A number in its original notation.
    Written(Arc<str>),
}

/// An array or object with its measures.
#[derive(Clone, Debug)]
pub struct Node<T> {
    content: T,
    items: usize,
    depth: usize,
    size: usize,
}

impl<T> Node<T> {
    /// Returns the elements or members.
    pub fn content(&self) -> &T {
        &self.content
    }
}

impl Value {
    /// Creates a string. Metered by its bytes.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        meter::spend(1 + text.len() / 16);
        Self::Text(text)
    }

    /// Creates an array. Metered by its elements.
    pub fn list(elements: Vec<Self>) -> Self {
        let items = elements.len();
        let (depth, size) = measure(items, elements.iter().map(|value| (0, value)));
        Self::List(Arc::new(Node {
            content: elements,
            items,
            depth,
            size,
        }))
    }

    /// Creates an object. Metered by its members and by the bytes of their names, which are hashed.
    pub fn object(members: ObjectMembers) -> Self {
        meter::spend(name_bytes(&members) / 64);
        let items = members.len();
        let (depth, size) = measure(
            items,
            members.iter().map(|(name, value)| (name.len(), value)),
        );
        Self::Object(Arc::new(Node {
            content: members,
            items,
            depth,
            size,
        }))
    }

    /// Returns the content of an array or object, to change it. Copies it if it is shared, which is
    /// metered.
    pub fn owned<T: Clone>(node: Arc<Node<T>>) -> T {
        match Arc::try_unwrap(node) {
            Ok(node) => node.content,
            Err(shared) => {
                meter::spend(shared.items);
                shared.content.clone()
            }
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::List(node) => node.depth,
            Self::Object(node) => node.depth,
            _ => 0,
        }
    }

    /// Returns the approximate size in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::List(node) => node.size,
            Self::Object(node) => node.size,
            Self::Text(text) | Self::Number(Number::Written(text)) => OVERHEAD + text.len(),
            _ => OVERHEAD,
        }
    }

    /// Parses a value.
    pub fn read(raw: RawJson<'_>) -> Self {
        Self::read_within(raw, MAX_DEPTH)
    }

    fn read_within(raw: RawJson<'_>, depth: usize) -> Self {
        let Some(inner) = depth.checked_sub(1) else {
            meter::stop(Exhausted::Value)
        };
        match raw.json_type() {
            JsonType::Null => Self::Null,
            JsonType::Boolean => Self::Boolean(raw.json() == "true"),
            JsonType::Number => Self::Number(Number::read(raw.json())),
            JsonType::String => Self::text(raw.text().unwrap_or_default()),
            JsonType::Array => {
                let mut elements = Vec::new();
                raw.each_element(|element| elements.push(Self::read_within(element, inner)));
                Self::list(elements)
            }
            JsonType::Object => {
                let mut members = ObjectMembers::new();
                raw.each_member(|name, value| {
                    members.insert(Arc::from(name), Self::read_within(value, inner));
                });
                Self::object(members)
            }
        }
    }

    /// Appends the value as JSON. NaN and infinities become null.
    pub fn write(&self, json: &mut String) {
        match self {
            Self::Null => json.push_str("null"),
            Self::Boolean(true) => json.push_str("true"),
            Self::Boolean(false) => json.push_str("false"),
            Self::Number(number) => json.push_str(&number.json()),
            Self::Text(text) => push_text(json, text),
            Self::List(node) => {
                json.push('[');
                for (index, element) in node.content.iter().enumerate() {
                    if index > 0 {
                        json.push(',');
                    }
                    element.write(json);
                }
                json.push(']');
            }
            Self::Object(node) => {
                json.push('{');
                for (index, (name, value)) in node.content.iter().enumerate() {
                    if index > 0 {
                        json.push(',');
                    }
                    push_text(json, name);
                    json.push(':');
                    value.write(json);
                }
                json.push('}');
            }
        }
    }

    /// Returns the value as JSON.
    pub fn json(&self) -> String {
        meter::spend(self.size() / 16);
        let mut json = String::new();
        self.write(&mut json);
        json
    }

    /// Returns the rank of the type in jq's order.
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(false) => 1,
            Self::Boolean(true) => 2,
            Self::Number(_) => 3,
            Self::Text(_) => 4,
            Self::List(_) => 5,
            Self::Object(_) => 6,
        }
    }
}

/// Returns the depth and size of an array or object. Metered; stops the evaluation if they exceed
/// the limits.
fn measure<'v>(count: usize, parts: impl Iterator<Item = (usize, &'v Value)>) -> (usize, usize) {
    meter::spend(1 + count);
    let (depth, size) = parts.fold((0, OVERHEAD), |(depth, size), (name, value)| {
        (
            value.depth().max(depth),
            size.saturating_add(name).saturating_add(value.size()),
        )
    });
    if depth >= MAX_DEPTH || size > MAX_SIZE {
        meter::stop(Exhausted::Value);
    }
    (depth + 1, size)
}

impl Number {
    /// Parses a JSON number.
    pub fn read(text: &str) -> Self {
        text.parse()
            .map_or_else(|_| Self::Written(Arc::from(text)), Self::Integer)
    }

    /// Returns the nearest double, for arithmetic and order. Metered by the parsed digits.
    pub fn double(&self) -> f64 {
        match self {
            Self::Integer(integer) => *integer as f64,
            Self::Double(double) => *double,
            Self::Written(text) => {
                meter::spend(text.len() / 16);
                text.parse().unwrap_or(f64::NAN)
            }
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Integer(integer) => integer.to_string(),
            // `Debug` writes a fraction even for integers, and an exponent for extreme values.
            Self::Double(double) if double.is_finite() => format!("{double:?}"),
            Self::Double(_) => "null".to_owned(),
            Self::Written(text) => text.as_ref().to_owned(),
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(left), Self::Integer(right)) => left.cmp(right),
            (left, right) => {
                let (left, right) = (left.double(), right.double());
                left.partial_cmp(&right)
                    .unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
            }
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl Ord for Value {
    /// Compares in jq's order. Metered, because programs control the comparisons.
    fn cmp(&self, other: &Self) -> Ordering {
        meter::spend(1);
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => {
                meter::spend(left.len().min(right.len()) / 64);
                left.cmp(right)
            }
            (Self::List(left), Self::List(right)) => left.content.cmp(&right.content),
            (Self::Object(left), Self::Object(right)) => {
                let (left, right) = (sorted(&left.content), sorted(&right.content));
                let names = left.iter().map(|(name, _)| name);
                names.cmp(right.iter().map(|(name, _)| name)).then_with(|| {
                    let values = left.iter().map(|(_, value)| value);
                    values.cmp(right.iter().map(|(_, value)| value))
                })
            }
            (left, right) => left.rank().cmp(&right.rank()),
        }
    }
}

/// Returns the members sorted by name. Metered.
fn sorted(members: &ObjectMembers) -> Vec<(&Arc<str>, &Value)> {
    meter::spend(members.len() + name_bytes(members) / 16);
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    members
}

fn name_bytes(members: &ObjectMembers) -> usize {
    members.keys().map(|name| name.len()).sum()
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json())
    }
}
