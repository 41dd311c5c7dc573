//! What the two endpoints take (sections 1.2 and 1.10), read from JSON with every wrong type named by its place.

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

/// What was expected, by the place where something else was, such as `obj.events[1].createdAt`.
pub(super) type Expected = BTreeMap<String, &'static str>;

/// The events of a request; `index_shift` is added to the index in a place.
pub(super) fn events(body: &Value, index_shift: usize) -> Result<Vec<TrackRequest<'_>>, Expected> {
    read_list(body, "events", index_shift, |object, all| {
        let event = TrackRequest {
            event_name: object.required("eventName", Value::as_str, "String value expected")?,
            email: object.text("email"),
            user_id: object.text("userId"),
            id: object.text("id"),
            data_fields: object.optional("dataFields", Value::as_object, "Object value expected"),
            create_new_fields: object.flag("createNewFields"),
            all,
        };
        // Section 1.2: int64, so a fraction is refused as well.
        for name in ["createdAt", "campaignId", "templateId"] {
            object.optional(name, Value::as_i64, "Number value expected");
        }
        Some(event)
    })
}

/// The users of a request.
pub(super) fn users(body: &Value, index_shift: usize) -> Result<Vec<UserUpdate<'_>>, Expected> {
    read_list(body, "users", index_shift, |object, _| {
        object.optional("dataFields", Value::as_object, "Object value expected");
        Some(UserUpdate {
            email: object.text("email"),
            user_id: object.text("userId"),
            prefer_user_id: object.flag("preferUserId").unwrap_or(false),
        })
    })
}

impl<'a> TrackRequest<'a> {
    /// Section 1.7: if both are sent, email picks the user, but in a project that has only userIds.
    pub(super) fn user(&self, by_user_id_only: bool) -> Option<Identifier<'a>> {
        pick(self.email, self.user_id, by_user_id_only)
    }

    /// Section 1.6: letters, digits and hyphens, 512 bytes at most.
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
        pick(self.email, self.user_id, by_user_id_only)
    }
}

fn pick<'a>(
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

fn read_list<'a, T>(
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
        let place = || format!("obj.{list}[{}]", index + index_shift);
        match entry.as_object() {
            Some(object) => all.extend(read(
                &mut Fields {
                    object,
                    place: &place,
                    expected: &mut expected,
                },
                entry,
            )),
            None => {
                expected.insert(place(), "Object value expected");
            }
        }
    }
    if expected.is_empty() {
        Ok(all)
    } else {
        Err(expected)
    }
}

/// The fields of one entry, and where to note those of a wrong type.
struct Fields<'a, 'e> {
    object: &'a Map<String, Value>,
    place: &'e dyn Fn() -> String,
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
                .insert(format!("{}.{name}", (self.place)()), or);
        }
        value
    }

    /// `null` is taken as left out.
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

    fn text(&mut self, name: &str) -> Option<&'a str> {
        self.optional(name, Value::as_str, "String value expected")
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        self.optional(name, Value::as_bool, "Boolean value expected")
    }
}
