//! Bounds on what a user's program may use, counted and not timed, so that a program that is
//! stopped on an event is stopped on it at every run and on every machine.
//!
//! The interpreter is lazy and offers no way to interrupt it, but it asks for its table of terms
//! before each term that it evaluates, and builds every value through our value type. Both
//! count here. When the count is spent, or the stack is deep, the evaluation unwinds to
//! [`run`], past any `try` of the program.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// What a program may spend on one event: one unit for each term that it evaluates, each
/// value that it puts into a list or an object, each member of an object that it compares, and each
/// 16 bytes of text that it makes, or 16 to 64 that it goes through. A rule on an event of fifty
/// fields takes some hundreds to thousands. All of it together is at most some tens of megabytes and
/// of milliseconds.
pub const FUEL: u64 = 200_000;

/// How much of the stack an evaluation may use.
const MAX_STACK: usize = 1 << 20;

/// The stack of the thread that programs run on. The interpreter chains what it remembers, one
/// link for a unit at most, and frees a chain by recursion: this holds one as long as the fuel.
/// Only what is used of it is ever backed by memory.
const THREAD_STACK: usize = 128 << 20;

/// What a program had too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Terms, values and text together.
    #[error("it used more than {FUEL} steps")]
    Steps,
    /// Calls or pipes one inside the other.
    #[error("it recursed too deeply")]
    Stack,
    /// One value.
    #[error("it created a value larger than {} MiB or nested more than {} levels deep", super::value::MAX_SIZE >> 20, super::value::MAX_DEPTH)]
    Value,
}

/// Why an evaluation did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It used too much.
    Exhausted(Exhausted),
    /// The interpreter failed.
    Broken,
}

thread_local! {
    static FUEL_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static STACK_BASE: Cell<usize> = const { Cell::new(0) };
}

/// Evaluates `program` within the bounds. `allowance`: units on top, for reading what the program
/// is given; its length in bytes always suffices.
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

/// Does `work`, in which programs are run, on a thread with a stack that is large enough for
/// anything that programs within the bounds can do.
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
            // The system gives no thread now. The stack at hand is enough for any honest rule.
            Err(_) => work(),
        }
    })
}

/// Counts units, and stops the evaluation when they are spent or the stack is deep.
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

/// Unwinds to [`run`]. No message is printed: this is no panic of ours.
pub fn stop(why: Exhausted) -> ! {
    resume_unwind(Box::new(why))
}

/// About where on the stack we are.
#[inline(never)]
fn stack_pointer() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}
