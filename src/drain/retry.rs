//! How often and how fast a request to SQS that failed is made again.

use std::time::Duration;

/// How often requests may fail in a row: then the queue counts as down.
pub const MAX_FAILURES: u32 = 5;

/// The back-off before the first repeat, at most; it doubles with each further failure. Together
/// they outlast a gap of several seconds.
const BACK_OFF: Duration = Duration::from_secs(1);

/// How long to wait after so many failures in a row. `dice` is a number from 0 up to 1, of which
/// half the wait depends.
pub fn back_off(failures: u32, dice: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(MAX_FAILURES);
    (BACK_OFF * (1 << doublings)).mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0)
}
