//! The project's state and its answers. No I/O, and the time is an argument.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    History, Lists, Options, ProjectType, TooLarge,
    events::Events,
    rate::LeakyBucket,
    rejection::Rejection,
    request::{self, TrackRequest, UserUpdate},
    schema::{FieldChanges, Schema},
    users::{Identifier, UserRejection, Users},
};

/// The endpoints of the fake Iterable server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    TrackBulk,
    BulkUpdate,
}

impl Endpoint {
    pub(super) const ALL: [Self; 2] = [Self::TrackBulk, Self::BulkUpdate];

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::TrackBulk => "/api/events/trackBulk",
            Self::BulkUpdate => "/api/users/bulkUpdate",
        }
    }
}

/// A received request.
pub(super) struct Incoming<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) api_key: Option<&'a str>,
    pub(super) ip: String,
    pub(super) bytes: usize,
    /// `None` if it is not valid JSON.
    pub(super) body: Option<&'a Value>,
}

/// The state of the project.
#[derive(Debug)]
pub(super) struct Project {
    options: Options,
    track_bulk_bucket: LeakyBucket,
    bulk_update_bucket: LeakyBucket,
    pub(super) users: Users,
    pub(super) disallowed_event_names: HashSet<String>,
    pub(super) events: Events,
    schema: Schema,
}

impl Project {
    pub(super) fn new(options: Options) -> Self {
        let now = options.clock.now();
        Self {
            track_bulk_bucket: LeakyBucket::new(options.limits.track_bulk_rate, now),
            bulk_update_bucket: LeakyBucket::new(options.limits.bulk_update_rate, now),
            users: Users::new(&options.known_users, &options.forgotten_users),
            disallowed_event_names: options.disallowed_event_names.iter().cloned().collect(),
            events: Events::default(),
            schema: Schema::new(options.limits.unique_fields),
            options,
        }
    }

    /// Processes a request and returns the body of a 200.
    ///
    /// # Errors
    /// Fails if the complete request is rejected.
    pub(super) fn answer(
        &mut self,
        request: &Incoming<'_>,
        now: Timestamp,
    ) -> Result<Value, Rejection> {
        let endpoint = || request.endpoint.path().to_owned();
        let is_accepted = |key: &str| self.options.api_keys.iter().any(|accepted| accepted == key);
        if !request.api_key.is_some_and(is_accepted) {
            return Err(Rejection::BadApiKey {
                ip: request.ip.clone(),
                endpoint: endpoint(),
            });
        }
        let limits = &self.options.limits;
        let (bucket, max_bytes) = match request.endpoint {
            Endpoint::TrackBulk => (&mut self.track_bulk_bucket, limits.track_bulk_bytes),
            Endpoint::BulkUpdate => (&mut self.bulk_update_bucket, limits.bulk_update_bytes),
        };
        if !bucket.admits(now) {
            return Err(Rejection::RateLimitExceeded {
                endpoint: endpoint(),
            });
        }
        if request.bytes > max_bytes {
            return Err(self.too_large(request.endpoint));
        }
        let bad_json = |expected| Rejection::BadJsonBody {
            endpoint: endpoint(),
            expected,
        };
        let body = request.body.ok_or_else(|| bad_json(BTreeMap::new()))?;
        let index_shift = usize::from(self.options.answers.index_off_by_one);
        match request.endpoint {
            Endpoint::TrackBulk => {
                self.track(&request::events(body, index_shift).map_err(bad_json)?, now)
            }
            Endpoint::BulkUpdate => {
                Ok(self.update(&request::users(body, index_shift).map_err(bad_json)?, now))
            }
        }
    }

