use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use super::Clock;

/// How a project identifies its users (section 1.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProjectType {
    /// The email is unique; a userId can identify a user that has one.
    #[default]
    Email,
    /// The userId is unique and the only identifier.
    #[value(name = "userId")]
    UserId,
    /// Both are unique, and either is sufficient.
    Hybrid,
}

/// Users that exist at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KnownUsers {
    /// Every user with a well-formed email or userId.
    #[default]
    All,
    /// No user.
    None,
    /// Users with these emails or userIds.
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

/// Request limits (section 1.3).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests per second to `events/trackBulk`, `None` for no limit. Default 10, documented.
    pub track_bulk_rate: Option<u32>,
    /// Requests per second to `users/bulkUpdate`, `None` for no limit. Default 5, documented.
    pub bulk_update_rate: Option<u32>,
    /// Events in one `events/trackBulk`. Default 1,000, as other clients use; not documented.
    pub events_per_request: usize,
    /// Bytes of one `events/trackBulk`. Default 4,000,000, as other clients use; not documented.
    pub track_bulk_bytes: usize,
    /// Bytes of one `users/bulkUpdate`. Default 4 MB, documented.
    pub bulk_update_bytes: usize,
    /// Unique fields of all custom events. Default 8,000, documented as a soft limit.
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

/// Answer to a request over the limit of events or bytes.
///
/// It is unconfirmed which of the two Iterable sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooLarge {
    /// 400 with code `BatchTooLarge`.
    #[default]
    BatchTooLarge,
    /// 413 with an HTML page, as from a proxy in front of Iterable.
    PayloadTooLarge,
}

/// Keys in a 200 of `events/trackBulk`: all except the counts can be missing (section 1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    /// Every documented key; a list contains an identifier once per rejected event.
    #[default]
    Full,
    /// Only `successCount` and `failCount`, which don't identify the rejected events.
    Omitted,
    /// Only `successCount`.
    SuccessCountOnly,
}

/// Variants of Iterable's answers that are unconfirmed or vary.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Answer to a request that is too large.
    pub too_large: TooLarge,
    /// Keys in a 200.
    pub lists: Lists,
    /// Whether the deprecated `invalidEmails` and `invalidUserIds` repeat the lists of
    /// `failedUpdates` (section 1.4).
    pub deprecated_lists: bool,
    /// Whether emails are returned in lower case instead of as sent (section 1.4).
    pub lower_case_emails: bool,
    /// Whether `BadJsonBody` contains the index after the offending one, as RudderStack recorded
    /// (section 1.9).
    pub index_off_by_one: bool,
    /// Whether a gzip body is rejected as malformed JSON. It is unconfirmed whether Iterable
    /// accepts gzip (section 1.1).
    pub reject_gzip: bool,
    /// `Retry-After` of a 429, in seconds. If unset, the header is omitted, because it is
    /// unconfirmed (section 1.3).
    pub retry_after: Option<u32>,
}

/// Amount of history to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// All events and requests.
    #[default]
    Full,
    /// Event IDs with their number of writes, and requests without headers and bodies, for large
    /// runs.
    CountsOnly,
}

/// Options of the fake Iterable server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address to listen on. Default a free port of the loopback address.
    pub listen: SocketAddr,
    /// Accepted API keys. Default `test-key`.
    pub api_keys: Vec<String>,
    /// Type of the project.
    pub project_type: ProjectType,
    /// Users that exist at the start.
    pub known_users: KnownUsers,
    /// Time after `users/bulkUpdate` until a new user is known. Iterable documents 60 s
    /// (section 1.7).
    pub user_visible_after: Duration,
    /// Users, by email or userId, that Iterable was asked to forget.
    pub forgotten_users: Vec<String>,
    /// Event names that the project rejects.
    pub disallowed_event_names: Vec<String>,
    /// Request limits.
    pub limits: Limits,
    /// Variants of the answers.
    pub answers: Answers,
    /// Delay of every answer.
    pub latency: Duration,
    /// Amount of history to keep.
    pub history: History,
    /// Clock for rates, the visibility of users and the history.
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
