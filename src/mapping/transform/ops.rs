//! What jq's operators and paths do to values.

use std::{
    ops::{Add, Div, Mul, Neg, Range, Rem, Sub},
    sync::Arc,
};

use jaq_core::{Error, Exn, ValR, ValX, box_iter::box_once, ops::Math, path::Opt};

use super::{
    meter,
    value::{Members, Number, Value},
};

type Result<T = Value> = ValR<T, Value>;

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<isize> for Value {
    fn from(integer: isize) -> Self {
        Self::Number(Number::Integer(integer as i64))
    }
}

impl From<usize> for Value {
    fn from(integer: usize) -> Self {
        Self::Number(Number::Integer(i64::try_from(integer).unwrap_or(i64::MAX)))
    }
}

impl From<f64> for Value {
    fn from(double: f64) -> Self {
        Self::Number(Number::Double(double))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Range<Option<Value>>> for Value {
    fn from(range: Range<Option<Value>>) -> Self {
        let bounds = [("start", range.start), ("end", range.end)];
        let bounds = bounds
            .into_iter()
            .filter_map(|(name, bound)| Some((Arc::from(name), bound?)));
        Self::object(bounds.collect())
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<T: IntoIterator<Item = Value>>(elements: T) -> Self {
        // Counted one by one, since the iterator may never end.
        Self::list(elements.into_iter().inspect(|_| meter::spend(1)).collect())
    }
}

impl Add for Value {
    type Output = Result;

    fn add(self, other: Self) -> Result {
        match (self, other) {
            (Self::Null, value) | (value, Self::Null) => Ok(value),
            (Self::Number(left), Self::Number(right)) => Ok(Self::Number(arithmetic(
                &left,
                &right,
                i64::checked_add,
                |l, r| l + r,
            ))),
            (Self::Text(left), Self::Text(right)) => Ok(Self::text([&*left, &*right].concat())),
            (Self::List(left), Self::List(right)) => {
                let mut elements = Self::owned(left);
                elements.extend(Self::owned(right));
                Ok(Self::list(elements))
            }
            (Self::Object(left), Self::Object(right)) => {
                let mut members = Self::owned(left);
                members.extend(Self::owned(right));
                Ok(Self::object(members))
            }
            (left, right) => Err(Error::math(left, Math::Add, right)),
        }
    }
}

impl Sub for Value {
    type Output = Result;

    fn sub(self, other: Self) -> Result {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => Ok(Self::Number(arithmetic(
                &left,
                &right,
                i64::checked_sub,
                |l, r| l - r,
            ))),
            (Self::List(left), Self::List(right)) => {
                let mut elements = Self::owned(left);
                elements.retain(|element| !right.content().contains(element));
                Ok(Self::list(elements))
            }
            (left, right) => Err(Error::math(left, Math::Sub, right)),
        }
    }
}

impl Mul for Value {
    type Output = Result;

    fn mul(self, other: Self) -> Result {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => Ok(Self::Number(arithmetic(
                &left,
                &right,
                i64::checked_mul,
                |l, r| l * r,
            ))),
            (Self::Text(text), Self::Number(times)) | (Self::Number(times), Self::Text(text)) => {
                let times = times.double();
                if times > 0.0 {
                    let times = times.ceil() as usize;
                    // Counted before it is made.
                    meter::spend(text.len().saturating_mul(times) / 16);
                    Ok(Self::text(text.repeat(times)))
                } else {
                    Ok(Self::Null)
                }
            }
            (Self::Object(left), Self::Object(right)) => {
                Ok(Self::object(merged(Self::owned(left), Self::owned(right))))
            }
            (left, right) => Err(Error::math(left, Math::Mul, right)),
        }
    }
}

/// Merges objects that stand under one name in both. As deep as values may nest.
fn merged(mut left: Members, right: Members) -> Members {
    for (name, value) in right {
        let value = match (left.get(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                Value::object(merged(Value::owned(Arc::clone(old)), Value::owned(new)))
            }
            (_, value) => value,
        };
        left.insert(name, value);
    }
    left
}

impl Div for Value {
    type Output = Result;

    fn div(self, other: Self) -> Result {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => {
                Ok(Self::Number(Number::Double(left.double() / right.double())))
            }
            (Self::Text(text), Self::Text(by)) if text.is_empty() => {
                let _ = by;
                Ok(Self::list(Vec::new()))
            }
            (Self::Text(text), Self::Text(by)) if by.is_empty() => Ok(text
                .chars()
                .map(|char| Self::text(char.to_string()))
                .collect()),
            (Self::Text(text), Self::Text(by)) => Ok(text.split(&*by).map(Self::text).collect()),
            (left, right) => Err(Error::math(left, Math::Div, right)),
        }
    }
}

