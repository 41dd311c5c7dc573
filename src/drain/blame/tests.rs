use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{drain::testing::group, iterable::ApiResponse};

/// What became of each event, by its field `n`, and how many requests it took.
struct Outcome {
    found: BTreeMap<u64, Finding>,
    requests: usize,
}

impl Outcome {
    fn refused(&self) -> Vec<(u64, &str)> {
        let refused = self.found.iter().filter_map(|(n, finding)| match finding {
            Finding::Refused(cause) => Some((*n, cause.reason.as_str())),
            _ => None,
        });
        refused.collect()
    }

    fn all(&self, finding: &Finding) -> bool {
        self.found.values().all(|found| found == finding)
    }
}

/// Sends a request and its parts until every event is found out, as the engine does.
fn find_out(
    first: Group,
    conflicts: TypeConflictPolicy,
    answer: impl Fn(&Group) -> (u16, Value),
) -> Outcome {
    let mut waiting = vec![first];
    let mut outcome = Outcome {
        found: BTreeMap::new(),
        requests: 0,
    };
    while let Some(group) = waiting.pop() {
        outcome.requests += 1;
        assert!(outcome.requests < 10_000, "no end");
        let (status, body) = answer(&group);
        let judgement = match ApiResponse::read(status, None, body.to_string().as_bytes()) {
            ApiResponse::Accepted(counts) => judge_counts(group, &counts),
            ApiResponse::Rejected(refusal) => {
                judge_refusal(group, &refusal, conflicts, Order::Free)
            }
            ApiResponse::TooLarge => judge_too_large(group),
            other => panic!("{other:?}"),
        };
        for (item, finding) in judgement.found {
            let earlier = outcome.found.insert(number(&item), finding);
            assert_eq!(earlier, None, "found out twice");
        }
        waiting.extend(judgement.again.into_iter().rev());
    }
    outcome
}

fn number(item: &Item) -> u64 {
    data_fields(item)["n"].as_u64().unwrap()
}

fn numbers(group: &Group) -> Vec<u64> {
    group.items.iter().map(number).collect()
}

/// So many events, each of a user of its own, of the name Viewed.
fn many(count: u64) -> Group {
    let users: Vec<_> = (0..count).map(|n| format!("User{n}@example.com")).collect();
    group(
        users
            .iter()
            .zip(0..)
            .map(|(user, n)| (user.as_str(), "Viewed", json!({"n": n}))),
    )
}

