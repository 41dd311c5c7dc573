use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use super::Clock;

/// How a project names its users (section 1.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProjectType {
    /// Email is unique; a userId may name a user that has one.
    #[default]
    Email,
    /// The userId is unique and the only name.
    #[value(name = "userId")]
    UserId,
    /// Both are unique, either is enough.
    Hybrid,
}

/// Whom the project knows at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KnownUsers {
    /// Everyone with a well-formed email or userId.
    #[default]
    All,
    /// Nobody.
    None,
    /// The users with these emails or userIds.
    Listed(Vec<String>),
}

impl FromStr for KnownUsers {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "all" => Self::All,
            "none" => Self::None,
            names => Self::Listed(names.split(',').map(str::to_owned).collect()),
        })
    }
}

/// The limits of section 1.3.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests a second to `events/trackBulk`: 10, official. `None` for no limit.
    pub track_bulk_rate: Option<u32>,
    /// Requests a second to `users/bulkUpdate`: 5, official. `None` for no limit.
    pub bulk_update_rate: Option<u32>,
    /// Events in one `events/trackBulk`: 1,000, as others split; no official number.
    pub events_per_request: usize,
    /// Bytes of one `events/trackBulk`: 4,000,000, as others split; no official number.
    pub track_bulk_bytes: usize,
    /// Bytes of one `users/bulkUpdate`: 4 MB, official.
    pub bulk_update_bytes: usize,
    /// Unique fields over all custom events: 8,000, official and soft.
    pub unique_fields: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            track_bulk_rate: Some(10),
            bulk_update_rate: Some(5),
            events_per_request: 1_000,
            track_bulk_bytes: 4_000_000,
            bulk_update_bytes: 4_000_000,
            unique_fields: 8_000,
        }
    }
}

/// What a request past the limits of count or bytes is answered; which of the two Iterable does is unconfirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooLarge {
    /// 400 with code `BatchTooLarge`.
    #[default]
    BatchTooLarge,
    /// 413 with an HTML page, as a proxy in front would.
    PayloadTooLarge,
}

/// How much of a 200 of `events/trackBulk` is given (section 1.4: all but the counts may be missing).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    /// Every documented key; an identifier stands in its list once for each of its events that was refused.
    #[default]
    Full,
    /// Only `successCount` and `failCount`, so nothing tells who was refused.
    Omitted,
    /// Only `successCount`.
    SuccessCountOnly,
}

/// How Iterable words its answers, where that is unconfirmed or varies.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// The answer to a request that is too large.
    pub too_large: TooLarge,
    /// How much a 200 says.
    pub lists: Lists,
    /// The deprecated `invalidEmails` and `invalidUserIds` repeat what `failedUpdates` lists (section 1.4).
    pub deprecated_doubles: bool,
    /// Emails come back in lower case instead of as sent (section 1.4).
    pub lower_case_emails: bool,
    /// `BadJsonBody` names the index after the culprit's, as RudderStack recorded (section 1.9).
    pub index_off_by_one: bool,
    /// A body in gzip is taken for broken JSON instead of being read: whether Iterable reads one is unconfirmed (section 1.1).
    pub refuse_gzip: bool,
    /// The `Retry-After` of a 429, in seconds (section 1.3: unconfirmed, so none).
    pub retry_after: Option<u32>,
}

/// How much of the history is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// Everything.
    #[default]
    Full,
    /// Event ids and how often each was written, and requests without headers and bodies: for large runs.
    CountsOnly,
}

/// What the stand-in is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen: a free port of the loopback address.
    pub listen: SocketAddr,
    /// The keys that are accepted: `test-key`.
    pub api_keys: Vec<String>,
    /// The project's type.
    pub project_type: ProjectType,
    /// Who is known at the start.
    pub known_users: KnownUsers,
    /// How long after `users/bulkUpdate` a new user becomes known; Iterable asks for 60 s (section 1.7).
    pub user_visible_after: Duration,
    /// Users, by email or userId, that asked to be forgotten.
    pub forgotten_users: Vec<String>,
    /// Event names that the project refuses.
    pub disallowed_event_names: Vec<String>,
    /// Its limits.
    pub limits: Limits,
    /// Its way of answering.
    pub answers: Answers,
    /// How long every answer is held back.
    pub latency: Duration,
    /// How much of the history is kept.
    pub history: History,
    /// What time it is, for rates, the visibility of users and the history.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            api_keys: vec!["test-key".to_owned()],
            project_type: ProjectType::default(),
            known_users: KnownUsers::default(),
            user_visible_after: Duration::ZERO,
            forgotten_users: Vec::new(),
            disallowed_event_names: Vec::new(),
            limits: Limits::default(),
            answers: Answers::default(),
            latency: Duration::ZERO,
            history: History::default(),
            clock: Clock::default(),
        }
    }
}
