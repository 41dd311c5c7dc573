//! Text and numbers into the form that a field's type asks for. Digits are kept as they came:
//! a double is made only to ask about a number, never to write one.

use std::borrow::Cow;

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// Whether Iterable can hold a number: a whole one in 64 bits with sign, another as a double.
pub fn is_sendable(number: &str) -> bool {
    if number.contains(['.', 'e', 'E']) {
        number.parse::<f64>().is_ok_and(f64::is_finite)
    } else {
        number.parse::<i64>().is_ok()
    }
}

/// A whole number of 64 bits from text, with a fraction of zeros at most.
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

/// A number from text, always with a fraction or an exponent, so that Iterable takes the
/// field's type to be double even if the first value is whole.
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

/// Text as a boolean or a number, the way mParticle's own Iterable connection makes them
/// (github.com/Iterable/firehose-iterable, `IterableExtension.attemptScalarConversion`): "true"
/// and "false" in any case; what parses as a Java double: if whole, by `Integer.parseInt`, so
/// that "007" is 7, but "1.0", "1e3" and what is beyond 32 bits stay text; if not, the
/// fraction. Not copied: Java's own "NaN", "1d", "0x1p3" and blanks around numbers.
pub fn like_mparticle(text: &str) -> Option<Cow<'static, str>> {
    if text.eq_ignore_ascii_case("true") {
        return Some(Cow::Borrowed("true"));
    }
    if text.eq_ignore_ascii_case("false") {
        return Some(Cow::Borrowed("false"));
    }
    let starts_like_a_number =
        text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first));
    if !starts_like_a_number || !text.bytes().all(|byte| b"+-.eE0123456789".contains(&byte)) {
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

/// A fraction in JSON's spelling: no plus sign, no leading zeros, digits around the dot.
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

/// The number grammar of RFC 8259.
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

/// A date-time of ISO 8601 as Iterable writes its own, in UTC to the second. Without an offset
/// it is taken to be UTC. None for days without a time and for other text.
pub fn date(text: &str) -> Option<String> {
    let looks_like_one = (16..=40).contains(&text.len())
        && matches!(
            text.as_bytes(),
            [_, _, _, _, b'-', _, _, _, _, _, b'T' | b't' | b' ', ..]
        );
    if !looks_like_one {
        return None;
    }
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        let local = text.parse::<DateTime>().ok()?;
        Offset::UTC.to_timestamp(local).ok()
    })?;
    Some(instant.strftime("%Y-%m-%d %H:%M:%S +00:00").to_string())
}
