use serde_json::Value;

/// Identifiers and event names that a response lists as rejected. It never lists event indexes or
/// IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedIdentifiers {
    /// Identifiers, each with the reason of its list.
    pub users: Vec<FailedIdentifier>,
    /// Event names that the project disallows.
    pub names: Vec<String>,
}

/// One identifier in one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedIdentifier {
    /// The identifier, as in the response.
    pub identifier: String,
    /// The kind of identifier.
    pub kind: UserKind,
    /// Why it is listed.
    pub reason: ListReason,
    /// Whether the list is a deprecated one outside `failedUpdates`.
    pub deprecated: bool,
}

/// A kind of identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    /// An email address.
    Email,
    /// A userId.
    UserId,
    /// The list does not specify it.
    Either,
}

/// Why Iterable rejected an event that the response lists by user or by event name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListReason {
    /// The user does not exist, or not yet.
    UserNotFound,
    /// Not an email address by Iterable's rules.
    InvalidEmail,
    /// Not a userId by Iterable's rules.
    InvalidUserId,
    /// Forgotten on request (GDPR): will never be accepted.
    UserForgotten,
    /// The email belongs to one user and the userId to another.
    UserConflict,
    /// The user's data was rejected.
    InvalidUserData,
    /// The project disallows events with this name.
    DisallowedEventName,
    /// A list with an unknown name.
    RejectedByIterable,
}

impl ListReason {
    /// Returns the reason in PascalCase, as in reports, dead-letter attributes, and metrics.
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
    /// Reads the lists of a `BulkTrackResponse`. Unknown lists of strings under `failedUpdates`
    /// count as rejections too. Ignores unknown keys elsewhere.
    pub(super) fn read(body: &Value) -> Self {
        let mut listed = Self::default();
        for (list, entries) in body["failedUpdates"].as_object().into_iter().flatten() {
            listed.add(list, entries, false);
        }
        for list in ["invalidEmails", "invalidUserIds"] {
            listed.add(list, &body[list], true);
        }
        listed.names = strings(&body["disallowedEventNames"])
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
            // Outside `failedUpdates`, the API documents invalidUserIds as "not found".
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
            .extend(strings(entries).map(|identifier| FailedIdentifier {
                identifier: identifier.to_owned(),
                kind,
                reason,
                deprecated,
            }));
    }

    /// Returns whether the response lists nothing.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.names.is_empty()
    }
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