    fn track(&mut self, events: &[TrackRequest<'_>], now: Timestamp) -> Result<Value, Rejection> {
        let endpoint = || Endpoint::TrackBulk.path().to_owned();
        if events.len() > self.options.limits.events_per_request {
            return Err(self.too_large(Endpoint::TrackBulk));
        }
        // The answers to an invalid ID and to an event without a user are unconfirmed (sections
        // 1.2 and 1.6).
        if let Some(event) = events.iter().find(|event| !event.has_valid_id()) {
            return Err(Rejection::BadParams {
                endpoint: endpoint(),
                reason: format!("Invalid event id: {}", event.id.unwrap_or_default()),
            });
        }
        let by_user_id_only = self.options.project_type == ProjectType::UserId;
        let users = events.iter().map(|event| event.user(by_user_id_only));
        let Some(users) = users.collect::<Option<Vec<_>>>() else {
            return Err(Rejection::BadParams {
                endpoint: endpoint(),
                reason: "email or userId is required".to_owned(),
            });
        };
        let changes = self.schema.add_fields(events)?;

        let mut outcome = Outcome::default();
        for (event, user) in events.iter().zip(users) {
            if self.disallowed_event_names.contains(event.event_name) {
                outcome.disallow(event.event_name);
            } else if let Err(reason) = self.find(user, now) {
                outcome.reject(user, reason);
            } else {
                let stored = match self.options.history {
                    History::Full => self.without_dropped_fields(event),
                    History::CountsOnly => Value::Null,
                };
                self.events.write(event.id, stored);
                outcome.success += 1;
            }
        }
        Ok(self.track_bulk_answer(outcome, &changes))
    }

    fn update(&mut self, updates: &[UserUpdate<'_>], now: Timestamp) -> Value {
        let project_type = self.options.project_type;
        let mut outcome = Outcome::default();
        for update in updates {
            let Some(user) = update.user(project_type == ProjectType::UserId) else {
                outcome.fail += 1;
                continue;
            };
            // Section 1.7: an email-based project creates a user from a userId only with
            // `preferUserId`. A userId-based project creates no user from an email.
            let creatable = match user {
                Identifier::Email(_) => project_type != ProjectType::UserId,
                Identifier::UserId(_) => {
                    project_type != ProjectType::Email || update.prefer_user_id
                }
            };
            let created = self.users.check(user).and_then(|()| {
                if creatable {
                    Ok(())
                } else {
                    self.users.exists(user, now)
                }
            });
            match created {
                Ok(()) => {
                    let from = now + self.options.user_visible_after;
                    self.users.add(user, from);
                    if let Some(user_id) = update.user_id {
                        self.users.add(Identifier::UserId(user_id), from);
                    }
                    outcome.success += 1;
                }
                Err(reason) => outcome.reject(user, reason),
            }
        }
        self.bulk_update_answer(outcome)
    }

    fn too_large(&self, endpoint: Endpoint) -> Rejection {
        match self.options.answers.too_large {
            TooLarge::PayloadTooLarge => Rejection::PayloadTooLarge,
            TooLarge::BatchTooLarge => Rejection::BatchTooLarge {
                endpoint: endpoint.path().to_owned(),
            },
        }
    }

    /// Checks that the user exists. In a userId-based project, no email identifies a user
    /// (section 1.7).
    fn find(&self, user: Identifier<'_>, now: Timestamp) -> Result<(), UserRejection> {
        match user {
            Identifier::Email(_) if self.options.project_type == ProjectType::UserId => {
                self.users.check(user).and(Err(UserRejection::NotFound))
            }
            _ => self.users.exists(user, now),
        }
    }

    fn without_dropped_fields(&self, event: &TrackRequest<'_>) -> Value {
        let mut stored = event.all.clone();
        if let Some(fields) = stored.get_mut("dataFields").and_then(Value::as_object_mut) {
            fields.retain(|name, _| !self.schema.drops(event, name));
        }
        stored
    }

    /// Builds a `BulkTrackResponse` (section 1.4).
    fn track_bulk_answer(&self, outcome: Outcome, changes: &FieldChanges) -> Value {
        let answers = &self.options.answers;
        let (success, fail) = (outcome.success, outcome.fail);
        match answers.lists {
            Lists::SuccessCountOnly => return json!({ "successCount": success }),
            Lists::Omitted => return json!({ "successCount": success, "failCount": fail }),
            Lists::Full => {}
        }
        let lists = outcome.lists(
            answers.lower_case_emails,
            &["invalid", "notFound", "forgotten"],
        );
        let deprecated = |names: &[&str]| -> Vec<&Value> {
            let listed = names
                .iter()
                .filter_map(|name| lists[*name].as_array())
                .flatten();
            if answers.deprecated_lists {
                listed.collect()
            } else {
                Vec::new()
            }
        };
        json!({
            "successCount": success,
            "failCount": fail,
            "invalidEmails": deprecated(&["invalidEmails"]),
            // Documented as the users that were not found (section 1.4).
            "invalidUserIds": deprecated(&["invalidUserIds", "notFoundUserIds"]),
            "filteredOutFields": changes.filtered_out,
            "createdFields": changes.created,
            "disallowedEventNames": outcome.disallowed_event_names,
            "failedUpdates": lists,
        })
    }

    /// Builds the response for users, which has four more lists than the one for events
    /// (section 1.4).
    fn bulk_update_answer(&self, outcome: Outcome) -> Value {
        let kinds = [
            "invalid",
            "notFound",
            "forgotten",
            "conflict",
            "invalidData",
        ];
        json!({
            "successCount": outcome.success,
            "failCount": outcome.fail,
            "filteredOutFields": [],
            "createdFields": [],
            "failedUpdates": outcome.lists(self.options.answers.lower_case_emails, &kinds),
        })
    }
}

/// The results for the entries of a request.
#[derive(Debug, Default)]
struct Outcome {
    success: u32,
    fail: u32,
    rejected: Vec<(&'static str, String)>,
    disallowed_event_names: Vec<String>,
}

impl Outcome {
    fn reject(&mut self, user: Identifier<'_>, reason: UserRejection) {
        let list = match (reason, user) {
            (UserRejection::Invalid, Identifier::Email(_)) => "invalidEmails",
            (UserRejection::Invalid, Identifier::UserId(_)) => "invalidUserIds",
            (UserRejection::NotFound, Identifier::Email(_)) => "notFoundEmails",
            (UserRejection::NotFound, Identifier::UserId(_)) => "notFoundUserIds",
            (UserRejection::Forgotten, Identifier::Email(_)) => "forgottenEmails",
            (UserRejection::Forgotten, Identifier::UserId(_)) => "forgottenUserIds",
        };
        self.fail += 1;
        self.rejected.push((list, user.as_str().to_owned()));
    }

    fn disallow(&mut self, event_name: &str) {
        self.fail += 1;
        self.disallowed_event_names.push(event_name.to_owned());
    }

    /// Builds the lists of `failedUpdates`: per kind, one of emails and one of userIds.
    fn lists(&self, lower_case_emails: bool, kinds: &[&str]) -> Value {
        let list_named = |name: &str| {
            let rejected = self.rejected.iter().filter(|(list, _)| *list == name);
            Value::Array(
                rejected
                    .map(
                        |(_, user)| match name.ends_with("Emails") && lower_case_emails {
                            true => user.to_lowercase().into(),
                            false => user.clone().into(),
                        },
                    )
                    .collect(),
            )
        };
        kinds
            .iter()
            .flat_map(|kind| [format!("{kind}Emails"), format!("{kind}UserIds")])
            .map(|name| {
                let list = list_named(&name);
                (name, list)
            })
            .collect::<Map<_, _>>()
            .into()
    }
}
