//! Limits on a custom program's use of CPU, memory, and stack.
//!
//! The limits are counted, not timed, so a program that is stopped on an event is stopped on it in
//! every run and on every machine. The interpreter is lazy and can't be interrupted, but it fetches
//! its term table before each term, and it builds every value with our value type. Both
//! spend fuel here. When the fuel is spent or the stack is deep, the evaluation unwinds to [`run`],
//! past any `try` in the program.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// The units that a program can spend on one event.
///
/// One unit pays for one evaluated term, one value put into an array or object, one compared object
/// member, 16 bytes of created text, or 16 to 64 bytes of scanned text. A typical program spends
/// hundreds to thousands on an event of fifty fields. All units together allow at most tens of
/// megabytes and tens of milliseconds.
pub const FUEL: u64 = 200_000;

/// Maximum stack use of an evaluation, in bytes.
const MAX_STACK: usize = 1 << 20;

/// The stack size of the thread that programs run on, in bytes. The interpreter keeps linked lists
/// with at most one link per unit of fuel, and frees them recursively. This stack suffices for a
/// list as long as the fuel. Only its used pages are backed by memory.
const THREAD_STACK: usize = 128 << 20;

/// The limit that a program exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// The fuel, for terms, values, and text together.
    #[error("it used more than {FUEL} steps")]
    Steps,
    /// The stack, for nested calls or pipes.
    #[error("it recursed too deeply")]
    Stack,
    /// The size or depth of one value.
    #[error("it created a value larger than {} MiB or nested more than {} levels deep", super::value::MAX_SIZE >> 20, super::value::MAX_DEPTH)]
    Value,
}

/// Why an evaluation did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It exceeded a limit.
    Exhausted(Exhausted),
    /// The interpreter panicked.
    Broken,
}

thread_local! {
    static FUEL_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static STACK_BASE: Cell<usize> = const { Cell::new(0) };
}

/// Evaluates `program` within the limits. `allowance` adds units for reading its input; the input's
/// length in bytes always suffices.
pub fn run<T>(allowance: usize, program: impl FnOnce() -> T) -> Result<T, Aborted> {
    FUEL_LEFT.set(FUEL.saturating_add(allowance as u64));
    STACK_BASE.set(stack_pointer());
    let result = catch_unwind(AssertUnwindSafe(program));
    FUEL_LEFT.set(u64::MAX);
    STACK_BASE.set(0);
    result.map_err(|payload: Box<dyn Any + Send>| {
        payload
            .downcast_ref()
            .copied()
            .map_or(Aborted::Broken, Aborted::Exhausted)
    })
}

/// Runs `work`, which runs programs, on a thread whose stack is large enough for all programs
/// within the limits.
pub fn on_large_stack<T: Send>(work: impl Fn() -> T + Sync) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("transform".to_owned())
            .stack_size(THREAD_STACK);
        match thread
            .spawn_scoped(scope, &work)
            .map(thread::ScopedJoinHandle::join)
        {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            // The OS refused a new thread. The current stack is enough for typical programs.
            Err(_) => work(),
        }
    })
}

/// Spends units. Stops the evaluation if none are left or the stack is deep.
pub fn spend(units: usize) {
    let Some(left) = FUEL_LEFT.get().checked_sub(units as u64) else {
        stop(Exhausted::Steps);
    };
    FUEL_LEFT.set(left);
    let base = STACK_BASE.get();
    if base != 0 && base.abs_diff(stack_pointer()) > MAX_STACK {
        stop(Exhausted::Stack);
    }
}

/// Unwinds to [`run`] without calling the panic hook, because this is not a bug.
pub fn stop(why: Exhausted) -> ! {
    resume_unwind(Box::new(why))
}

/// Returns the approximate stack position.
#[inline(never)]
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
