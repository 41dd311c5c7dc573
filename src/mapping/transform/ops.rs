//! jq's operators on values, and the value functions of its standard library.

use std::{
    ops::{Add, Div, Mul, Neg, Range, Rem, Sub},
    sync::Arc,
};

use jaq_core::{Error, ValR, ops::Math};

use super::{
    meter,
    value::{Number, ObjectMembers, Value},
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
        // Metered one by one, because the iterator may be infinite.
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
                    // Metered before the text is created.
                    meter::spend(text.len().saturating_mul(times) / 16);
                    Ok(Self::text(text.repeat(times)))
                } else {
                    Ok(Self::Null)
                }
            }
            (Self::Object(left), Self::Object(right)) => {
                Ok(Self::object(merge(Self::owned(left), Self::owned(right))))
            }
            (left, right) => Err(Error::math(left, Math::Mul, right)),
        }
    }
}

/// Merges two objects, recursively if both have an object under the same name. Recurses at most as
/// deep as values can nest.
fn merge(mut left: ObjectMembers, right: ObjectMembers) -> ObjectMembers {
    for (name, value) in right {
        let value = match (left.get(&name), value) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                Value::object(merge(Value::owned(Arc::clone(old)), Value::owned(new)))
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
            (Self::Text(text), Self::Text(by)) => {
                meter::spend(text.len() / 16);
                Ok(text.split(&*by).map(Self::text).collect())
            }
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

/// Computes with integers if both operands are integers and the result fits into 64 bits, else with
/// doubles.
fn arithmetic(
    left: &Number,
    right: &Number,
    checked: fn(i64, i64) -> Option<i64>,
    double: fn(f64, f64) -> f64,
) -> Number {
    if let (Number::Integer(left), Number::Integer(right)) = (left, right)
        && let Some(result) = checked(*left, *right)
    {
        return Number::Integer(result);
    }
    Number::Double(double(left.double(), right.double()))
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

    /// Returns the bytes of a string. Metered, because the standard library only scans them.
    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => {
                meter::spend(text.len() / 64);
                Some(text.as_bytes())
            }
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
