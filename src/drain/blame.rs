//! Finds out what an answer of Iterable means for each event of its request. Pure.
//!
//! Iterable names identifiers and names of events, never positions. A finding counts only when
//! it adds up to the number of events that Iterable says it refused; otherwise the events are
//! sent again in parts, which is safe because their ids are stable, until each part's answer
//! adds up or the culprit is alone.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::batch::{Group, Item};
use crate::{
    api::TypeConflictPolicy,
    iterable::{ApiError, BulkCounts, FailedIdentifier, ListReason, UserKind},
    mapping::User,
};

/// How often within one request's parts a hint of Iterable's is followed before plain halving.
const MAX_GUESSES: u32 = 3;

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Iterable took it.
    Taken,
    /// Its user isn't known, maybe not yet.
    UserNotFound,
    /// Iterable will never take it.
    Refused(Cause),
    /// The answer proves neither: the event stays in the queue.
    Unclear(Cause),
}

/// Why an event was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A PascalCase word: Iterable's code, or the list that names the event.
    pub reason: String,
    /// What the answer said.
    pub detail: String,
}

/// Whether events have to be sent in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// They have to: each may be of one group of a FIFO queue.
    Kept,
    /// They need not.
    Free,
}

/// What an answer means.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Events with their finding.
    pub found: Vec<(Item, Finding)>,
    /// What has to be sent again, in order.
    pub again: Vec<Group>,
    /// How many fields were left out of what is sent again.
    pub fields_dropped: u64,
}

impl Cause {
    fn new(reason: &str, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            detail: detail.into(),
        }
    }
}

/// Judges an accepted request by its counts and lists.
pub fn judge_counts(group: Group, counts: &BulkCounts) -> Judgement {
    let total = group.items.len() as u64;
    let complete = counts
        .succeeded
        .is_none_or(|succeeded| succeeded.saturating_add(counts.failed) == total);
    if complete && counts.failed == 0 && counts.listed.is_empty() {
        return settle(group, std::iter::repeat(None));
    }
    let index = Index::of(&counts.listed.users);
    let disallowed: HashSet<&str> = counts.listed.names.iter().map(String::as_str).collect();
    let by_user: Vec<_> = group
        .items
        .iter()
        .map(|item| index.find(item).map(|found| found.reason))
        .collect();
    let reasons: Vec<_> = group
        .items
        .iter()
        .zip(&by_user)
        .map(|(item, user)| {
            user.or_else(|| {
                disallowed
                    .contains(item.event.event_name())
                    .then_some(ListReason::DisallowedEventName)
            })
        })
        .collect();
    let users = by_user.iter().flatten().count() as u64;
    let named = reasons.iter().flatten().count() as u64;
    // Whether an event of a disallowed name counts as failed is not documented: both readings
    // are taken.
    if complete && (counts.failed == named || counts.failed == users) {
        return settle(group, reasons.into_iter());
    }
    if let [reason] = reasons.as_slice() {
        return judge_one(group, counts, *reason);
    }
    if complete && counts.listed.names.is_empty() {
        return judge_by_multiplicity(group, counts, &index);
    }
    halve(group)
}

/// One event alone whose answer doesn't add up.
fn judge_one(group: Group, counts: &BulkCounts, listed: Option<ListReason>) -> Judgement {
    let finding = match listed {
        Some(reason) => of_list(reason),
        None if counts.failed > 0 => Finding::Refused(Cause::new(
            "RejectedByIterable",
            "Iterable counted it as failed without a reason",
        )),
        None => Finding::Unclear(Cause::new(
            "NotConfirmed",
            "Iterable counted the event neither as accepted nor as failed",
        )),
    };
    let found = group
        .items
        .into_iter()
        .map(|item| (item, finding.clone()))
        .collect();
    Judgement {
        found,
        ..Judgement::default()
    }
}

/// The case that lists name an identifier once per refused event: if that adds up, the events
/// of users that are not listed were taken, and only those of users that were sent more often
/// than they are listed are sent again. Otherwise all are, in halves.
fn judge_by_multiplicity(group: Group, counts: &BulkCounts, index: &Index) -> Judgement {
    let mut sent: HashMap<Key, u64> = HashMap::new();
    for item in &group.items {
        *sent.entry(Key::of(item)).or_default() += 1;
    }
    let foreign = index.0.keys().any(|key| !sent.contains_key(key));
    if foreign || counts.failed != index.0.values().map(|found| found.times).sum::<u64>() {
        return halve(group);
    }
    let mut judgement = Judgement::default();
    let mut unclear = Group {
        guesses: group.guesses,
        ..Group::default()
    };
    for item in group.items {
        match index.find(&item) {
            None => judgement.found.push((item, Finding::Taken)),
            Some(found) if Some(&found.times) == sent.get(&Key::of(&item)) => {
                judgement.found.push((item, of_list(found.reason)));
            }
            Some(_) => unclear.items.push(item),
        }
    }
    judgement.again = halve(unclear).again;
    judgement
}

