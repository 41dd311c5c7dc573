use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

type TestLedger = Ledger<&'static str, u32>;

fn new_ticket(admission: Admission<&'static str>) -> Ticket {
    match admission {
        Admission::New(ticket) => ticket,
        other => panic!("not new: {other:?}"),
    }
}

#[test]
fn a_message_is_deleted_when_its_last_event_is_settled_and_not_before() {
    let mut ledger = TestLedger::new(false);
    let ticket = new_ticket(ledger.admit("a", None, 2, "a"));
    ledger.settle(ticket, Verdict::Done);
    assert_eq!(ledger.decisions(), []);
    ledger.settle(ticket, Verdict::Done);
    assert_eq!(ledger.decisions(), [Decision::Delete(Settled("a"))]);
    assert!(ledger.is_empty());
}

#[test]
fn a_message_without_events_is_deleted_at_once() {
    let mut ledger = TestLedger::new(false);
    ledger.admit("a", None, 0, "a");
    assert_eq!(ledger.decisions(), [Decision::Delete(Settled("a"))]);
}

#[test]
fn one_left_event_keeps_the_message_and_sends_no_dead_letter() {
    let mut ledger = TestLedger::new(false);
    let ticket = new_ticket(ledger.admit("a", None, 3, "a"));
    ledger.settle(ticket, Verdict::Rejected(1));
    ledger.settle(ticket, Verdict::Left);
    ledger.settle(ticket, Verdict::Done);
    assert_eq!(ledger.decisions(), [Decision::Leave("a")]);
    assert_eq!(
        ledger.admit("a", None, 3, "again"),
        Admission::Left("again")
    );
}

#[test]
fn a_message_with_rejected_events_is_deleted_after_its_dead_letter() {
    let mut ledger = TestLedger::new(false);
    let ticket = new_ticket(ledger.admit("a", None, 2, "a"));
    ledger.settle(ticket, Verdict::Rejected(7));
    ledger.settle(ticket, Verdict::Done);
    assert_eq!(ledger.decisions(), [Decision::DeadLetter(ticket, vec![7])]);
    assert_eq!(ledger.len(), 1);
    ledger.dead_lettered(ticket, true);
    assert_eq!(ledger.decisions(), [Decision::Delete(Settled("a"))]);
}

#[test]
fn a_message_whose_dead_letter_was_not_taken_is_left() {
    let mut ledger = TestLedger::new(false);
    let ticket = new_ticket(ledger.admit("a", None, 1, "a"));
    ledger.settle(ticket, Verdict::Rejected(7));
    ledger.decisions();
    ledger.dead_lettered(ticket, false);
    assert_eq!(ledger.decisions(), [Decision::Leave("a")]);
}

#[test]
fn a_second_copy_is_told_from_a_first() {
    let mut ledger = TestLedger::new(false);
    let ticket = new_ticket(ledger.admit("a", None, 1, "first"));
    assert_eq!(
        ledger.admit("a", None, 1, "second"),
        Admission::Held(ticket, "second")
    );
    ledger.settle(ticket, Verdict::Done);
    assert_eq!(ledger.decisions(), [Decision::Delete(Settled("first"))]);
    assert_eq!(
        ledger.admit("a", None, 1, "third"),
        Admission::Settled(Settled("third"))
    );
}

#[test]
fn on_a_fifo_queue_a_later_message_waits_for_the_earlier_of_its_group_only() {
    let mut ledger = TestLedger::new(true);
    let first = new_ticket(ledger.admit("1", Some("g"), 1, "1"));
    let second = new_ticket(ledger.admit("2", Some("g"), 1, "2"));
    let other = new_ticket(ledger.admit("3", Some("h"), 1, "3"));
    ledger.settle(second, Verdict::Done);
    ledger.settle(other, Verdict::Done);
    assert_eq!(ledger.decisions(), [Decision::Delete(Settled("3"))]);
    ledger.settle(first, Verdict::Done);
    assert_eq!(
        ledger.decisions(),
        [
            Decision::Delete(Settled("1")),
            Decision::Delete(Settled("2"))
        ]
    );
}

#[test]
fn on_a_fifo_queue_those_behind_a_left_message_are_left_too() {
    let mut ledger = TestLedger::new(true);
    let first = new_ticket(ledger.admit("1", Some("g"), 2, "1"));
    let second = new_ticket(ledger.admit("2", Some("g"), 1, "2"));
    ledger.settle(first, Verdict::Left);
    assert!(ledger.is_lost(second) && !ledger.is_lost(first));
    ledger.settle(second, Verdict::Rejected(1));
    ledger.settle(first, Verdict::Done);
    assert_eq!(
        ledger.decisions(),
        [Decision::Leave("1"), Decision::Leave("2")]
    );
}

#[test]
fn a_message_that_could_not_be_deleted_is_to_be_deleted_once_more() {
    let mut ledger: Ledger<&str, ()> = Ledger::new(false);
    ledger.admit("id", None, 0, "1");
    assert!(matches!(
        ledger.admit("id", None, 1, "2"),
        Admission::Settled(_)
    ));
    ledger.lost("id");
    assert!(matches!(
        ledger.admit("id", None, 1, "3"),
        Admission::Lost(_)
    ));
    assert!(matches!(
        ledger.admit("id", None, 1, "4"),
        Admission::Settled(_)
    ));
}