impl Rem for Value {
    type Output = Result;

    fn rem(self, other: Self) -> Result {
        match (self, other) {
            (Self::Number(left), Self::Number(right)) if right.double() != 0.0 => Ok(Self::Number(
                arithmetic(&left, &right, i64::checked_rem, |l, r| l % r),
            )),
            (left, right) => Err(Error::math(left, Math::Rem, right)),
        }
    }
}

impl Neg for Value {
    type Output = Result;

    fn neg(self) -> Result {
        match self {
            Self::Number(number) => Ok(Self::Number(arithmetic(
                &Number::Integer(0),
                &number,
                i64::checked_sub,
                |_, double| -double,
            ))),
            other => Err(Error::typ(other, "number")),
        }
    }
}

/// Whole numbers stay whole while 64 bits suffice.
fn arithmetic(
    left: &Number,
    right: &Number,
    whole: fn(i64, i64) -> Option<i64>,
    double: fn(f64, f64) -> f64,
) -> Number {
    if let (Number::Integer(left), Number::Integer(right)) = (left, right)
        && let Some(result) = whole(*left, *right)
    {
        return Number::Integer(result);
    }
    Number::Double(double(left.double(), right.double()))
}

/// A position from the start, or, if negative, from the end.
fn position(index: &Value, length: usize) -> Option<usize> {
    let Value::Number(number) = index else {
        return None;
    };
    let index = number.double().floor();
    let index = if index < 0.0 {
        index + length as f64
    } else {
        index
    };
    (index >= 0.0 && index < length as f64).then_some(index as usize)
}

/// The first position and the one after the last of a slice, within a length.
fn slice(range: &Range<Option<&Value>>, length: usize) -> Result<Range<usize>> {
    let bound = |bound: Option<&Value>, default: usize, round: fn(f64) -> f64| match bound {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Number(number)) => {
            let at = round(number.double());
            let at = if at < 0.0 { at + length as f64 } else { at };
            // A cast from a double saturates.
            Ok((at.max(0.0) as usize).min(length))
        }
        Some(other) => Err(Error::typ(other.clone(), "number")),
    };
    let start = bound(range.start, 0, f64::floor)?;
    let end = bound(range.end, length, f64::ceil)?;
    Ok(start..end.max(start))
}

/// Where the characters of a slice stand in a text.
fn char_slice(text: &str, range: Range<Option<&Value>>) -> Result<Range<usize>> {
    let chars = slice(&range, text.chars().count())?;
    let byte = |char: usize| {
        text.char_indices()
            .nth(char)
            .map_or(text.len(), |(at, _)| at)
    };
    Ok(byte(chars.start)..byte(chars.end))
}

