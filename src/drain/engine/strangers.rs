//! Users that Iterable doesn't know and that the run makes known, where the forwarder wants that.
//!
//! Iterable asks for a minute between the making of a user and what depends on it, so the
//! messages of such users stay in the queue for that long, and come again in this run or the
//! next.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Action, Content, Engine, Parcel};
use crate::{
    api::UnknownUserPolicy,
    drain::report::Outcome,
    iterable::{ApiResponse, NewUser},
    mapping::User,
};

/// How long Iterable takes until a user that was made is known to its other endpoints.
const VISIBLE_AFTER: Duration = Duration::from_secs(60);

/// The most users of one request, and the most users that a run makes.
const MAX_PER_REQUEST: usize = 1_000;
const MAX_USERS: usize = 50_000;

/// How often a request is tried.
const MAX_TRIES: u32 = 4;

/// The unknown users that a run has met.
#[derive(Debug, Default)]
pub struct Strangers {
    met: HashMap<NewUser, Option<Instant>>,
    wanted: VecDeque<NewUser>,
    is_asking: bool,
    tries: u32,
    not_before: Option<Instant>,
}

impl Strangers {
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty() && !self.is_asking
    }

    /// Wants a user to be made. False if that was tried before, or if there are too many.
    fn want(&mut self, user: NewUser) -> bool {
        if let Some(made) = self.met.get(&user) {
            return made.is_none();
        }
        if self.met.len() >= MAX_USERS {
            return false;
        }
        self.met.insert(user.clone(), None);
        self.wanted.push_back(user);
        true
    }
}

fn new_user(user: User<'_>) -> NewUser {
    match user {
        User::Email(email) => NewUser::Email(email.to_owned()),
        User::UserId(user_id) => NewUser::UserId(user_id.to_owned()),
    }
}

impl Engine {
    /// Notes an unknown user. True if its message is to come again once the user was made.
    pub(super) fn meet(&mut self, user: User<'_>) -> bool {
        self.config.unknown_users == UnknownUserPolicy::Create
            && !self.is_stopping()
            && self.strangers.want(new_user(user))
    }

    /// Whether a message that was left may be sent again: all its users that this run has made
    /// are known by now. One whose payload lies elsewhere waits for the next run.
    pub(super) fn may_send_again(&self, parcel: &Parcel, now: Instant) -> bool {
        let Content::Here(Ok(mapped)) = &parcel.content else {
            return false;
        };
        let mut made = mapped
            .events
            .iter()
            .filter_map(|event| self.strangers.met.get(&new_user(event.user())))
            .peekable();
        made.peek().is_some() && made.all(|at| at.is_some_and(|at| now >= at + VISIBLE_AFTER))
    }

    /// How long the message of a user that is being made stays away.
    pub(super) fn away(&self) -> Duration {
        (VISIBLE_AFTER + Duration::from_secs(5)).max(self.config.visibility)
    }

    pub(super) fn create_users(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_stopping() {
            self.strangers.wanted.clear();
        }
        let strangers = &mut self.strangers;
        if strangers.is_asking || strangers.wanted.is_empty() {
            return;
        }
        if let Some(at) = strangers.not_before.filter(|at| *at > now) {
            return self.wake_by(at);
        }
        // More may come with the answers to posts that are under way.
        if strangers.wanted.len() < MAX_PER_REQUEST && self.posting > 0 {
            return;
        }
        let count = strangers.wanted.len().min(MAX_PER_REQUEST);
        strangers.is_asking = true;
        actions.push(Action::CreateUsers(
            strangers.wanted.drain(..count).collect(),
        ));
    }

    pub(super) fn created_users(&mut self, users: Vec<NewUser>, answer: ApiResponse, now: Instant) {
        self.strangers.is_asking = false;
        self.strangers.not_before = Some(now + self.config.users_interval);
        let wait = match answer {
            // Those that were refused are found out when their events are sent again.
            ApiResponse::Accepted(_) => {
                self.strangers.tries = 0;
                for user in users {
                    self.tally.reason("UserCreated");
                    self.strangers.met.insert(user, Some(now));
                }
                return;
            }
            ApiResponse::Unauthorized(refusal) => {
                self.tally.notice(format!(
                    "Iterable rejected the API key for users/bulkUpdate ({refusal}): use a \
                     server-side key, or set spec.iterable.unknownUsers to Retry"
                ));
                return self.stop(Outcome::ApiKeyRejected, now);
            }
            ApiResponse::RateLimited { retry_after }
            | ApiResponse::Unavailable { retry_after, .. } => {
                let backoff = Duration::from_millis(500 << self.strangers.tries.min(6));
                backoff
                    .mul_f64(self.dice.f64())
                    .max(retry_after.unwrap_or_default())
            }
            ApiResponse::Rejected(refusal) | ApiResponse::WrongEndpoint(refusal) => {
                self.tally
                    .notice(format!("Iterable created no users ({refusal})"));
                self.strangers.tries = MAX_TRIES;
                Duration::ZERO
            }
            ApiResponse::TooLarge => {
                self.strangers.tries = MAX_TRIES;
                Duration::ZERO
            }
        };
        self.strangers.tries += 1;
        self.strangers.not_before = Some(now + wait.max(self.config.users_interval));
        if self.strangers.tries < MAX_TRIES {
            users
                .into_iter()
                .rev()
                .for_each(|user| self.strangers.wanted.push_front(user));
        } else {
            // Their messages stay, as with Retry.
            self.strangers.tries = 0;
            for user in users {
                self.tally.reason("UserNotCreated");
                self.strangers.met.insert(user, None);
            }
        }
    }
}
