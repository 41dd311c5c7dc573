//! Custom rules: one jq program, compiled once and run on each event within limits.
//!
//! jq is well known, and users can try a program on the command line. jaq runs it, because jaq is
//! written in Rust, can be shared between threads, and accepts a custom value type, which meters
//! all work (`meter`).

mod meter;
mod natives;
mod ops;
mod paths;
mod value;

use std::{borrow::Cow, sync::Arc, thread};

use jaq_core::{
    Compiler, Ctx, Filter, Lut, Vars,
    data::{DataT, HasLut},
    load::{self, Arena, File, Loader},
};

use super::raw::RawJson;

use meter::Aborted;
pub use meter::{Exhausted, FUEL, on_large_stack};
use value::Value;

/// Maximum length of a program, in bytes.
pub const MAX_PROGRAM: usize = 16_384;

/// The stack size of the compiler's thread, in bytes. The compiler recurses with the program's
/// nesting and uses a few kilobytes per byte of the program, which fits into this.
const COMPILER_STACK: usize = 256 << 20;

/// A compiled program.
pub struct Transform {
    filter: Filter<Jq>,
}

/// Why a program can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    /// It is longer than [`MAX_PROGRAM`] bytes.
    #[error("the jq program has {0} bytes; the maximum is {MAX_PROGRAM}")]
    TooLong(usize),
    /// It is not valid jq, or it uses undefined or reserved names.
    #[error("line {line}, column {column}: {fault}")]
    Invalid {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
        /// The syntax or name error.
        fault: String,
    },
    /// The compiler failed.
    #[error("can't compile the jq program: it is nested too deeply")]
    Uncompilable,
}

/// Why a program returned no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvalError {
    /// It raised an error.
    Failed(String),
    /// It exceeded a limit.
    TooCostly(Exhausted),
    /// It had more than one output.
    ManyOutputs,
}

/// The interpreter's data types.
struct Jq;

impl DataT for Jq {
    type V<'a> = Value;
    type Data<'a> = MeteredLut<'a>;
}

/// The program's term table. The interpreter fetches it before each term, which spends one unit.
#[derive(Clone)]
struct MeteredLut<'a>(&'a Lut<Jq>);

impl<'a> HasLut<'a, Jq> for MeteredLut<'a> {
    fn lut(&self) -> &'a Lut<Jq> {
        meter::spend(1);
        self.0
    }
}

/// The value of `$batch`, shared by all events of a batch.
pub struct BatchValue(Value);

impl Transform {
    /// Compiles a program.
    pub fn new(program: &str) -> Result<Self, TransformError> {
        if program.len() > MAX_PROGRAM {
            return Err(TransformError::TooLong(program.len()));
        }
        if let Some(at) = program.find(natives::RESERVED) {
            return Err(error_at(
                program,
                &program[at..],
                "names that start with \"unbounded_\" are reserved",
            ));
        }
        // The compiler needs a thread with a larger stack.
        thread::scope(|scope| {
            let compiler = thread::Builder::new()
                .stack_size(COMPILER_STACK)
                .spawn_scoped(scope, || compile(program))
                .map_err(|_| TransformError::Uncompilable)?;
            compiler.join().unwrap_or(Err(TransformError::Uncompilable))
        })
    }

    /// Creates the value of `$batch`.
    pub fn batch(members: &[(Cow<'_, str>, RawJson<'_>)]) -> Result<BatchValue, EvalError> {
        let read =
            |(name, raw): &(Cow<'_, str>, RawJson<'_>)| (Arc::from(&**name), Value::read(*raw));
        let allowance = members
            .iter()
            .map(|(name, raw)| name.len() + raw.json().len())
            .sum();
        meter::run(allowance, || {
            Value::object(members.iter().map(read).collect())
        })
        .map(BatchValue)
        .map_err(EvalError::from)
    }

    /// Runs the program on an Iterable event, with `$event` and `$batch`. Returns the JSON of its
    /// output, or `None` if the program drops the event by no output or null.
    pub fn run(
        &self,
        input: RawJson<'_>,
        event: RawJson<'_>,
        batch: &BatchValue,
    ) -> Result<Option<String>, EvalError> {
        let allowance = input.json().len() + event.json().len();
        meter::run(allowance, || {
            let vars = Vars::new([Value::read(event), batch.0.clone()]);
            let context = Ctx::<Jq>::new(MeteredLut(&self.filter.lut), vars);
            let mut outputs = self.filter.id.run((context, Value::read(input)));
            let output = match outputs.next() {
                None => return Ok(None),
                Some(Ok(Value::Null)) => None,
                Some(Ok(value)) => Some(value.json()),
                Some(Err(exception)) => {
                    return Err(EvalError::Failed(match exception.get_err() {
                        Ok(error) => error.to_string().chars().take(300).collect(),
                        Err(_) => "uncaught break".to_owned(),
                    }));
                }
            };
            match outputs.next() {
                None => Ok(output),
                Some(_) => Err(EvalError::ManyOutputs),
            }
        })?
    }
}

impl From<Aborted> for EvalError {
    fn from(aborted: Aborted) -> Self {
        match aborted {
            Aborted::Exhausted(limit) => Self::TooCostly(limit),
            Aborted::Broken => Self::Failed("the interpreter failed".to_owned()),
        }
    }
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transform")
    }
}

fn compile(program: &str) -> Result<Transform, TransformError> {
    let arena = Arena::default();
    let modules = Loader::new(natives::definitions())
        .load(
            &arena,
            File {
                code: program,
                path: (),
            },
        )
        .map_err(|errors| load_error(program, errors))?;
    let filter = Compiler::default()
        .with_funs(natives::functions::<Jq>())
        .with_global_vars(["$event", "$batch"])
        .compile(modules)
        .map_err(|errors| {
            let first = errors.into_iter().flat_map(|(_, errors)| errors).next();
            match first {
                Some((name, kind)) => error_at(
                    program,
                    name,
                    &format!("undefined {} {name}", kind.as_str()),
                ),
                None => TransformError::Uncompilable,
            }
        })?;
    Ok(Transform { filter })
}

fn load_error(program: &str, errors: load::Errors<&str, ()>) -> TransformError {
    let Some((_, error)) = errors.into_iter().next() else {
        return TransformError::Uncompilable;
    };
    let first = match &error {
        load::Error::Io(errors) => errors.first().map(|(path, error)| (*path, error.clone())),
        load::Error::Lex(errors) => errors
            .first()
            .map(|(expected, found)| (*found, format!("expected {}", expected.as_str()))),
        load::Error::Parse(errors) => errors
            .first()
            .map(|(expected, found)| (*found, format!("expected {}", expected.as_str()))),
    };
    match first {
        Some((found, message)) => error_at(program, found, &message),
        None => TransformError::Uncompilable,
    }
}

/// Creates an error at a part of the program.
fn error_at(program: &str, part: &str, message: &str) -> TransformError {
    // A part outside the program's text means its end.
    let start = (part.as_ptr() as usize).wrapping_sub(program.as_ptr() as usize);
    let before = program.get(..start).unwrap_or(program);
    TransformError::Invalid {
        line: before.matches('\n').count() + 1,
        column: before
            .chars()
            .rev()
            .take_while(|char| *char != '\n')
            .count()
            + 1,
        fault: message.to_owned(),
    }
}
