//! The functions that a program can call: jq's, except those with access to files, environment,
//! clock, log, or exit. Regular expressions are limited.

use jaq_core::{
    Bind, DataT, Error, ValR,
    load::parse::{self, Def},
    native::{self, Fun, bome, unary, v},
};

use crate::mapping::raw::RawJson;

use super::{
    meter,
    value::{Number, Value},
};

/// Functions of jaq's standard library that access more than the event, or depend on where and when
/// they run.
const EXCLUDED_FUNCTIONS: [&str; 13] = [
    "debug",
    "debug_empty",
    "env",
    "halt",
    "halt_error",
    "input_line_number",
    "localtime",
    "now",
    "stderr",
    "stderr_empty",
    "strflocaltime",
    "get_search_list",
    "input_filename",
];

/// The functions that run a regular expression, each with the name that our definitions call it by.
const REGEX: [(&str, &str); 3] = [
    ("matches", "unbounded_matches"),
    ("split_matches", "unbounded_split_matches"),
    ("split_", "unbounded_split_"),
];

/// The prefix of the unlimited functions, which programs must not call.
pub const RESERVED: &str = "unbounded_";

/// Definitions that replace or wrap jaq's.
const DEFINITIONS: &str = r#"
def matches($re; $flags): bound_regex($re) as $_ | unbounded_matches($re; $flags);
def split_matches($re; $flags): bound_regex($re) as $_ | unbounded_split_matches($re; $flags);
def split_($re; $flags): bound_regex($re) as $_ | unbounded_split_($re; $flags);
def tonumber: if isnumber then . else fromjson | if isnumber then . else error("cannot parse as number") end end;
def toboolean: if isboolean then . else fromjson | if isboolean then . else error("cannot parse as boolean") end end;
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i) | .[0];
def rindex($i): indices($i) | .[-1];
def transpose: [range([.[] | length] | max) as $i | [.[][$i]]];
def @json: tojson;
"#;

/// Returns the definitions in jq.
pub fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let standard = jaq_core::defs().chain(jaq_std::defs());
    let custom = jaq_core::load::parse(DEFINITIONS, |parser| parser.defs()).unwrap_or_default();
    let (before, after): (Vec<_>, Vec<_>) = custom
        .into_iter()
        .partition(|def: &parse::Def<_>| REGEX.iter().any(|(name, _)| *name == def.name));
    before
        .into_iter()
        .chain(standard.filter(|def| !EXCLUDED_FUNCTIONS.contains(&def.name)))
        .chain(after)
}

/// Returns the functions in Rust.
pub fn functions<D: for<'a> DataT<V<'a> = Value>>() -> impl Iterator<Item = Fun<D>> {
    let standard = jaq_std::funs().filter(|(name, ..)| !EXCLUDED_FUNCTIONS.contains(name));
    let bounded = standard.map(|(name, arguments, function)| {
        let renamed = REGEX.iter().find(|(regex, _)| *regex == name);
        (
            renamed.map_or(name, |(_, unbounded)| *unbounded),
            arguments,
            function,
        )
    });
    jaq_core::funs()
        .chain(bounded)
        .chain(custom_functions().into_iter().map(native::run))
}

