//! The project: what it knows, and how it answers a request. No I/O, and the time is an argument.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    History, Lists, Options, ProjectType, TooLarge,
    events::Events,
    rate::LeakyBucket,
    refusal::Refusal,
    request::{self, TrackRequest, UserUpdate},
    schema::{FieldChanges, Schema},
    users::{Identifier, RefusedUser, Users},
};

/// The endpoints that the stand-in has.
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

/// A request as it came in.
pub(super) struct Incoming<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) api_key: Option<&'a str>,
    pub(super) ip: String,
    pub(super) bytes: usize,
    /// `None` if it is no JSON.
    pub(super) body: Option<&'a Value>,
}

/// What the project holds.
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

    /// Takes a request or refuses it as a whole; the answer is the body of a 200.
    pub(super) fn answer(
        &mut self,
        request: &Incoming<'_>,
        now: Timestamp,
    ) -> Result<Value, Refusal> {
        let endpoint = || request.endpoint.path().to_owned();
        let known_key = |key: &str| self.options.api_keys.iter().any(|known| known == key);
        if !request.api_key.is_some_and(known_key) {
            return Err(Refusal::BadApiKey {
                ip: request.ip.clone(),
                endpoint: endpoint(),
            });
        }
        let limits = &self.options.limits;
        let (bucket, most_bytes) = match request.endpoint {
            Endpoint::TrackBulk => (&mut self.track_bulk_bucket, limits.track_bulk_bytes),
            Endpoint::BulkUpdate => (&mut self.bulk_update_bucket, limits.bulk_update_bytes),
        };
        if !bucket.admits(now) {
            return Err(Refusal::RateLimitExceeded {
                endpoint: endpoint(),
            });
        }
        if request.bytes > most_bytes {
            return Err(self.too_large(request.endpoint));
        }
        let bad_json = |expected| Refusal::BadJsonBody {
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

    fn track(&mut self, events: &[TrackRequest<'_>], now: Timestamp) -> Result<Value, Refusal> {
        let endpoint = || Endpoint::TrackBulk.path().to_owned();
        if events.len() > self.options.limits.events_per_request {
            return Err(self.too_large(Endpoint::TrackBulk));
        }
        // What a bad id and an event without a user are answered is unconfirmed (sections 1.2 and 1.6).
        if let Some(event) = events.iter().find(|event| !event.has_valid_id()) {
            return Err(Refusal::BadParams {
                endpoint: endpoint(),
                reason: format!("Invalid event id: {}", event.id.unwrap_or_default()),
            });
        }
        let by_user_id_only = self.options.project_type == ProjectType::UserId;
        let users = events.iter().map(|event| event.user(by_user_id_only));
        let Some(users) = users.collect::<Option<Vec<_>>>() else {
            return Err(Refusal::BadParams {
                endpoint: endpoint(),
                reason: "email or userId is required".to_owned(),
            });
        };
        let changes = self.schema.learn(events)?;

        let mut outcome = Outcome::default();
        for (event, user) in events.iter().zip(users) {
            if self.disallowed_event_names.contains(event.event_name) {
                outcome.disallow(event.event_name);
            } else if let Err(refused) = self.find(user, now) {
                outcome.refuse(user, refused);
            } else {
                let kept = match self.options.history {
                    History::Full => self.without_dropped_fields(event),
                    History::CountsOnly => Value::Null,
                };
                self.events.write(event.id, kept);
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
            // Section 1.7: an email-based project makes a user from a userId only with `preferUserId`,
            // and a userID-based one has no email to make a user from.
            let creatable = match user {
                Identifier::Email(_) => project_type != ProjectType::UserId,
                Identifier::UserId(_) => {
                    project_type != ProjectType::Email || update.prefer_user_id
                }
            };
            let made = self.users.may_exist(user).and_then(|()| {
                if creatable {
                    Ok(())
                } else {
                    self.users.exists(user, now)
                }
            });
            match made {
                Ok(()) => {
                    let from = now + self.options.user_visible_after;
                    self.users.know(user, from);
                    if let Some(user_id) = update.user_id {
                        self.users.know(Identifier::UserId(user_id), from);
                    }
                    outcome.success += 1;
                }
                Err(refused) => outcome.refuse(user, refused),
            }
        }
        self.bulk_update_answer(outcome)
    }

    fn too_large(&self, endpoint: Endpoint) -> Refusal {
        match self.options.answers.too_large {
            TooLarge::PayloadTooLarge => Refusal::PayloadTooLarge,
            TooLarge::BatchTooLarge => Refusal::BatchTooLarge {
                endpoint: endpoint.path().to_owned(),
            },
        }
    }

    /// A userID-based project has no emails, so none names a user (section 1.7).
    fn find(&self, user: Identifier<'_>, now: Timestamp) -> Result<(), RefusedUser> {
        match user {
            Identifier::Email(_) if self.options.project_type == ProjectType::UserId => {
                self.users.may_exist(user).and(Err(RefusedUser::NotFound))
            }
            _ => self.users.exists(user, now),
        }
    }

    fn without_dropped_fields(&self, event: &TrackRequest<'_>) -> Value {
        let mut kept = event.all.clone();
        if let Some(fields) = kept.get_mut("dataFields").and_then(Value::as_object_mut) {
            fields.retain(|name, _| !self.schema.drops(event, name));
        }
        kept
    }

    /// `BulkTrackResponse` (section 1.4).
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
        let double = |names: &[&str]| -> Vec<&Value> {
            let listed = names
                .iter()
                .filter_map(|name| lists[*name].as_array())
                .flatten();
            if answers.deprecated_doubles {
                listed.collect()
            } else {
                Vec::new()
            }
        };
        json!({
            "successCount": success,
            "failCount": fail,
            "invalidEmails": double(&["invalidEmails"]),
            // Described as those not found (section 1.4).
            "invalidUserIds": double(&["invalidUserIds", "notFoundUserIds"]),
            "filteredOutFields": changes.filtered_out,
            "createdFields": changes.created,
            "disallowedEventNames": outcome.disallowed_event_names,
            "failedUpdates": lists,
        })
    }

    /// As for events, with four lists more (section 1.4).
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

/// What became of the entries of a request.
#[derive(Debug, Default)]
struct Outcome {
    success: u32,
    fail: u32,
    refused: Vec<(&'static str, String)>,
    disallowed_event_names: Vec<String>,
}

impl Outcome {
    fn refuse(&mut self, user: Identifier<'_>, refused: RefusedUser) {
        let list = match (refused, user) {
            (RefusedUser::Invalid, Identifier::Email(_)) => "invalidEmails",
            (RefusedUser::Invalid, Identifier::UserId(_)) => "invalidUserIds",
            (RefusedUser::NotFound, Identifier::Email(_)) => "notFoundEmails",
            (RefusedUser::NotFound, Identifier::UserId(_)) => "notFoundUserIds",
            (RefusedUser::Forgotten, Identifier::Email(_)) => "forgottenEmails",
            (RefusedUser::Forgotten, Identifier::UserId(_)) => "forgottenUserIds",
        };
        self.fail += 1;
        self.refused.push((list, user.text().to_owned()));
    }

    fn disallow(&mut self, event_name: &str) {
        self.fail += 1;
        self.disallowed_event_names.push(event_name.to_owned());
    }

    /// The lists of `failedUpdates`: for each kind one of emails and one of userIds.
    fn lists(&self, lower_case_emails: bool, kinds: &[&str]) -> Value {
        let list_of = |name: &str| {
            let refused = self.refused.iter().filter(|(list, _)| *list == name);
            Value::Array(
                refused
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
                let list = list_of(&name);
                (name, list)
            })
            .collect::<Map<_, _>>()
            .into()
    }
}
