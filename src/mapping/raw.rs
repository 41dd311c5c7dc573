//! Values of JSON as they stand in the text, read only when someone asks.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// One JSON value as its text, known to be well-formed and without blanks around it.
#[derive(Clone, Copy, Debug)]
pub struct RawJson<'a>(&'a str);

/// What kind of value a text holds.
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
    /// A text that is one well-formed value.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value as it stands in the text.
    pub fn json(self) -> &'a str {
        self.0
    }

    /// What kind of value this is.
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

    /// The value if it is not null.
    pub fn present(self) -> Option<Self> {
        (self.json_type() != JsonType::Null).then_some(self)
    }

    /// The text between a string's quotes, if nothing in it is escaped.
    pub fn plain_text(self) -> Option<&'a str> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        (!inner.as_bytes().contains(&b'\\')).then_some(inner)
    }

    /// A string's text. None for other shapes, and for escapes that spell no character.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.plain_text() {
            Some(plain) => Some(Cow::Borrowed(plain)),
            None => serde_json::from_str(self.0).ok().map(Cow::Owned),
        }
    }

    /// A string's text, with replacement characters for escapes that spell none.
    fn lossy_text(self) -> String {
        let mut input = serde_json::Deserializer::from_str(self.0);
        input.deserialize_bytes(LossyText).unwrap_or_default()
    }

    /// The text of a string, a number or a boolean. Empty text is no value: mParticle sends it
    /// for what is not known.
    pub fn scalar(self) -> Option<Cow<'a, str>> {
        match self.json_type() {
            JsonType::String => self.text().filter(|text| !text.is_empty()),
            JsonType::Number | JsonType::Boolean => Some(Cow::Borrowed(self.0)),
            _ => None,
        }
    }

    /// A whole number, also one that is written as text. It never passes through a double.
    pub fn integer(self) -> Option<i64> {
        self.scalar()?.trim().parse().ok()
    }

    /// A boolean, also one that is written as text.
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

    /// Shows each member of an object to `visit`, in order. Does nothing for other shapes.
    pub fn each_member(self, visit: impl FnMut(Cow<'a, str>, RawJson<'a>)) {
        if self.json_type() == JsonType::Object {
            let mut input = serde_json::Deserializer::from_str(self.0);
            // The text was found to be well-formed before, so this ends without an error.
            let _ = input.deserialize_map(MemberVisitor(visit));
        }
    }

    /// Shows each element of an array to `visit`, in order. Does nothing for other shapes.
    pub fn each_element(self, visit: impl FnMut(RawJson<'a>)) {
        if self.json_type() == JsonType::Array {
            let mut input = serde_json::Deserializer::from_str(self.0);
            let _ = input.deserialize_seq(ElementVisitor(visit));
        }
    }

    /// An object's first member of that name, if it is not null. What comes after it is not
    /// read.
    pub fn member(self, name: &str) -> Option<RawJson<'a>> {
        let mut found = None;
        if self.json_type() == JsonType::Object {
            let mut input = serde_json::Deserializer::from_str(self.0);
            // An error tells that not all was read.
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

/// A member's name, borrowed from the text where nothing in it is escaped. Escapes that spell no
/// character, half a surrogate pair, become replacement characters: a name is no reason to lose
/// what stands beside it.
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