type Function<D> = (&'static str, Box<[Bind]>, jaq_core::RunPtr<D>);

fn custom_functions<D: for<'a> DataT<V<'a> = Value>>() -> [Function<D>; 7] {
    [
        ("length", v(0), |cv| bome(length(cv.1))),
        ("has", v(1), |cv| unary(cv, has)),
        ("contains", v(1), |cv| {
            unary(cv, |value, part| Ok(Value::from(contains(&value, &part))))
        }),
        ("indices", v(1), |cv| unary(cv, indices)),
        ("tojson", v(0), |cv| bome(Ok(Value::text(cv.1.json())))),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("bound_regex", v(1), |cv| unary(cv, bound_regex)),
    ]
}

fn length(value: Value) -> ValR<Value> {
    match value {
        Value::Null => Ok(Value::from(0_usize)),
        Value::Number(Number::Integer(integer)) if integer != i64::MIN => {
            Ok(Value::Number(Number::Integer(integer.abs())))
        }
        Value::Number(number) => Ok(Value::from(number.double().abs())),
        Value::Text(text) => {
            meter::spend(text.len() / 64);
            Ok(Value::from(text.chars().count()))
        }
        Value::List(node) => Ok(Value::from(node.content().len())),
        Value::Object(node) => Ok(Value::from(node.content().len())),
        Value::Boolean(_) => Err(Error::typ(value, "value with a length")),
    }
}

fn has(value: Value, key: Value) -> ValR<Value> {
    match (&value, &key) {
        (Value::Object(node), Value::Text(name)) => {
            meter::spend(name.len() / 64);
            Ok(Value::from(node.content().contains_key(name)))
        }
        (Value::List(node), Value::Number(Number::Integer(index))) => Ok(Value::from(
            usize::try_from(*index).is_ok_and(|at| at < node.content().len()),
        )),
        _ => Err(Error::index(value, key)),
    }
}

/// Recurses at most as deep as values can nest.
fn contains(value: &Value, part: &Value) -> bool {
    meter::spend(1);
    match (value, part) {
        (Value::Text(value), Value::Text(part)) => {
            meter::spend(value.len() / 64);
            value.contains(&**part)
        }
        (Value::List(value), Value::List(part)) => part
            .content()
            .iter()
            .all(|part| value.content().iter().any(|value| contains(value, part))),
        (Value::Object(value), Value::Object(part)) => part.content().iter().all(|(name, part)| {
            meter::spend(name.len() / 64);
            value
                .content()
                .get(name)
                .is_some_and(|value| contains(value, part))
        }),
        (value, part) => value == part,
    }
}

fn indices(value: Value, part: Value) -> ValR<Value> {
    match (&value, &part) {
        (Value::Null, _) => Ok(Value::Null),
        (Value::Text(text), Value::Text(part)) => {
            // Each position may need a comparison of the complete part.
            meter::spend(text.len().saturating_mul(part.len().div_ceil(64)) / 16);
            let chars = (0_usize..).zip(text.char_indices());
            let at = chars
                .filter(|(_, (byte, _))| !part.is_empty() && text[*byte..].starts_with(&**part));
            Ok(at.map(|(index, _)| Value::from(index)).collect())
        }
        (Value::List(list), Value::List(part)) => {
            let part = part.content();
            let windows = list.content().windows(part.len().max(1)).enumerate();
            let at = windows.filter(|(_, window)| !part.is_empty() && *window == part.as_slice());
            Ok(at.map(|(index, _)| Value::from(index)).collect())
        }
        (Value::List(list), part) => {
            let at = list
                .content()
                .iter()
                .enumerate()
                .filter(|(_, element)| *element == part);
            Ok(at.map(|(index, _)| Value::from(index)).collect())
        }
        _ => Err(Error::index(value, part)),
    }
}

fn from_json(value: &Value) -> ValR<Value> {
    let Value::Text(text) = value else {
        return Err(Error::typ(value.clone(), "string"));
    };
    meter::spend(text.len() / 16);
    match RawJson::parse(text) {
        Some(raw) => Ok(Value::read(raw)),
        None => Err(Error::str(format_args!("cannot parse {value} as JSON"))),
    }
}

/// Maximum length of a regular expression with expanded counted repetitions.
const MAX_REGEX: usize = 20_000;

/// Spends the units of a regular expression on the input. A match costs at most about the length of
/// the text times that of the expression with expanded counted repetitions (`{4}`).
fn bound_regex(input: Value, expression: Value) -> ValR<Value> {
    // The function itself rejects a value that is not a string.
    if let (Value::Text(text), Value::Text(expression)) = (&input, &expression) {
        let length = expanded_length(expression);
        if length > MAX_REGEX {
            return Err(Error::str(
                "the regular expression has too many repetitions",
            ));
        }
        meter::spend(64 + length + length.saturating_mul(text.len()) / 16);
    }
    Ok(Value::Null)
}

/// Returns an upper bound of the expanded length, as if every repetition enclosed the complete
/// expression.
fn expanded_length(expression: &str) -> usize {
    let mut length = expression.len() + 1;
    for counts in expression.split('{').skip(1) {
        let counts = counts.split('}').next().unwrap_or_default();
        let max = counts
            .split(',')
            .filter_map(|count| count.trim().parse::<usize>().ok())
            .max();
        length = length.saturating_mul(max.unwrap_or(1).max(1));
    }
    length
}
