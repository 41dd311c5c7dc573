//! jq's paths on values (`.a`, `.[0]`, `.[1:2]`, `.[]`) and their updates.

use std::{ops::Range, sync::Arc};

use jaq_core::{Error, Exn, ValR, ValX, box_iter::box_once, path::Opt};

use super::{
    meter,
    value::{Number, ObjectMembers, Value},
};

type Result<T = Value> = ValR<T, Value>;

/// Returns the position of an index, which counts from the end if negative.
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

/// Returns the positions of a slice, limited to `length`.
fn slice(range: &Range<Option<&Value>>, length: usize) -> Result<Range<usize>> {
    let bound = |bound: Option<&Value>, default: usize, round: fn(f64) -> f64| match bound {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Number(number)) => {
            let at = round(number.double());
            let at = if at < 0.0 { at + length as f64 } else { at };
            // Casts from a double saturate.
            Ok((at.max(0.0) as usize).min(length))
        }
        Some(other) => Err(Error::typ(other.clone(), "number")),
    };
    let start = bound(range.start, 0, f64::floor)?;
    let end = bound(range.end, length, f64::ceil)?;
    Ok(start..end.max(start))
}

/// Returns the byte range of a slice of characters. Metered, because this scans the text.
fn char_slice(text: &str, range: Range<Option<&Value>>) -> Result<Range<usize>> {
    meter::spend(text.len() / 16);
    let chars = slice(&range, text.chars().count())?;
    let byte = |char: usize| {
        text.char_indices()
            .nth(char)
            .map_or(text.len(), |(at, _)| at)
    };
    Ok(byte(chars.start)..byte(chars.end))
}

fn part(elements: &[Value], at: &Range<usize>) -> impl Iterator<Item = Value> {
    elements.iter().take(at.end).skip(at.start).cloned()
}

impl jaq_core::ValT for Value {
    fn from_num(number: &str) -> Result {
        meter::spend(number.len() / 16);
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
            Self::List(node) => Box::new(Self::owned(node).into_iter().map(meter_value)),
            Self::Object(node) => Box::new(Self::owned(node).into_values().map(meter_value)),
            other => box_once(Err(Error::typ(other, "iterable (array or object)"))),
        }
    }

    fn index(self, index: &Self) -> Result {
        meter::spend(1);
        match (&self, index) {
            (Self::Null, _) => Ok(Self::Null),
            (Self::Object(node), Self::Text(name)) => {
                meter::spend(name.len() / 64);
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
                let at = slice(&range, elements.len())?;
                Ok(part(elements, &at).collect())
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
            (Self::Null, Self::Text(_)) => {
                Self::object(ObjectMembers::new()).map_index(index, opt, f)
            }
            (Self::Object(node), Self::Text(name)) => {
                let mut members = Self::owned(node);
                // Removed during the update, so that it is not copied.
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
                let old = elements
                    .get_mut(at)
                    .map(|element| std::mem::replace(element, Self::Null));
                let new = f(old.unwrap_or(Self::Null)).next().transpose()?;
                elements.splice(at..=at, new);
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
                let old = part(&elements, &at).collect();
                let replacement = match f(old).next().transpose()? {
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

fn meter_value(value: Value) -> Result {
    meter::spend(1);
    Ok(value)
}
