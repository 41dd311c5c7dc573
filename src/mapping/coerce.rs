//! Conversion of strings and numbers to the type of a field. A number is never written from a
//! double, so that it keeps its digits; doubles are only used for checks.

use std::borrow::Cow;

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// Returns whether Iterable can store a number: an integer in 64 bits with sign, any other number
/// as a double.
pub fn is_sendable(number: &str) -> bool {
    if number.contains(['.', 'e', 'E']) {
        number.parse::<f64>().is_ok_and(f64::is_finite)
    } else {
        number.parse::<i64>().is_ok()
    }
}

/// Parses a 64-bit integer. A fraction of zeros is accepted and dropped.
pub fn integer(text: &str) -> Option<Cow<'_, str>> {
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|byte| byte == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    whole
        .parse::<i64>()
        .ok()
        .map(|number| Cow::Owned(number.to_string()))
}

/// Parses a number. The result always has a fraction or an exponent, so that Iterable stores the
/// field as a double even if the first value is whole.
pub fn decimal(text: &str) -> Option<Cow<'_, str>> {
    if !is_json_number(text) || !text.parse::<f64>().is_ok_and(f64::is_finite) {
        return None;
    }
    if text.contains(['.', 'e', 'E']) {
        Some(Cow::Borrowed(text))
    } else {
        Some(Cow::Owned(format!("{text}.0")))
    }
}

/// Converts a string to a boolean or a number as mParticle's Iterable connection does
/// (github.com/Iterable/firehose-iterable, `IterableExtension.attemptScalarConversion`).
///
/// Converts "true" and "false" in any case, and strings that parse as a Java double. Whole numbers
/// are parsed with `Integer.parseInt`: "007" is 7, but "1.0", "1e3" and numbers beyond 32 bits stay
/// strings. Other numbers become fractions. Not copied: Java's "NaN", "1d", "0x1p3", and whitespace
/// around numbers.
pub fn like_mparticle(text: &str) -> Option<Cow<'static, str>> {
    if text.eq_ignore_ascii_case("true") {
        return Some(Cow::Borrowed("true"));
    }
    if text.eq_ignore_ascii_case("false") {
        return Some(Cow::Borrowed("false"));
    }
    let starts_like_number =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    if !starts_like_number || !text.bytes().all(|byte| b"+-.eE0123456789".contains(&byte)) {
        return None;
    }
    let double = text
        .parse::<f64>()
        .ok()
        .filter(|double| double.is_finite())?;
    if double.fract() == 0.0 {
        return text
            .parse::<i32>()
            .ok()
            .map(|whole| Cow::Owned(whole.to_string()));
    }
    Some(Cow::Owned(json_fraction(text)))
}

/// Formats a fraction as JSON: no plus sign, no leading zeros, digits on both sides of the dot.
fn json_fraction(text: &str) -> String {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = digits.trim_start_matches('0');
    let leading = if digits.starts_with(|first: char| first.is_ascii_digit()) {
        ""
    } else {
        "0"
    };
    let mut number = format!("{sign}{leading}{digits}");
    if let Some(dot) = number.find('.')
        && !number[dot + 1..].starts_with(|next: char| next.is_ascii_digit())
    {
        number.insert(dot + 1, '0');
    }
    number
}

/// Returns whether a string matches the number grammar of RFC 8259.
fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(|text| is_digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}

/// Converts an ISO 8601 date-time to Iterable's format, in UTC and whole seconds. A date-time
/// without an offset is in UTC. Returns `None` for a date without a time and for other strings.
pub fn date(text: &str) -> Option<String> {
    let looks_like_date_time = (16..=40).contains(&text.len())
        && matches!(
            text.as_bytes(),
            [_, _, _, _, b'-', _, _, _, _, _, b'T' | b't' | b' ', ..]
        );
    if !looks_like_date_time {
        return None;
    }
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        let local = text.parse::<DateTime>().ok()?;
        Offset::UTC.to_timestamp(local).ok()
    })?;
    Some(instant.strftime("%Y-%m-%d %H:%M:%S +00:00").to_string())
}