#[test]
fn only_the_newest_are_remembered() {
    let mut past = Past::default();
    let some = REMEMBERED as u128;
    (0..=2 * some).for_each(|id| past.remember(id.to_be_bytes(), Fate::Settled));
    let known = [some - 1, some, 2 * some].map(|id| past.fate(id.to_be_bytes()));
    assert_eq!(known, [None, Some(Fate::Settled), Some(Fate::Settled)]);
}

/// Something that happens to a ledger: a message comes with so many events, an event of the
/// n-th open one is settled, or a dead letter is answered.
#[derive(Clone, Debug)]
enum Step {
    Admit { id: u8, group: u8, events: usize },
    Settle { which: usize, verdict: u8 },
    DeadLettered { which: usize, sent: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..40, 0u8..3, 0usize..4).prop_map(|(id, group, events)| Step::Admit {
            id,
            group,
            events
        }),
        (any::<usize>(), 0u8..10).prop_map(|(which, verdict)| Step::Settle { which, verdict }),
        (any::<usize>(), any::<bool>())
            .prop_map(|(which, sent)| Step::DeadLettered { which, sent }),
    ]
}

/// What the test knows of a message.
#[derive(Clone, Debug)]
struct Known {
    id: u8,
    group: u8,
    open: usize,
    refused: usize,
    left: bool,
    asked: bool,
    decided: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// In every interleaving: a message is deleted only if each of its events is done or dead
    /// lettered; each is decided on once; and on a FIFO queue the messages of a group are decided
    /// on in their order, with none deleted behind a left one that was held with it.
    #[test]
    fn no_interleaving_deletes_too_early(fifo in any::<bool>(), steps in proptest::collection::vec(step(), 0..200)) {
        let mut ledger: Ledger<Ticket, usize> = Ledger::new(fifo);
        let mut known: BTreeMap<Ticket, Known> = BTreeMap::new();
        // The message is its own ticket, which is known before it is given: they are counted up.
        let mut next = Ticket(0);
        for step in steps {
            match step {
                Step::Admit { id, group, events } => {
                    let name = group.to_string();
                    match ledger.admit(&id.to_string(), Some(&name), events, next) {
                        Admission::New(ticket) => {
                            prop_assert_eq!(ticket, next);
                            prop_assert!(known.values().all(|one| one.id != id), "it was here before");
                            known.insert(ticket, Known {
                                id, group, open: events, refused: 0, left: false, asked: false, decided: false,
                            });
                            next = Ticket(next.0 + 1);
                        }
                        Admission::Held(ticket, _) => prop_assert!(!known[&ticket].decided),
                        Admission::Settled(settled) => {
                            let _ = settled;
                            prop_assert!(known.values().any(|one| one.id == id && one.decided && !one.left));
                        }
                        Admission::Lost(_) => prop_assert!(false, "no delete has failed"),
                        Admission::Left(_) => {
                            prop_assert!(known.values().any(|one| one.id == id && one.decided));
                        }
                    }
                }
                Step::Settle { which, verdict } => {
                    let open: Vec<_> = known.iter().filter(|(_, one)| one.open > 0).map(|(key, _)| *key).collect();
                    if open.is_empty() {
                        continue;
                    }
                    let ticket = open[which % open.len()];
                    let one = known.get_mut(&ticket).unwrap();
                    one.open -= 1;
                    ledger.settle(ticket, match verdict {
                        0 => { one.left = true; Verdict::Left }
                        1 | 2 => { one.refused += 1; Verdict::Rejected(one.refused) }
                        _ => Verdict::Done,
                    });
                }
                Step::DeadLettered { which, sent } => {
                    let asked: Vec<_> =
                        known.iter().filter(|(_, one)| one.asked && one.refused > 0).map(|(key, _)| *key).collect();
                    if asked.is_empty() {
                        continue;
                    }
                    let ticket = asked[which % asked.len()];
                    let one = known.get_mut(&ticket).unwrap();
                    if sent { one.refused = 0 } else { one.left = true }
                    one.asked = false;
                    ledger.dead_lettered(ticket, sent);
                }
            }
            for decision in ledger.decisions() {
                match decision {
                    Decision::Delete(settled) => {
                        let ticket = *settled.message();
                        let one = known.get_mut(&ticket).unwrap();
                        prop_assert!(one.open == 0 && one.refused == 0 && !one.left && !one.decided);
                        one.decided = true;
                        let group = one.group;
                        let earlier = known.range(..ticket).filter(|(_, one)| one.group == group);
                        prop_assert!(!fifo || earlier.clone().all(|(_, one)| one.decided));
                    }
                    Decision::DeadLetter(ticket, refused) => {
                        let one = known.get_mut(&ticket).unwrap();
                        prop_assert!(one.open == 0 && !one.left && !one.asked && !one.decided);
                        prop_assert_eq!(refused.len(), one.refused);
                        one.asked = true;
                    }
                    Decision::Leave(ticket) => {
                        let one = known.get_mut(&ticket).unwrap();
                        prop_assert!(one.open == 0 && !one.decided);
                        one.decided = true;
                        one.left = true;
                        let group = one.group;
                        let earlier = known.range(..ticket).filter(|(_, one)| one.group == group);
                        prop_assert!(!fifo || earlier.clone().all(|(_, one)| one.decided));
                    }
                }
            }
        }
        let held = known.values().filter(|one| !one.decided).count();
        prop_assert_eq!(ledger.len(), held);
        let waiting = known.values().filter(|one| !one.decided && one.open == 0 && !one.asked).count();
        prop_assert!(fifo || waiting == 0, "what is settled is decided on at once");
    }
}
