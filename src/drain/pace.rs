//! How fast a run goes. Pure: the time and the dice are arguments.
//!
//! A run starts with one receive and one post and widens with each post that succeeds (slow
//! start), keeps to Iterable's rate, backs off with full jitter when Iterable is slow or down,
//! and breaks off when it stays down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};

use crate::sqs::MAX_ENTRIES;

/// The first step of a run: one receive's messages.
const FIRST_STEP: usize = MAX_ENTRIES;

/// By what a success widens the step.
const WIDENING: usize = 4;

/// The first back-off's upper bound; it doubles with each further failure.
const BACK_OFF: Duration = Duration::from_millis(500);

/// The largest upper bound of a back-off.
const MAX_BACK_OFF: Duration = Duration::from_secs(30);

/// After how many failures in a row Iterable counts as down. Requests that fail while another
/// back-off was already decided count once.
const BREAK_AFTER: u32 = 5;

/// How long failures must last, if one of them is a failure to connect: those come at once, so that
/// [`BREAK_AFTER`] of them may be over before a name server or proxy has restarted.
const BREAK_AFTER_SPAN: Duration = Duration::from_secs(10);

/// After how long without a success Iterable counts as down, if at least
/// [`BREAK_AFTER_SLOW`] requests failed.
const BREAK_AFTER_TIME: Duration = Duration::from_secs(60);

/// See [`BREAK_AFTER_TIME`].
const BREAK_AFTER_SLOW: u32 = 3;

/// After how many answers of "too fast" in a row a run ends, as others use the rate up.
const BREAK_AFTER_SLOW_DOWNS: u32 = 12;

/// What a run's speed is bounded by.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time between two posts: the inverse of this pod's share of Iterable's rate.
    pub post_interval: Duration,
    /// The most posts under way at once.
    pub posts: usize,
    /// The most receives under way at once.
    pub receives: usize,
}

/// The pace of a run.
#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    clock: GivenClock,
    limiter: RateLimiter<NotKeyed, InMemoryState, GivenClock, NoOpMiddleware<Nanos>>,
    start: Instant,
    posts: usize,
    receives: usize,
    step: usize,
    trouble: u32,
    slow_downs: u32,
    failing_since: Option<Instant>,
    /// Whether one of the failures in a row is a failure to connect.
    not_connected: bool,
    last_failure: Option<Instant>,
    blocked_until: Option<Instant>,
    asked_until: Option<Instant>,
    post_time: Duration,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Too many requests.
    SlowDown,
    /// No usable answer.
    Trouble,
    /// No connection, so no request.
    NotConnected,
}

impl Pace {
    /// The pace at the start of a run.
    pub fn new(limits: Limits, now: Instant) -> Self {
        let clock = GivenClock::default();
        // A quota of one at a time spaces requests evenly, so that no second holds more than
        // the rate.
        let quota = Quota::with_period(limits.post_interval.max(Duration::from_nanos(1)))
            .unwrap_or_else(|| Quota::per_second(std::num::NonZeroU32::MIN));
        Self {
            limits,
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
            start: now,
            posts: 1,
            receives: 1,
            step: FIRST_STEP,
            trouble: 0,
            slow_downs: 0,
            failing_since: None,
            not_connected: false,
            last_failure: None,
            blocked_until: None,
            asked_until: None,
            post_time: Duration::ZERO,
        }
    }

    /// Takes a permit for one post while `under_way` others are. If there is none, says when to
    /// ask again; none if only a finished post can change that.
    pub fn permit_post(&mut self, now: Instant, under_way: usize) -> Result<(), Option<Instant>> {
        if under_way >= self.posts {
            return Err(None);
        }
        if let Some(until) = self.blocked_until(now) {
            return Err(Some(until));
        }
        let since_start = now.saturating_duration_since(self.start);
        self.clock.set(since_start);
        self.limiter
            .check()
            .map_err(|not_until| Some(now + not_until.wait_time_from(Nanos::from(since_start))))
    }

    /// Whether one more receive may start while `under_way` others are and `held` messages are
    /// held.
    pub fn may_receive(&self, now: Instant, under_way: usize, held: usize) -> bool {
        self.blocked_until(now).is_none()
            && self.trouble == 0
            && under_way < self.receives
            && held + (under_way + 1) * MAX_ENTRIES <= self.step
    }