/// Both halves again, or a single event again as it is.
fn halve(group: Group) -> Judgement {
    let again = if group.items.len() > 1 {
        group.halves().into()
    } else {
        vec![group]
    };
    let again = again
        .into_iter()
        .filter(|part| !part.items.is_empty())
        .collect();
    Judgement {
        again,
        ..Judgement::default()
    }
}

/// Who is listed, and why.
struct Index(HashMap<Key, Found>);

struct Found {
    reason: ListReason,
    times: u64,
    deprecated: bool,
}

/// A user as Iterable tells users apart.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Email(String),
    UserId(String),
}

impl Key {
    fn of(item: &Item) -> Self {
        match item.event.user() {
            User::Email(email) => Self::email(email),
            User::UserId(user_id) => Self::UserId(user_id.to_owned()),
        }
    }

    /// Iterable stores addresses in lower case; how it echoes them is not documented.
    fn email(text: &str) -> Self {
        Self::Email(text.to_lowercase())
    }
}

impl Index {
    /// Lists of `failedUpdates` go before their deprecated doubles, which count once.
    fn of(listed: &[FailedIdentifier]) -> Self {
        let mut index = HashMap::new();
        let mut add = |key: Key, user: &FailedIdentifier| {
            let found = index.entry(key).or_insert(Found {
                reason: user.reason,
                times: 0,
                deprecated: user.deprecated,
            });
            if found.deprecated && !user.deprecated {
                *found = Found {
                    reason: user.reason,
                    times: 0,
                    deprecated: false,
                };
            }
            if found.deprecated == user.deprecated {
                found.times += 1;
            }
        };
        for user in listed {
            if user.kind != UserKind::UserId {
                add(Key::email(&user.identifier), user);
            }
            if user.kind != UserKind::Email {
                add(Key::UserId(user.identifier.clone()), user);
            }
        }
        Self(index)
    }

    fn find(&self, item: &Item) -> Option<&Found> {
        self.0.get(&Key::of(item))
    }
}

/// Judges a request that was refused as a whole for what stands in it. With [`Order::Kept`],
/// no event is sent again before one that stood before it.
pub fn judge_refusal(
    group: Group,
    refusal: &ApiError,
    conflicts: TypeConflictPolicy,
    order: Order,
) -> Judgement {
    let drop = conflicts == TypeConflictPolicy::DropField && is_type_conflict(refusal);
    let suspects = if group.guesses < MAX_GUESSES {
        suspects(&group, refusal)
    } else {
        Vec::new()
    };
    if drop && !suspects.is_empty() {
        return drop_fields(group, refusal, &suspects);
    }
    if group.items.len() > 1 {
        return Judgement {
            again: follow(group, &suspects, order),
            ..Judgement::default()
        };
    }
    if drop {
        return drop_fields(group, refusal, &[0]);
    }
    let finding = of_refusal(refusal);
    Judgement {
        found: group
            .items
            .into_iter()
            .map(|item| (item, finding.clone()))
            .collect(),
        ..Judgement::default()
    }
}

/// The parts in which a refused request is sent again: the suspects by themselves, unless they
/// are most of it.
fn follow(group: Group, suspects: &[usize], order: Order) -> Vec<Group> {
    let half = group.items.len() / 2;
    let parts: Vec<_> = match (suspects, order) {
        ([first, .., last] | [first @ last], Order::Kept) if last - first < half => {
            group.cut(&(*first..=*last)).into()
        }
        ([_, ..], Order::Free) if suspects.len() <= half => group.split(suspects).into(),
        _ => group.halves().into(),
    };
    let is_full = |part: &Group| !part.items.is_empty();
    parts.into_iter().filter(is_full).collect()
}

/// Judges a request that was too large: nobody is to blame, unless an event was alone.
pub fn judge_too_large(group: Group) -> Judgement {
    if group.items.len() > 1 {
        return Judgement {
            again: group.halves().into(),
            ..Judgement::default()
        };
    }
    let cause = Cause::new(
        "EventTooLarge",
        "Iterable rejected a request with only this event as too large",
    );
    Judgement {
        found: group
            .items
            .into_iter()
            .map(|item| (item, Finding::Refused(cause.clone())))
            .collect(),
        ..Judgement::default()
    }
}

fn settle(group: Group, reasons: impl Iterator<Item = Option<ListReason>>) -> Judgement {
    let found = group
        .items
        .into_iter()
        .zip(reasons)
        .map(|(item, reason)| (item, reason.map_or(Finding::Taken, of_list)))
        .collect();
    Judgement {
        found,
        ..Judgement::default()
    }
}

