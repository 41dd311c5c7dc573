use serde_json::Value;

/// What an answer names as refused: identifiers and names, never indexes or ids of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedIdentifiers {
    /// Identifiers with the reason of the list in which they stand.
    pub users: Vec<FailedIdentifier>,
    /// Names of events that the project refuses.
    pub names: Vec<String>,
}

/// One identifier in one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedIdentifier {
    /// The identifier, as the answer has it.
    pub identifier: String,
    /// Which kind of identifier it is.
    pub kind: UserKind,
    /// Why it is listed.
    pub reason: ListReason,
    /// Whether the list is one of the deprecated doubles beside `failedUpdates`.
    pub deprecated: bool,
}

/// A kind of identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// An email address.
    Email,
    /// A userId.
    UserId,
    /// The list doesn't say.
    Either,
}

/// Why an event was refused by name of its user or of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListReason {
    /// No such user: maybe not yet.
    UserNotFound,
    /// No email address by Iterable's rules.
    InvalidEmail,
    /// No userId by Iterable's rules.
    InvalidUserId,
    /// Forgotten on request (GDPR): will never be taken.
    UserForgotten,
    /// The email belongs to one user and the userId to another.
    UserConflict,
    /// The user's data was refused.
    InvalidUserData,
    /// The project doesn't take events of this name.
    DisallowedEventName,
    /// A list that this program does not know.
    RejectedByIterable,
}

impl ListReason {
    /// One PascalCase word, the same in reports, attributes of dead letters and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserNotFound => "UserNotFound",
            Self::InvalidEmail => "InvalidEmail",
            Self::InvalidUserId => "InvalidUserId",
            Self::UserForgotten => "UserForgotten",
            Self::UserConflict => "UserConflict",
            Self::InvalidUserData => "InvalidUserData",
            Self::DisallowedEventName => "DisallowedEventName",
            Self::RejectedByIterable => "RejectedByIterable",
        }
    }
}

impl FailedIdentifiers {
    /// Reads the lists of a `BulkTrackResponse`. Unknown lists of texts under `failedUpdates`
    /// are refusals too; unknown keys elsewhere are passed over.
    pub(super) fn read(body: &Value) -> Self {
        let mut listed = Self::default();
        for (list, entries) in body["failedUpdates"].as_object().into_iter().flatten() {
            listed.add(list, entries, false);
        }
        for list in ["invalidEmails", "invalidUserIds"] {
            listed.add(list, &body[list], true);
        }
        listed.names = texts(&body["disallowedEventNames"])
            .map(str::to_owned)
            .collect();
        listed
    }

    fn add(&mut self, list: &str, entries: &Value, deprecated: bool) {
        let kind = if list.ends_with("Emails") {
            UserKind::Email
        } else if list.ends_with("UserIds") {
            UserKind::UserId
        } else {
            UserKind::Either
        };
        let reason = match list {
            // Beside `failedUpdates`, invalidUserIds is described as "not found".
            "invalidUserIds" if deprecated => ListReason::UserNotFound,
            "invalidEmails" => ListReason::InvalidEmail,
            "invalidUserIds" => ListReason::InvalidUserId,
            "notFoundEmails" | "notFoundUserIds" => ListReason::UserNotFound,
            "forgottenEmails" | "forgottenUserIds" => ListReason::UserForgotten,
            "conflictEmails" | "conflictUserIds" => ListReason::UserConflict,
            "invalidDataEmails" | "invalidDataUserIds" => ListReason::InvalidUserData,
            _ => ListReason::RejectedByIterable,
        };
        self.users
            .extend(texts(entries).map(|identifier| FailedIdentifier {
                identifier: identifier.to_owned(),
                kind,
                reason,
                deprecated,
            }));
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.names.is_empty()
    }
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