impl jaq_core::ValT for Value {
    fn from_num(number: &str) -> Result {
        Ok(Self::Number(Number::read(number)))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(members: I) -> Result {
        let members = members.into_iter().map(|(name, value)| match name {
            Self::Text(name) => Ok((name, value)),
            other => Err(Error::typ(other, "string")),
        });
        Ok(Self::object(members.collect::<Result<_>>()?))
    }

    fn key_values(self) -> Box<dyn Iterator<Item = Result<(Self, Self)>>> {
        match self {
            Self::List(node) => {
                let elements = Self::owned(node).into_iter().enumerate();
                Box::new(elements.map(|(index, value)| Ok((Self::from(index), value))))
            }
            Self::Object(node) => {
                let members = Self::owned(node).into_iter();
                Box::new(members.map(|(name, value)| Ok((Self::Text(name), value))))
            }
            other => box_once(Err(Error::typ(other, "iterable (array or object)"))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = Result>> {
        match self {
            Self::List(node) => Box::new(Self::owned(node).into_iter().map(counted)),
            Self::Object(node) => Box::new(Self::owned(node).into_values().map(counted)),
            other => box_once(Err(Error::typ(other, "iterable (array or object)"))),
        }
    }

    fn index(self, index: &Self) -> Result {
        meter::spend(1);
        match (&self, index) {
            (Self::Null, _) => Ok(Self::Null),
            (Self::Object(node), Self::Text(name)) => {
                Ok(node.content().get(name).cloned().unwrap_or(Self::Null))
            }
            (Self::List(node), Self::Number(_)) => {
                let elements = node.content();
                let at = position(index, elements.len());
                Ok(at
                    .and_then(|at| elements.get(at))
                    .cloned()
                    .unwrap_or(Self::Null))
            }
            (Self::List(_) | Self::Text(_), Self::Object(bounds)) => {
                let bounds = bounds.content();
                let range = bounds.get("start")..bounds.get("end");
                jaq_core::ValT::range(self, range)
            }
            _ => Err(Error::index(self, index.clone())),
        }
    }

    fn range(self, range: Range<Option<&Self>>) -> Result {
        match self {
            Self::Null => Ok(Self::Null),
            Self::Text(text) => Ok(Self::text(&text[char_slice(&text, range)?])),
            Self::List(node) => {
                let elements = node.content();
                Ok(elements[slice(&range, elements.len())?]
                    .iter()
                    .cloned()
                    .collect())
            }
            other => Err(Error::typ(other, "rangeable (array or string)")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        match self {
            Self::List(node) => Self::owned(node).into_iter().flat_map(f).collect(),
            Self::Object(node) => {
                let members = Self::owned(node).into_iter();
                let members = members.filter_map(|(name, value)| {
                    f(value)
                        .next()
                        .map(|value| value.map(|value| (name, value)))
                });
                Ok(Self::object(
                    members.collect::<std::result::Result<_, _>>()?,
                ))
            }
            other => opt.fail(other, |other| {
                Exn::from(Error::typ(other, "iterable (array or object)"))
            }),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        index: &Self,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        match (self, index) {
            (value @ (Self::List(_) | Self::Text(_)), Self::Object(bounds)) => {
                let bounds = bounds.content();
                value.map_range(bounds.get("start")..bounds.get("end"), opt, f)
            }
            (Self::Null, Self::Text(_)) => Self::object(Members::new()).map_index(index, opt, f),
            (Self::Object(node), Self::Text(name)) => {
                let mut members = Self::owned(node);
                // Taken out while it is changed, so that it need not be copied.
                let old = members
                    .get_mut(name)
                    .map(|value| std::mem::replace(value, Self::Null));
                match f(old.unwrap_or(Self::Null)).next().transpose()? {
                    Some(value) => {
                        members.insert(Arc::clone(name), value);
                    }
                    None => {
                        members.shift_remove(name);
                    }
                }
                Ok(Self::object(members))
            }
            (Self::List(node), Self::Number(_)) => {
                let length = node.content().len();
                let Some(at) = position(index, length) else {
                    let out_of_bounds = Error::str(format_args!("index {index} out of bounds"));
                    return opt.fail(Self::List(node), |_| Exn::from(out_of_bounds));
                };
                let mut elements = Self::owned(node);
                let old = std::mem::replace(&mut elements[at], Self::Null);
                match f(old).next().transpose()? {
                    Some(value) => elements[at] = value,
                    None => {
                        elements.remove(at);
                    }
                }
                Ok(Self::list(elements))
            }
            (value, _) => opt.fail(value, |value| Exn::from(Error::index(value, index.clone()))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<Option<&Self>>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        match self {
            Self::List(node) => {
                let at = slice(&range, node.content().len()).map_err(Exn::from)?;
                let mut elements = Self::owned(node);
                let part = elements[at.clone()].iter().cloned().collect();
                let replacement = match f(part).next().transpose()? {
                    Some(Self::List(node)) => Self::owned(node),
                    Some(other) => return Err(Exn::from(Error::typ(other, "array"))),
                    None => Vec::new(),
                };
                elements.splice(at, replacement);
                Ok(Self::list(elements))
            }
            Self::Text(text) => {
                let at = char_slice(&text, range).map_err(Exn::from)?;
                let replacement = match f(Self::text(&text[at.clone()])).next().transpose()? {
                    Some(Self::Text(replacement)) => replacement,
                    Some(other) => return Err(Exn::from(Error::typ(other, "string"))),
                    None => Arc::from(""),
                };
                Ok(Self::text(
                    [&text[..at.start], &*replacement, &text[at.end..]].concat(),
                ))
            }
            other => opt.fail(other, |other| {
                Exn::from(Error::typ(other, "rangeable (array or string)"))
            }),
        }
    }

    fn as_bool(&self) -> bool {
        !matches!(self, Self::Null | Self::Boolean(false))
    }

    fn into_string(self) -> Self {
        match self {
            Self::Text(_) => self,
            other => Self::text(other.json()),
        }
    }
}

fn counted(value: Value) -> Result {
    meter::spend(1);
    Ok(value)
}

impl jaq_std::ValT for Value {
    fn into_seq<S: FromIterator<Self>>(self) -> std::result::Result<S, Self> {
        match self {
            Self::List(node) => Ok(Self::owned(node).into_iter().collect()),
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        matches!(self, Self::Number(Number::Integer(_)))
    }

    fn as_isize(&self) -> Option<isize> {
        match self {
            Self::Number(Number::Integer(integer)) => isize::try_from(*integer).ok(),
            _ => None,
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number.double()),
            _ => None,
        }
    }

    fn is_utf8_str(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    fn as_sub_str(&self, part: &[u8]) -> Self {
        Self::text(String::from_utf8_lossy(part).into_owned())
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::text(String::from_utf8_lossy(bytes.as_ref()).into_owned())
    }
}