fn counts(group: &Group, failed: usize) -> Value {
    json!({"successCount": group.items.len() - failed, "failCount": failed})
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

/// 200 for what is fine; the refusal, if one of `culprits` is in the request.
fn refuses(
    culprits: &[u64],
    refusal: impl Fn(&Group, usize) -> (u16, Value),
) -> impl Fn(&Group) -> (u16, Value) {
    move |group| {
        let place = numbers(group).iter().position(|n| culprits.contains(n));
        place.map_or_else(|| (200, counts(group, 0)), |place| refusal(group, place))
    }
}

fn plain(code: &'static str) -> impl Fn(&Group, usize) -> (u16, Value) {
    move |_, _| (400, json!({"msg": "said", "code": code, "params": null}))
}

#[test]
fn a_request_that_is_taken_whole_is_taken() {
    for body in [
        json!({"successCount": 3, "failCount": 0}),
        json!({"successCount": 3}),
    ] {
        let outcome = find_out(many(3), TypeConflictPolicy::RejectEvent, |_| {
            (200, body.clone())
        });
        assert!(outcome.all(&Finding::Taken));
        assert_eq!((outcome.found.len(), outcome.requests), (3, 1));
    }
}

#[test]
fn listed_users_are_matched_back_in_one_request() {
    for (list, expected) in [
        ("invalidEmails", "InvalidEmail"),
        ("forgottenEmails", "UserForgotten"),
        ("conflictEmails", "UserConflict"),
        ("invalidDataEmails", "InvalidUserData"),
        ("failedEmails", "RejectedByIterable"),
        ("somethingNew", "RejectedByIterable"),
    ] {
        let outcome = find_out(many(5), TypeConflictPolicy::RejectEvent, |group| {
            let lists = json!({list: ["user2@EXAMPLE.com"]});
            (200, with(counts(group, 1), "failedUpdates", lists))
        });
        assert_eq!(outcome.refused(), [(2, expected)], "{list}");
        assert_eq!(outcome.requests, 1);
    }
}

#[test]
fn an_unknown_user_is_no_refusal() {
    let outcome = find_out(many(2), TypeConflictPolicy::RejectEvent, |group| {
        let lists = json!({"notFoundEmails": ["user1@example.com"]});
        (200, with(counts(group, 1), "failedUpdates", lists))
    });
    assert_eq!(outcome.found[&0], Finding::Taken);
    assert_eq!(outcome.found[&1], Finding::UserNotFound);
}

#[test]
fn deprecated_doubles_count_once() {
    let outcome = find_out(many(5), TypeConflictPolicy::RejectEvent, |group| {
        let body = with(
            counts(group, 1),
            "failedUpdates",
            json!({"forgottenEmails": ["user2@example.com"]}),
        );
        (
            200,
            with(body, "invalidEmails", json!(["user2@example.com"])),
        )
    });
    assert_eq!(outcome.refused(), [(2, "UserForgotten")]);
    assert_eq!(outcome.requests, 1);
}

#[test]
fn disallowed_names_are_refused_whether_they_are_counted_as_failed_or_not() {
    let events = || {
        group([
            ("a@b.c", "Fine", json!({"n": 0})),
            ("a@b.c", "Bad", json!({"n": 1})),
        ])
    };
    for failed in [0, 1] {
        let outcome = find_out(events(), TypeConflictPolicy::RejectEvent, |group| {
            let bad = group
                .items
                .iter()
                .any(|item| item.event.event_name() == "Bad");
            let body = counts(group, if bad { failed } else { 0 });
            (
                200,
                with(
                    body,
                    "disallowedEventNames",
                    if bad { json!(["Bad"]) } else { json!([]) },
                ),
            )
        });
        assert_eq!(outcome.refused(), [(1, "DisallowedEventName")]);
        assert_eq!(outcome.requests, 1);
    }
}

#[test]
fn one_bad_event_does_not_condemn_the_good_ones_of_its_user() {
    let events = group([
        ("ada@example.com", "Fine", json!({"n": 0})),
        ("ada@example.com", "Odd", json!({"n": 1})),
        ("bob@example.com", "Fine", json!({"n": 2})),
    ]);
    let outcome = find_out(events, TypeConflictPolicy::RejectEvent, |group| {
        let bad = numbers(group).iter().filter(|n| **n == 1).count();
        let lists = json!({"invalidEmails": vec!["ada@example.com"; bad]});
        (200, with(counts(group, bad), "failedUpdates", lists))
    });
    assert_eq!(outcome.refused(), [(1, "InvalidEmail")]);
    assert_eq!(outcome.found[&0], Finding::Taken);
}

#[test]
fn a_failure_that_no_list_names_is_found_by_halving() {
    let outcome = find_out(many(1_000), TypeConflictPolicy::RejectEvent, |group| {
        let bad = numbers(group).iter().filter(|n| **n == 617).count();
        (200, counts(group, bad))
    });
    assert_eq!(outcome.refused(), [(617, "RejectedByIterable")]);
    assert!(outcome.requests <= 21, "{} requests", outcome.requests);
}

#[test]
fn an_event_that_is_counted_neither_way_stays() {
    let outcome = find_out(many(2), TypeConflictPolicy::RejectEvent, |_| {
        (200, json!({"successCount": 0, "failCount": 0}))
    });
    assert!(
        matches!(&outcome.found[&0], Finding::Unclear(cause) if cause.reason == "NotConfirmed")
    );
}

#[test]
fn one_culprit_among_a_thousand_is_found_without_any_hint() {
    for code in [
        "BadParams",
        "UniqueFieldsLimitExceeded",
        "ForgottenUserError",
        "Conflict",
    ] {
        for culprit in [0, 1, 499, 500, 999] {
            let outcome = find_out(
                many(1_000),
                TypeConflictPolicy::RejectEvent,
                refuses(&[culprit], plain(code)),
            );
            assert_eq!(outcome.refused(), [(culprit, code)]);
            assert_eq!(outcome.found.len(), 1_000);
            assert!(outcome.requests <= 21, "{} requests", outcome.requests);
        }
    }
}

#[test]
fn a_named_place_is_tried_first_and_may_be_one_too_high() {
    for shift in [0, 1] {
        let answer = refuses(&[700], |_, place| {
            let place = format!("obj.events[{}].createdAt", place + shift);
            (
                400,
                json!({"code": "BadJsonBody", "params": {place: "Number value expected"}}),
            )
        });
        let outcome = find_out(many(1_000), TypeConflictPolicy::RejectEvent, answer);
        assert_eq!(outcome.refused(), [(700, "BadJsonBody")]);
        assert!(outcome.requests <= 5, "{} requests", outcome.requests);
    }
}

#[test]
fn a_named_place_is_tried_by_itself_in_its_order_where_that_counts() {
    let refusal = |place: usize| {
        let place = format!("obj.events[{place}].createdAt");
        let body = json!({"code": "BadJsonBody", "params": {place: "Number value expected"}});
        match ApiResponse::read(400, None, body.to_string().as_bytes()) {
            ApiResponse::Rejected(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    };
    for (place, parts) in [
        (0, vec![1, 7]),
        (3, vec![2, 2, 4]),
        (7, vec![6, 2]),
        (9, vec![4, 4]),
    ] {
        let judgement = judge_refusal(
            many(8),
            &refusal(place),
            TypeConflictPolicy::RejectEvent,
            Order::Kept,
        );
        let again: Vec<_> = judgement.again.iter().map(numbers).collect();
        assert_eq!(again.concat(), (0..8).collect::<Vec<_>>());
        assert_eq!(again.iter().map(Vec::len).collect::<Vec<_>>(), parts);
    }
}

#[test]
fn a_named_place_that_misleads_costs_few_requests() {
    let answer = refuses(&[700], |_, _| {
        (
            400,
            json!({"code": "BadJsonBody", "params": {"obj.events[3].createdAt": "Number value expected"}}),
        )
    });
    let outcome = find_out(many(1_000), TypeConflictPolicy::RejectEvent, answer);
    assert_eq!(outcome.refused(), [(700, "BadJsonBody")]);
    assert!(outcome.requests <= 30, "{} requests", outcome.requests);
}

#[test]
fn a_named_user_is_tried_first() {
    let answer = refuses(&[42], |_, _| {
        (
            400,
            json!({"msg": "Invalid email: User42@example.com", "code": "InvalidEmailAddressError"}),
        )
    });
    let outcome = find_out(many(1_000), TypeConflictPolicy::RejectEvent, answer);
    assert_eq!(outcome.refused(), [(42, "InvalidEmailAddressError")]);
    assert_eq!(outcome.requests, 3);
}

fn mistyped(group: &Group) -> Option<(u16, Value)> {
    let item = group
        .items
        .iter()
        .find(|item| data_fields(item)["price"].is_string())?;
    let value = data_fields(item)["price"].clone();
    let error =
        json!({"incomingTypes": ["string"], "expectedType": "double", "offendingValue": value});
    Some((
        400,
        json!({"code": "RequestFieldsTypesMismatched", "params": {"validationErrors": {"event:::price": error}}}),
    ))
}

fn prices() -> Group {
    group((0..200).map(|n| {
        let price = if n % 50 == 7 {
            json!(format!("free{n}"))
        } else {
            json!(1.5)
        };
        ("a@b.c", "Bought", json!({"n": n, "price": price}))
    }))
}

#[test]
fn a_field_of_another_type_leads_to_its_events() {
    let outcome = find_out(prices(), TypeConflictPolicy::RejectEvent, |group| {
        mistyped(group).unwrap_or_else(|| (200, counts(group, 0)))
    });
    let culprits: Vec<_> = outcome.refused().iter().map(|(n, _)| *n).collect();
    assert_eq!(culprits, [7, 57, 107, 157]);
    assert_eq!(outcome.found.len(), 200);
}

#[test]
fn a_field_of_another_type_may_be_dropped_instead_of_its_event() {
    let outcome = find_out(prices(), TypeConflictPolicy::DropField, |group| {
        mistyped(group).unwrap_or_else(|| (200, counts(group, 0)))
    });
    assert!(outcome.all(&Finding::Taken));
    assert_eq!(outcome.found.len(), 200);
}

#[test]
fn a_type_conflict_without_a_field_that_the_event_has_ends_in_a_refusal() {
    let outcome = find_out(
        many(4),
        TypeConflictPolicy::DropField,
        |group| match numbers(group).contains(&2) {
            true => (
                400,
                json!({"code": "RequestFieldsTypesMismatched", "params": null}),
            ),
            false => (200, counts(group, 0)),
        },
    );
    assert_eq!(outcome.refused(), [(2, "RequestFieldsTypesMismatched")]);
}

#[test]
fn a_request_that_is_too_large_is_halved_without_blame() {
    for too_large in [
        (400, json!({"code": "BatchTooLarge"})),
        (413, json!("<html>")),
    ] {
        let outcome = find_out(many(100), TypeConflictPolicy::RejectEvent, |group| {
            if group.items.len() > 30 {
                too_large.clone()
            } else {
                (200, counts(group, 0))
            }
        });
        assert!(outcome.all(&Finding::Taken));
        assert_eq!(outcome.requests, 7);
    }
    let alone = find_out(many(1), TypeConflictPolicy::RejectEvent, |_| {
        (413, json!(null))
    });
    assert_eq!(alone.refused(), [(0, "EventTooLarge")]);
}

#[test]
fn an_event_refused_without_a_code_of_iterables_stays() {
    let outcome = find_out(
        many(4),
        TypeConflictPolicy::RejectEvent,
        |group| match numbers(group).contains(&2) {
            true => (400, json!("<html>blocked")),
            false => (200, counts(group, 0)),
        },
    );
    assert!(
        matches!(&outcome.found[&2], Finding::Unclear(cause) if cause.reason == "RejectedWithoutCode")
    );
    assert_eq!(outcome.found[&3], Finding::Taken);
}

#[test]
fn an_unknown_user_of_a_refused_request_is_no_refusal() {
    for code in ["UnknownEmailError", "UnknownUserIdError"] {
        let outcome = find_out(
            many(8),
            TypeConflictPolicy::RejectEvent,
            refuses(&[5], plain(code)),
        );
        assert_eq!(outcome.found[&5], Finding::UserNotFound);
    }
}

proptest! {
    /// Whatever is wrong with which events, and whatever the answers leave out: exactly the
    /// culprits are refused, and every event is found out once.
    #[test]
    fn exactly_the_culprits_are_refused(
        count in 1u64..60,
        seed in proptest::collection::vec((0u64..60, 0u8..3), 0..8),
        lists in any::<bool>(),
        hints in any::<bool>(),
    ) {
        let culprits: BTreeMap<u64, u8> = seed.into_iter().filter(|(n, _)| *n < count).collect();
        let outcome = find_out(many(count), TypeConflictPolicy::RejectEvent, |group| {
            let kind = |n: &u64| culprits.get(n).copied();
            if let Some(place) = numbers(group).iter().position(|n| kind(n) == Some(0)) {
                let params = if hints { json!({format!("obj.events[{place}].x"): "bad"}) } else { json!(null) };
                return (400, json!({"code": "BadJsonBody", "params": params}));
            }
            let bad: Vec<_> = numbers(group).into_iter().filter(|n| kind(n) == Some(1)).collect();
            let silent = numbers(group).iter().filter(|n| kind(n) == Some(2)).count();
            let mut body = counts(group, bad.len() + silent);
            if lists {
                let named: Vec<_> = bad.iter().map(|n| format!("user{n}@example.com")).collect();
                body["failedUpdates"] = json!({"invalidEmails": named});
            }
            (200, body)
        });
        prop_assert_eq!(outcome.found.len() as u64, count);
        let refused: Vec<_> = outcome.refused().into_iter().map(|(n, _)| n).collect();
        let expected: Vec<_> = culprits.keys().copied().collect();
        prop_assert_eq!(refused, expected);
    }
}
