//! Raw JSON values, parsed on demand.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The text of one JSON value, well-formed and without surrounding whitespace.
#[derive(Clone, Copy, Debug)]
pub struct RawJson<'a>(&'a str);

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// `null`
    Null,
    /// `true` or `false`
    Boolean,
    /// A number, of any size.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl<'a> RawJson<'a> {
    /// Parses a text. Returns `None` if it is not one well-formed value.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Returns the JSON text of the value.
    pub fn json(self) -> &'a str {
        self.0
    }

    /// Returns the type of the value.
    pub fn json_type(self) -> JsonType {
        match self.0.as_bytes().first() {
            Some(b'n') => JsonType::Null,
            Some(b't' | b'f') => JsonType::Boolean,
            Some(b'"') => JsonType::String,
            Some(b'[') => JsonType::Array,
            Some(b'{') => JsonType::Object,
            _ => JsonType::Number,
        }
    }

    /// Returns the value, or `None` if it is null.
    pub fn present(self) -> Option<Self> {
        (self.json_type() != JsonType::Null).then_some(self)
    }

    /// Returns the text between a string's quotes, or `None` if it has escapes.
    pub fn plain_text(self) -> Option<&'a str> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        (!inner.as_bytes().contains(&b'\\')).then_some(inner)
    }

    /// Returns the text of a string. Returns `None` for other types and for invalid escapes.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.plain_text() {
            Some(plain) => Some(Cow::Borrowed(plain)),
            None => serde_json::from_str(self.0).ok().map(Cow::Owned),
        }
    }

    /// Returns the text of a string, with replacement characters for invalid escapes.
    fn lossy_text(self) -> String {
        let mut input = serde_json::Deserializer::from_str(self.0);
        input.deserialize_bytes(LossyText).unwrap_or_default()
    }

    /// Returns the text of a string, number or boolean. Returns `None` for an empty string, which
    /// mParticle sends for unknown values.
    pub fn scalar(self) -> Option<Cow<'a, str>> {
        match self.json_type() {
            JsonType::String => self.text().filter(|text| !text.is_empty()),
            JsonType::Number | JsonType::Boolean => Some(Cow::Borrowed(self.0)),
            _ => None,
        }
    }

    /// Returns an integer, also if it is written as a string. It is never converted to a double.
    pub fn integer(self) -> Option<i64> {
        self.scalar()?.trim().parse().ok()
    }

    /// Returns a boolean, also if it is written as a string.
    pub fn boolean(self) -> Option<bool> {
        let text = self.scalar()?;
        if text.eq_ignore_ascii_case("true") {
            Some(true)
        } else if text.eq_ignore_ascii_case("false") {
            Some(false)
        } else {
            None
        }
    }

    /// Calls `visit` for each member of an object, in order. Does nothing for other types.
    pub fn each_member(self, visit: impl FnMut(Cow<'a, str>, RawJson<'a>)) {
        if self.json_type() == JsonType::Object {
            let mut input = serde_json::Deserializer::from_str(self.0);
            // The text is well-formed, so this never fails.
            let _ = input.deserialize_map(MemberVisitor(visit));
        }
    }

    /// Calls `visit` for each element of an array, in order. Does nothing for other types.
    pub fn each_element(self, visit: impl FnMut(RawJson<'a>)) {
        if self.json_type() == JsonType::Array {
            let mut input = serde_json::Deserializer::from_str(self.0);
            let _ = input.deserialize_seq(ElementVisitor(visit));
        }
    }

    /// Returns an object's first member of that name, if it is not null. Does not parse later
    /// members.
    pub fn member(self, name: &str) -> Option<RawJson<'a>> {
        let mut found = None;
        if self.json_type() == JsonType::Object {
            let mut input = serde_json::Deserializer::from_str(self.0);
            // Stopping at the member causes an error, which is expected.
            let _ = input.deserialize_map(MemberFinder {
                name,
                found: &mut found,
            });
        }
        found.and_then(RawJson::present)
    }
}

struct MemberFinder<'f, 'a> {
    name: &'f str,
    found: &'f mut Option<RawJson<'a>>,
}

impl<'de> Visitor<'de> for MemberFinder<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<MemberName<'de>>()? {
            let value = map.next_value()?;
            if key.0 == self.name {
                *self.found = Some(value);
                break;
            }
        }
        Ok(())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawJson<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        <&'a RawValue>::deserialize(input).map(|raw| RawJson(raw.get()))
    }
}

/// The name of a member, borrowed if it has no escapes. Invalid escapes (half of a surrogate pair)
/// become replacement characters, so that a name does not invalidate the other members.
pub struct MemberName<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for MemberName<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = RawJson::deserialize(input)?;
        Ok(Self(match raw.plain_text() {
            Some(plain) => Cow::Borrowed(plain),
            None => Cow::Owned(raw.lossy_text()),
        }))
    }
}

struct LossyText;

impl Visitor<'_> for LossyText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<String, E> {
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

struct MemberVisitor<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, RawJson<'de>)> Visitor<'de> for MemberVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<MemberName<'de>>()? {
            (self.0)(key.0, map.next_value()?);
        }
        Ok(())
    }
}

struct ElementVisitor<F>(F);

impl<'de, F: FnMut(RawJson<'de>)> Visitor<'de> for ElementVisitor<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while let Some(value) = seq.next_element()? {
            (self.0)(value);
        }
        Ok(())
    }
}

/// Appends `text` to `json` as a JSON string, in quotes and escaped.
pub fn push_text(json: &mut String, text: &str) {
    json.push('"');
    let mut rest = text;
    while let Some((at, special)) = rest
        .bytes()
        .enumerate()
        .find(|(_, byte)| *byte < 0x20 || matches!(byte, b'"' | b'\\'))
    {
        let (plain, from_special) = rest.split_at(at);
        json.push_str(plain);
        match special {
            b'"' => json.push_str("\\\""),
            b'\\' => json.push_str("\\\\"),
            b'\n' => json.push_str("\\n"),
            b'\r' => json.push_str("\\r"),
            b'\t' => json.push_str("\\t"),
            control => {
                // Writing to a String does not fail.
                let _ = write!(json, "\\u{control:04x}");
            }
        }
        rest = &from_special[1..];
    }
    json.push_str(rest);
    json.push('"');
}