    /// Whether the run still feels its way, so that small posts are better than waiting for
    /// full ones.
    pub const fn is_widening(&self) -> bool {
        self.step < usize::MAX
    }

    /// Until when no post may start, if Iterable asked for that or a back-off runs.
    pub fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.blocked_until.filter(|until| *until > now)
    }

    /// Until when Iterable itself asked for quiet, if that time has not come.
    pub fn asked_until(&self, now: Instant) -> Option<Instant> {
        self.asked_until.filter(|until| *until > now)
    }

    /// Iterable has answered, though it took nothing: it is not down.
    pub const fn answered(&mut self) {
        self.trouble = 0;
        self.slow_downs = 0;
        self.failing_since = None;
        self.not_connected = false;
    }

    /// A post that took `took` has succeeded: wider.
    pub fn succeeded(&mut self, took: Duration) {
        self.answered();
        self.posts = (self.posts * 2).min(self.limits.posts);
        self.receives = (self.receives * WIDENING).min(self.limits.receives);
        let wide = self.limits.receives * MAX_ENTRIES * WIDENING;
        self.step = match self.step.saturating_mul(WIDENING) {
            step if step >= wide => usize::MAX,
            step => step,
        };
        self.post_time = if self.post_time.is_zero() {
            took
        } else {
            (self.post_time * 7 + took) / 8
        };
    }

    /// A post that was sent at `sent_at` has failed: back to one post, later. `dice` is a
    /// number from 0 up to 1.
    pub fn failed(
        &mut self,
        failure: Failure,
        sent_at: Instant,
        now: Instant,
        retry_after: Option<Duration>,
        dice: f64,
    ) {
        self.posts = 1;
        // The first trouble counts even where a request to go slower came before it.
        let new_trouble = failure != Failure::SlowDown && self.trouble == 0;
        let known = !new_trouble && self.last_failure.is_some_and(|last| sent_at <= last);
        if !known {
            self.last_failure = Some(now);
            self.failing_since.get_or_insert(sent_at);
            match failure {
                Failure::SlowDown => self.slow_downs += 1,
                Failure::Trouble | Failure::NotConnected => {
                    self.not_connected |= failure == Failure::NotConnected;
                    self.trouble += 1;
                    self.step = FIRST_STEP;
                    self.receives = 1;
                }
            }
        }
        let doublings = (self.trouble + self.slow_downs).saturating_sub(1).min(16);
        let bound = BACK_OFF.saturating_mul(1 << doublings).min(MAX_BACK_OFF);
        let wait = bound
            .mul_f64(dice.clamp(0.0, 1.0))
            .max(retry_after.unwrap_or_default());
        self.asked_until = self.asked_until.max(retry_after.map(|asked| now + asked));
        let until = now + wait;
        self.blocked_until = Some(
            self.blocked_until
                .map_or(until, |earlier| earlier.max(until)),
        );
    }

    /// Whether Iterable counts as down, so that the run should end.
    pub fn is_broken(&self, now: Instant) -> bool {
        let failing = self
            .failing_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let long = failing >= BREAK_AFTER_TIME;
        let counts = !self.not_connected || failing >= BREAK_AFTER_SPAN;
        (self.trouble >= BREAK_AFTER && counts)
            || self.slow_downs >= BREAK_AFTER_SLOW_DOWNS
            || (long && self.trouble >= BREAK_AFTER_SLOW)
    }

    /// How many requests' worth of events can be sent within a quarter of the queue's
    /// visibility timeout, going by the posts so far. No more is to be held; one at least.
    pub fn requests_within(&self, visibility: Duration) -> usize {
        let parallel = u32::try_from(self.posts).unwrap_or(u32::MAX).max(1);
        let each = (self.post_time / parallel).max(self.limits.post_interval);
        let quarter = visibility / 4;
        let requests = quarter.as_nanos() / each.as_nanos().max(1);
        usize::try_from(requests).unwrap_or(usize::MAX).max(1)
    }
}

/// A clock that shows the time it was given: how long after the run's start.
#[derive(Clone, Debug, Default)]
struct GivenClock(Arc<AtomicU64>);

impl GivenClock {
    fn set(&self, since_start: Duration) {
        self.0
            .store(Nanos::from(since_start).as_u64(), Ordering::Relaxed);
    }
}

impl Clock for GivenClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
