//! Request bodies of the two endpoints (sections 1.2 and 1.10). Errors contain the path of every
//! value with a wrong type.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::users::Identifier;

/// One event of `events/trackBulk`.
#[derive(Debug)]
pub(super) struct TrackRequest<'a> {
    pub(super) event_name: &'a str,
    pub(super) email: Option<&'a str>,
    pub(super) user_id: Option<&'a str>,
    pub(super) id: Option<&'a str>,
    pub(super) data_fields: Option<&'a Map<String, Value>>,
    pub(super) create_new_fields: Option<bool>,
    pub(super) all: &'a Value,
}

/// One user of `users/bulkUpdate`.
#[derive(Debug)]
pub(super) struct UserUpdate<'a> {
    pub(super) email: Option<&'a str>,
    pub(super) user_id: Option<&'a str>,
    pub(super) prefer_user_id: bool,
}

/// Expected types by the path of a wrong value, such as `obj.events[1].createdAt`.
pub(super) type Expected = BTreeMap<String, &'static str>;

/// Parses the events of a request; adds `index_shift` to the index in a path.
pub(super) fn events(body: &Value, index_shift: usize) -> Result<Vec<TrackRequest<'_>>, Expected> {
    parse_array(body, "events", index_shift, |object, all| {
        let event = TrackRequest {
            event_name: object.required("eventName", Value::as_str, "String value expected")?,
            email: object.string("email"),
            user_id: object.string("userId"),
            id: object.string("id"),
            data_fields: object.optional("dataFields", Value::as_object, "Object value expected"),
            create_new_fields: object.boolean("createNewFields"),
            all,
        };
        // Section 1.2: int64, so a fraction is rejected too.
        for name in ["createdAt", "campaignId", "templateId"] {
            object.optional(name, Value::as_i64, "Number value expected");
        }
        Some(event)
    })
}

/// Parses the users of a request; adds `index_shift` to the index in a path.
pub(super) fn users(body: &Value, index_shift: usize) -> Result<Vec<UserUpdate<'_>>, Expected> {
    parse_array(body, "users", index_shift, |object, _| {
        object.optional("dataFields", Value::as_object, "Object value expected");
        Some(UserUpdate {
            email: object.string("email"),
            user_id: object.string("userId"),
            prefer_user_id: object.boolean("preferUserId").unwrap_or(false),
        })
    })
}

impl<'a> TrackRequest<'a> {
    /// Returns the user's identifier.
    ///
    /// If both are sent, the email takes precedence, except in a userId-based project
    /// (section 1.7).
    pub(super) fn user(&self, by_user_id_only: bool) -> Option<Identifier<'a>> {
        identifier(self.email, self.user_id, by_user_id_only)
    }

    /// Returns whether the ID has only letters, digits and hyphens, and 512 bytes at most
    /// (section 1.6).
    pub(super) fn has_valid_id(&self) -> bool {
        self.id.is_none_or(|id| {
            (1..=512).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
    }
}

impl<'a> UserUpdate<'a> {
    pub(super) fn user(&self, by_user_id_only: bool) -> Option<Identifier<'a>> {
        identifier(self.email, self.user_id, by_user_id_only)
    }
}

fn identifier<'a>(
    email: Option<&'a str>,
    user_id: Option<&'a str>,
    by_user_id_only: bool,
) -> Option<Identifier<'a>> {
    let email = email.map(Identifier::Email);
    let user_id = user_id.map(Identifier::UserId);
    if by_user_id_only {
        user_id.or(email)
    } else {
        email.or(user_id)
    }
}

fn parse_array<'a, T>(
    body: &'a Value,
    list: &str,
    index_shift: usize,
    read: impl Fn(&mut Fields<'a, '_>, &'a Value) -> Option<T>,
) -> Result<Vec<T>, Expected> {
    let mut expected = Expected::new();
    let Some(entries) = body.get(list).and_then(Value::as_array) else {
        expected.insert(format!("obj.{list}"), "Array value expected");
        return Err(expected);
    };
    let mut all = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let path = || format!("obj.{list}[{}]", index + index_shift);
        match entry.as_object() {
            Some(object) => all.extend(read(
                &mut Fields {
                    object,
                    path: &path,
                    expected: &mut expected,
                },
                entry,
            )),
            None => {
                expected.insert(path(), "Object value expected");
            }
        }
    }
    if expected.is_empty() {
        Ok(all)
    } else {
        Err(expected)
    }
}

/// The fields of one entry, and the collected type errors.
struct Fields<'a, 'e> {
    object: &'a Map<String, Value>,
    path: &'e dyn Fn() -> String,
    expected: &'e mut Expected,
}

impl<'a> Fields<'a, '_> {
    fn required<T>(
        &mut self,
        name: &str,
        read: fn(&'a Value) -> Option<T>,
        or: &'static str,
    ) -> Option<T> {
        let value = self.object.get(name).and_then(read);
        if value.is_none() {
            self.expected
                .insert(format!("{}.{name}", (self.path)()), or);
        }
        value
    }

    /// Reads a field; `null` counts as omitted.
    fn optional<T>(
        &mut self,
        name: &str,
        read: fn(&'a Value) -> Option<T>,
        or: &'static str,
    ) -> Option<T> {
        match self.object.get(name) {
            None | Some(Value::Null) => None,
            Some(_) => self.required(name, read, or),
        }
    }

    fn string(&mut self, name: &str) -> Option<&'a str> {
        self.optional(name, Value::as_str, "String value expected")
    }

    fn boolean(&mut self, name: &str) -> Option<bool> {
        self.optional(name, Value::as_bool, "Boolean value expected")
    }
}