fn of_list(reason: ListReason) -> Finding {
    match reason {
        ListReason::UserNotFound => Finding::UserNotFound,
        other => Finding::Refused(Cause::new(other.as_str(), "listed in Iterable's response")),
    }
}

/// A refusal of one event alone. Without a code of Iterable's there is no knowing who refused
/// it, a proxy perhaps: then the event stays.
fn of_refusal(refusal: &ApiError) -> Finding {
    match refusal.code.as_deref() {
        Some("UnknownEmailError" | "UnknownUserIdError") => Finding::UserNotFound,
        Some(code) => Finding::Refused(Cause::new(code, &refusal.message)),
        None => Finding::Unclear(Cause::new("RejectedWithoutCode", refusal.to_string())),
    }
}

fn identifier(item: &Item) -> &str {
    match item.event.user() {
        User::Email(email) => email,
        User::UserId(user_id) => user_id,
    }
}

fn is_type_conflict(refusal: &ApiError) -> bool {
    refusal.code.as_deref() == Some("RequestFieldsTypesMismatched")
}

/// The positions that a refusal hints at, ascending: by index, by field and value, by user.
fn suspects(group: &Group, refusal: &ApiError) -> Vec<usize> {
    if is_type_conflict(refusal) {
        let conflicts: Vec<_> = conflicts(refusal).collect();
        return positions(group, |item| {
            let event = data_fields(item);
            conflicts
                .iter()
                .any(|(field, value)| holds(&event, field, *value))
        });
    }
    let by_index = indexes(refusal, group.items.len());
    if !by_index.is_empty() {
        return by_index;
    }
    let said = refusal.message.to_lowercase();
    let words: HashSet<&str> = said.split([' ', ',', '"', '\'']).collect();
    positions(group, |item| {
        words.contains(identifier(item).to_lowercase().as_str())
    })
}

/// The positions of the events that `is_suspect` accepts.
fn positions(group: &Group, is_suspect: impl Fn(&Item) -> bool) -> Vec<usize> {
    let items = group.items.iter().enumerate();
    items
        .filter(|(_, item)| is_suspect(item))
        .map(|(position, _)| position)
        .collect()
}

/// The events that `obj.events[N].field` may mean. Answers were seen that count from one, so the
/// one before is a suspect too.
fn indexes(refusal: &ApiError, count: usize) -> Vec<usize> {
    let mut found: Vec<usize> = refusal
        .params
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(place, _)| {
            place
                .split_once("events[")?
                .1
                .split_once(']')?
                .0
                .parse::<usize>()
                .ok()
        })
        .flat_map(|index| [index.checked_sub(1), Some(index)])
        .flatten()
        .filter(|index| *index < count)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The fields in conflict, by their own name, with the value at fault. Iterable writes a field
/// as `field` or as `something:::field`.
fn conflicts(refusal: &ApiError) -> impl Iterator<Item = (&str, Option<&Value>)> {
    refusal
        .params
        .get("validationErrors")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(field, error)| {
            let name = field.rsplit(":::").next().unwrap_or(field);
            (name, error.get("offendingValue"))
        })
}

fn data_fields(item: &Item) -> Value {
    let mut event: Value = serde_json::from_str(item.event.json()).unwrap_or_default();
    event
        .get_mut("dataFields")
        .map(Value::take)
        .unwrap_or_default()
}

fn holds(fields: &Value, field: &str, value: Option<&Value>) -> bool {
    fields
        .get(field)
        .is_some_and(|own| value.is_none_or(|value| own == value))
}

/// Sends the events again without the fields in conflict: those of `suspects` without them, the
/// others as they are. An event that has none of the fields is refused if it was alone.
fn drop_fields(group: Group, refusal: &ApiError, suspects: &[usize]) -> Judgement {
    let mut judgement = Judgement::default();
    let alone = group.items.len() == 1;
    let mut again = Group {
        guesses: group.guesses + 1,
        ..Group::default()
    };
    for (index, mut item) in group.items.into_iter().enumerate() {
        let mut dropped = false;
        if suspects.binary_search(&index).is_ok() {
            for (field, _) in conflicts(refusal) {
                if let Some(event) = item.event.without_field(field) {
                    item.event = event;
                    dropped = true;
                    judgement.fields_dropped += 1;
                }
            }
        }
        if alone && !dropped {
            judgement.found.push((item, of_refusal(refusal)));
        } else {
            again.items.push(item);
        }
    }
    if !again.items.is_empty() {
        judgement.again.push(again);
    }
    judgement
}

#[cfg(test)]
mod tests;
