//! Whole runs against a simulated queue and a simulated Iterable, on a simulated clock: every
//! interleaving comes from a seed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::drain::{
    batch::Group,
    testing::{batch, mapper},
};

const VISIBILITY: Duration = Duration::from_secs(30);

fn config() -> Config {
    Config {
        pace: Limits {
            post_interval: Duration::from_millis(100),
            posts: 8,
            receives: 8,
        },
        request: RequestLimits {
            events: 100,
            bytes: 100_000,
        },
        max_bytes: 64 << 20,
        max_payload_bytes: None,
        max_messages: u64::MAX,
        visibility: VISIBILITY,
        max_message_bytes: 1 << 18,
        fifo: false,
        pods: NonZeroU32::MIN,
        max_duration: Duration::from_secs(3_000),
        grace: Duration::from_secs(20),
        rejected: RejectedEventPolicy::DeadLetter,
        dead_letter_bytes: Some(1 << 18),
        unknown_users: UnknownUserPolicy::Retry,
        users_interval: Duration::from_millis(250),
        type_conflicts: TypeConflictPolicy::RejectEvent,
        run: "test".to_owned(),
    }
}

#[derive(Clone, Debug)]
struct Message {
    id: usize,
    body: String,
    group: Option<String>,
    handle: String,
    visible_at: Instant,
    receives: u32,
    /// Whether the body lies elsewhere, and what the message tells of its size.
    payload: Option<Option<u64>>,
}

impl Message {
    /// What it takes in an answer.
    fn size(&self) -> usize {
        if self.payload.is_some() {
            100
        } else {
            self.body.len()
        }
    }
}

/// An answer that was read.
fn received(receive: u64, began: Instant, messages: Vec<Message>) -> Done {
    let parcels = messages.into_iter().map(|message| {
        let (content, body) = match message.payload {
            Some(bytes) => {
                let pointer = Pointer {
                    bucket: "payloads".to_owned(),
                    key: message.id.to_string(),
                    bytes,
                };
                (Content::Elsewhere(pointer), "a pointer".to_owned())
            }
            None => (Content::Here(mapped(&message.body)), message.body),
        };
        Parcel {
            id: message.id.to_string(),
            handle: message.handle,
            body,
            sent_at: None,
            group: message.group,
            content,
        }
    });
    Done::Received {
        receive,
        began,
        result: Ok(parcels.collect()),
    }
}

/// A queue and a project.
struct World {
    now: Instant,
    dice: fastrand::Rng,
    queue: BTreeMap<usize, Message>,
    handles: u64,
    /// What Iterable has stored: by id, the field `n`.
    stored: HashMap<String, u64>,
    /// The field `n` of each stored event, in the order of its first or last write.
    order: Vec<u64>,
    dead: Vec<String>,
    known: HashMap<NewUser, Instant>,
    receives: usize,
    posts: usize,
    most_posting: usize,
    /// Answers that are not read yet: when the receive began, and its messages.
    unread: HashMap<u64, (Instant, Vec<Message>)>,
    /// The most bytes that the engine knew itself to hold.
    most_held: usize,
    /// Whether answers tell their size before they are read.
    tells_sizes: bool,
    /// The number of events of each post that was taken.
    sizes: Vec<usize>,
    /// The most events that Iterable takes in a request.
    most_events: usize,
    /// How often, of a hundred, a request to Iterable or to SQS fails.
    sink_faults: u32,
    queue_faults: u32,
    post_time: Duration,
    /// How long a payload takes to be read; the sizes of those that were read and not sent yet,
    /// by the field `n` of their event; and the most that these came to.
    read_time: Duration,
    loaded: HashMap<u64, usize>,
    most_loaded: usize,
    sink_down: bool,
    /// How long it takes to make users, and to send dead letters.
    slow_time: Duration,
    /// What Iterable asks for in place of an answer.
    quiet: Option<Duration>,
    /// Until when SQS answers no receive.
    no_receives_until: Option<Instant>,
    /// Until when the dead-letter queue throttles.
    no_letters_until: Option<Instant>,
    /// How many entries of the next delete fail, and whether the request is at fault.
    failing_deletes: usize,
    sender_fault: bool,
    deletes: Vec<usize>,
    /// How many of the next deleted messages come once more.
    ghosts: usize,
    /// Whether each entry of a visibility change fails, the request being at fault, and how many
    /// entries fail by a fault of the queue.
    failing_extensions: bool,
    faulty_extensions: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            dice: fastrand::Rng::with_seed(seed),
            queue: BTreeMap::new(),
            handles: 0,
            stored: HashMap::new(),
            order: Vec::new(),
            dead: Vec::new(),
            known: HashMap::new(),
            receives: 0,
            posts: 0,
            most_posting: 0,
            unread: HashMap::new(),
            most_held: 0,
            tells_sizes: true,
            sizes: Vec::new(),
            most_events: usize::MAX,
            sink_faults: 0,
            queue_faults: 0,
            post_time: Duration::from_millis(100),
            read_time: Duration::from_millis(50),
            loaded: HashMap::new(),
            most_loaded: 0,
            sink_down: false,
            slow_time: Duration::from_millis(10),
            quiet: None,
            no_receives_until: None,
            no_letters_until: None,
            failing_deletes: 0,
            sender_fault: false,
            deletes: Vec::new(),
            ghosts: 0,
            failing_extensions: false,
            faulty_extensions: 0,
        }
    }

    /// Puts a message with so many events of this name onto the queue.
    fn send(&mut self, name: &str, events: usize, group: Option<&str>) {
        self.send_with(name, events, group, "");
    }

    /// As [`Self::send`], with this text in each event.
    fn send_with(&mut self, name: &str, events: usize, group: Option<&str>, text: &str) {
        let id = self.handles as usize;
        self.handles += 1;
        let events: Vec<_> = (0..events)
            .map(|event| (name, json!({"n": id * 100 + event, "text": text})))
            .collect();
        let message = Message {
            id,
            body: batch(&format!("user{id}@example.com"), &events),
            group: group.map(str::to_owned),
            handle: String::new(),
            visible_at: self.now,
            receives: 0,
            payload: None,
        };
        self.queue.insert(id, message);
    }

    /// Puts a message onto the queue whose one event lies elsewhere and has about so many bytes.
    fn send_payload(&mut self, bytes: usize, told: Option<u64>, group: Option<&str>) {
        self.send("Viewed", 1, group);
        if let Some(mut last) = self.queue.last_entry() {
            let message = last.get_mut();
            let fields = json!({"n": message.id * 100, "text": "x".repeat(bytes)});
            message.body = batch("ada@example.com", &[("Viewed", fields)]);
            message.payload = Some(told);
        }
    }

    fn hits(&mut self, percent: u32) -> bool {
        self.dice.f64() * 100.0 < f64::from(percent)
    }

    fn take(&mut self, max: usize, fifo: bool) -> Vec<Message> {
        let mut taken = Vec::new();
        let mut closed = BTreeSet::new();
        let now = self.now;
        for message in self.queue.values() {
            let hidden = message.visible_at > now;
            if hidden && fifo {
                closed.insert(message.group.clone());
            }
        }
        for message in self.queue.values_mut() {
            if taken.len() == max || message.visible_at > now || closed.contains(&message.group) {
                continue;
            }
            self.handles += 1;
            message.handle = format!("handle{}", self.handles);
            message.visible_at = now + VISIBILITY;
            message.receives += 1;
            taken.push(message.clone());
        }
        taken
    }

    fn by_handle(&mut self, handle: &str) -> Option<&mut Message> {
        self.queue
            .values_mut()
            .find(|message| message.handle == handle)
    }

    /// Does an action; says after how long it is known, and what is known then.
    fn perform(&mut self, action: Action, fifo: bool) -> (Duration, Done) {
        let began = self.now;
        let quick = Duration::from_millis(10).mul_f64(0.5 + self.dice.f64());
        let failed = |action| Error::Unreachable {
            host: "sqs.example".to_owned(),
            action,
            queue: "queue".to_owned(),
            detail: "simulated".to_owned(),
        };
        let fault = self.hits(self.queue_faults);
        match action {
            Action::ReadDepth => {
                let is_visible = |message: &&Message| message.visible_at <= began;
                let mut visible = self.queue.values().filter(is_visible).count() as i64;
                if self.hits(50) {
                    // The first receive was quicker.
                    visible -= visible.min(10);
                }
                (quick * 3, Done::Depth((!fault).then_some(visible)))
            }
            Action::Receive {
                receive,
                max,
                bytes,
            } => {
                self.receives += 1;
                let gap = self.no_receives_until.is_some_and(|until| began < until);
                if gap || fault {
                    let took = if gap { quick } else { Duration::from_secs(6) };
                    let result = Err(failed("Receive"));
                    return (
                        took,
                        Done::Received {
                            receive,
                            began,
                            result,
                        },
                    );
                }
                let messages = self.take(max, fifo);
                let took = if messages.is_empty() {
                    Duration::from_secs(1)
                } else {
                    quick
                };
                let size: usize = messages.iter().map(Message::size).sum();
                if size > bytes {
                    self.unread.insert(receive, (began, messages));
                    let bytes = self.tells_sizes.then_some(size as u64);
                    return (took, Done::Answered { receive, bytes });
                }
                (took, received(receive, began, messages))
            }
            Action::Read(unread, limit) => {
                let id: usize = unread.pointer.key.parse().unwrap();
                let body = self.queue[&id].body.clone();
                let result = if body.len() > limit {
                    Err(PayloadError::TooLarge {
                        bucket: unread.pointer.bucket.clone(),
                        key: unread.pointer.key.clone(),
                        bytes: body.len() as u64,
                    })
                } else {
                    self.loaded.insert(id as u64 * 100, body.len());
                    self.most_loaded = self.most_loaded.max(self.loaded.values().sum());
                    let mapped = mapped(&body);
                    Ok(Opened { body, mapped })
                };
                (
                    self.read_time,
                    Done::Read {
                        unread,
                        limit,
                        result,
                    },
                )
            }
            Action::Post(group) => {
                self.posts += 1;
                let answer = self.answer(&group);
                let took = self.post_time.mul_f64(0.5 + self.dice.f64());
                (
                    took,
                    Done::Posted {
                        began,
                        group,
                        answer,
                    },
                )
            }
            Action::Delete(deletions) => {
                if fault {
                    return (
                        quick,
                        Done::Deleted {
                            deletions,
                            result: Err(failed("Delete")),
                        },
                    );
                }
                self.deletes.push(deletions.len());
                let results = deletions.iter().map(|deletion| {
                    if self.failing_deletes > 0 {
                        self.failing_deletes -= 1;
                        return Err(BatchEntryError {
                            code: "Failed".to_owned(),
                            sender_fault: self.sender_fault,
                            detail: String::new(),
                        });
                    }
                    if self.dice.f64() * 100.0 < f64::from(self.queue_faults) {
                        return Err(BatchEntryError {
                            code: "InternalError".to_owned(),
                            sender_fault: false,
                            detail: String::new(),
                        });
                    }
                    let handle = deletion.settled.message().receipt.handle.clone();
                    let now = self.now;
                    let is_ghost = self.ghosts > 0;
                    let id = self.by_handle(&handle).map(|message| {
                        if is_ghost {
                            message.visible_at = now;
                        }
                        message.id
                    });
                    if is_ghost {
                        self.ghosts -= 1;
                    } else if let Some(id) = id {
                        self.queue.remove(&id);
                    }
                    Ok(())
                });
                let results = results.collect();
                (
                    quick,
                    Done::Deleted {
                        deletions,
                        result: Ok(results),
                    },
                )
            }
            Action::Extend(receipts, timeout) => {
                if fault {
                    return (
                        quick,
                        Done::Extended {
                            began,
                            receipts,
                            result: Err(failed("Extend")),
                        },
                    );
                }
                let until = self.now + timeout;
                let refused = BatchEntryError {
                    code: "InvalidParameterValue".to_owned(),
                    sender_fault: true,
                    detail: "the handle is not the newest".to_owned(),
                };
                let extended = if self.failing_extensions {
                    Err(refused)
                } else if self.faulty_extensions > 0 {
                    self.faulty_extensions -= 1;
                    Err(BatchEntryError {
                        code: "InternalError".to_owned(),
                        sender_fault: false,
                        detail: String::new(),
                    })
                } else {
                    Ok(())
                };
                for receipt in receipts.iter().filter(|_| extended.is_ok()) {
                    if let Some(message) = self.by_handle(&receipt.handle) {
                        message.visible_at = until;
                    }
                }
                let results = receipts.iter().map(|_| extended.clone()).collect();
                (
                    quick,
                    Done::Extended {
                        began,
                        receipts,
                        result: Ok(results),
                    },
                )
            }
            Action::GiveBack(handles, after) => {
                let until = self.now + after;
                for handle in handles {
                    if let Some(message) = self.by_handle(&handle) {
                        message.visible_at = until;
                    }
                }
                (quick, Done::GivenBack)
            }
            Action::DeletePayload(_) => (quick, Done::DeletedPayload(Ok(()))),
            Action::CreateUsers(users) => {
                self.known
                    .extend(users.iter().cloned().map(|user| (user, self.now)));
                let body = json!({"successCount": users.len(), "failCount": 0}).to_string();
                let answer = ApiResponse::read(200, None, body.as_bytes());
                (self.slow_time, Done::CreatedUsers { users, answer })
            }
            Action::SendDeadLetters(letters) => {
                let throttled = self.no_letters_until.is_some_and(|until| began < until);
                if fault || throttled {
                    return (
                        self.slow_time,
                        Done::SentDeadLetters {
                            letters,
                            result: Err(failed("Send")),
                        },
                    );
                }
                let mut results = Vec::new();
                for letter in &letters {
                    if self.hits(self.queue_faults) {
                        results.push(Err(BatchEntryError {
                            code: "InternalError".to_owned(),
                            sender_fault: self.hits(20),
                            detail: String::new(),
                        }));
                        continue;
                    }
                    self.dead.push(letter.outgoing.body.clone());
                    results.push(Ok(()));
                }
                (
                    self.slow_time,
                    Done::SentDeadLetters {
                        letters,
                        result: Ok(results),
                    },
                )
            }
        }
    }

    /// Reads the answers for which there is room.
    fn read_answers(&mut self, engine: &mut Engine) -> Vec<(Instant, Done)> {
        let to_read = engine.answers_to_read().into_iter();
        let read = to_read.map(|receive| {
            let (began, messages) = self.unread.remove(&receive).unwrap();
            let at = self.now + Duration::from_millis(20);
            (at, received(receive, began, messages))
        });
        read.collect()
    }

    fn answer(&mut self, group: &Group) -> ApiResponse {
        let trouble = ApiResponse::Unavailable {
            kind: crate::iterable::TransportFailure::Status(503),
            retry_after: None,
        };
        if self.quiet.is_some() {
            return ApiResponse::RateLimited {
                retry_after: self.quiet,
            };
        }
        if self.sink_down {
            return trouble;
        }
        if self.hits(self.sink_faults) {
            if self.hits(50) {
                self.store(group);
            }
            return trouble;
        }
        if group.items.len() > self.most_events {
            return ApiResponse::TooLarge;
        }
        let is = |name: &str| {
            group
                .items
                .iter()
                .any(|item| item.event.event_name() == name)
        };
        if is("Typed")
            && group
                .items
                .iter()
                .any(|item| item.event.json().contains("\"n\""))
        {
            return ApiResponse::read(
                400,
                None,
                br#"{"code":"RequestFieldsTypesMismatched","msg":"no","params":{"validationErrors":{"n":{}}}}"#,
            );
        }
        if is("Huge") {
            return ApiResponse::TooLarge;
        }
        if is("Poison") {
            return ApiResponse::read(
                400,
                None,
                br#"{"code":"BadJsonBody","msg":"no","params":null}"#,
            );
        }
        let listed: Vec<_> = group
            .items
            .iter()
            .filter(|item| self.is_stranger(item))
            .map(|item| match item.event.user() {
                crate::mapping::User::Email(user) | crate::mapping::User::UserId(user) => {
                    user.to_owned()
                }
            })
            .collect();
        self.store(group);
        self.sizes.push(group.items.len());
        let body = json!({
            "successCount": group.items.len() - listed.len(),
            "failCount": listed.len(),
            "failedUpdates": {"notFoundEmails": listed},
        });
        ApiResponse::read(200, None, body.to_string().as_bytes())
    }

    /// Whether the event is of a user that isn't known, or not for a minute yet.
    fn is_stranger(&self, item: &crate::drain::batch::Item) -> bool {
        let crate::mapping::User::Email(user) = item.event.user() else {
            return false;
        };
        let known = self.known.get(&NewUser::Email(user.to_owned()));
        item.event.event_name() == "Stranger"
            && known.is_none_or(|at| self.now < *at + Duration::from_secs(60))
    }

    fn store(&mut self, group: &Group) {
        for item in &group.items {
            if ["Poison", "Huge"].contains(&item.event.event_name()) || self.is_stranger(item) {
                continue;
            }
            let event: Value = serde_json::from_str(item.event.json()).unwrap();
            let Some(n) = event["dataFields"]["n"].as_u64() else {
                continue;
            };
            self.stored.insert(item.event.id().to_owned(), n);
            self.loaded.remove(&n);
            self.order.retain(|earlier| *earlier != n);
            self.order.push(n);
        }
    }

    /// A run to its end, or until it is killed after so many actions.
    fn run(&mut self, config: Config, kill_after: Option<usize>) -> Option<(Outcome, Tally)> {
        let fifo = config.fifo;
        let seed = (self.dice.f64() * 1e9) as u64;
        let mut engine = Engine::new(config, self.now, seed);
        let mut under_way: Vec<(Instant, Done)> = Vec::new();
        let mut actions = 0;
        let started = self.now;
        loop {
            under_way.append(&mut self.read_answers(&mut engine));
            for action in engine.actions(self.now) {
                actions += 1;
                let (took, done) = self.perform(action, fifo);
                under_way.push((self.now + took, done));
            }
            let posting = under_way
                .iter()
                .filter(|(_, done)| matches!(done, Done::Posted { .. }))
                .count();
            self.most_posting = self.most_posting.max(posting);
            let held = engine.ledger.iter_mut().map(|(_, held)| held.bytes).sum();
            assert_eq!(engine.intake.held_bytes(), held, "each byte counts once");
            self.most_held = self.most_held.max(held);
            if kill_after.is_some_and(|limit| actions >= limit) {
                return None;
            }
            if let Some(outcome) = engine.ended() {
                return Some((outcome, engine.tally().clone()));
            }
            assert!(
                self.now < started + Duration::from_secs(4_000),
                "the run does not end"
            );
            let next = (0..under_way.len()).min_by_key(|index| under_way[*index].0);
            let next_at = next.map(|index| under_way[index].0);
            match (next, engine.wake_at()) {
                (_, Some(wake)) if next_at.is_none_or(|at| wake < at) => {
                    assert!(wake > self.now, "a wake-up in the past would spin");
                    self.now = wake;
                }
                (Some(index), _) => {
                    let (at, done) = under_way.swap_remove(index);
                    self.now = self.now.max(at);
                    engine.done(done, self.now);
                }
                (None, _) => panic!("the run waits for nothing"),
            }
        }
    }

    /// A run that is told to stop at `stop_at`, unless it has ended before.
    fn run_until(&mut self, config: Config, stop_at: Instant) -> (Outcome, Tally, bool) {
        let mut engine = Engine::new(config, self.now, 1);
        let mut under_way: Vec<(Instant, Done)> = Vec::new();
        let mut stopped = false;
        loop {
            if !stopped && self.now >= stop_at {
                stopped = true;
                engine.interrupt(self.now);
            }
            under_way.append(&mut self.read_answers(&mut engine));
            for action in engine.actions(self.now) {
                assert!(!stopped || !matches!(action, Action::Receive { .. } | Action::Post(_)));
                let (took, done) = self.perform(action, false);
                under_way.push((self.now + took, done));
            }
            if let Some(outcome) = engine.ended() {
                return (outcome, engine.tally().clone(), stopped);
            }
            under_way.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            let next = under_way.last().map(|(at, _)| *at);
            let stop = (!stopped).then_some(stop_at);
            let wake = [engine.wake_at(), stop].into_iter().flatten().min();
            if let Some(wake) = wake
                && next.is_none_or(|at| wake < at)
            {
                self.now = wake;
            } else if let Some((at, done)) = under_way.pop() {
                self.now = self.now.max(at);
                engine.done(done, self.now);
            }
        }
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }

    /// The field `n` of every event in the dead letters.
    fn dead_numbers(&self) -> BTreeSet<u64> {
        let mapper = mapper();
        self.dead
            .iter()
            .flat_map(|body| mapper.map(body, None).unwrap().events)
            .map(|event| {
                let event: Value = serde_json::from_str(event.json()).unwrap();
                event["dataFields"]["n"].as_u64().unwrap()
            })
            .collect()
    }
}

fn mapped(body: &str) -> Result<crate::mapping::MappedBody, Cause> {
    mapper().map(body, None).map_err(|error| Cause {
        reason: error.reason().to_owned(),
        detail: String::new(),
    })
}

/// Each receive of a message counts once.
fn assert_adds_up(tally: &Tally) {
    let counts = tally.messages;
    assert_eq!(
        counts.received,
        counts.deleted + counts.released + counts.duplicate,
        "{counts:?}"
    );
}

fn world(seed: u64, messages: usize) -> World {
    let mut world = World::new(seed);
    (0..messages).for_each(|_| world.send("Viewed", 3, None));
    world
}

#[test]
fn a_queue_is_emptied_with_as_few_requests_as_there_can_be() {
    for seed in 0..10 {
        let mut world = world(seed, 2_000);
        let (outcome, tally) = world.run(config(), None).unwrap();
        assert_eq!(outcome, Outcome::Drained);
        assert_eq!(
            (tally.messages.deleted, tally.events.forwarded),
            (2_000, 6_000)
        );
        assert!(world.queue.is_empty());
        assert!(world.receives <= 201, "{} receives", world.receives);
        assert!(world.posts <= 63, "{} posts", world.posts);
    }
}

#[test]
fn deletes_that_fail_one_by_one_are_made_again_by_themselves() {
    let mut world = world(12, 10);
    world.failing_deletes = 3;
    let (outcome, tally) = world.run(config(), None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!((tally.messages.deleted, tally.messages.released), (10, 0));
    assert_eq!(world.deletes, [10, 3]);
}

#[test]
fn deletes_that_are_at_fault_themselves_are_counted_and_not_repeated() {
    let mut world = world(13, 10);
    world.failing_deletes = 3;
    world.sender_fault = true;
    let (_, tally) = world.run(config(), None).unwrap();
    assert_eq!((tally.messages.deleted, tally.messages.released), (7, 3));
    assert_eq!(tally.reasons["DeleteFailed"], 3);
    assert_eq!(world.deletes, [10]);
}

#[test]
fn a_dead_sink_touches_ten_messages_a_run() {
    let mut world = world(2, 1_000);
    world.sink_down = true;
    for _ in 0..5 {
        let (outcome, tally) = world.run(config(), None).unwrap();
        assert_eq!(outcome, Outcome::SinkDown);
        assert_eq!((tally.messages.received, tally.messages.released), (10, 10));
        world.later(Duration::from_secs(60));
    }
    let touched = world
        .queue
        .values()
        .filter(|message| message.receives > 0)
        .count();
    assert!(touched <= 10, "{touched} messages");
    assert!(
        world
            .queue
            .values()
            .all(|message| message.visible_at <= world.now)
    );
}

#[test]
fn a_slow_sink_causes_no_second_receive() {
    let mut world = world(3, 300);
    world.post_time = Duration::from_secs(3 * 30);
    let mut config = config();
    config.pace.posts = 2;
    let (outcome, tally) = world.run(config, None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!(
        (tally.messages.received, tally.messages.duplicate),
        (300, 0)
    );
}

#[test]
fn receives_that_fail_together_count_once_and_a_gap_of_seconds_ends_no_run() {
    let now = Instant::now();
    let backlog = Config {
        max_bytes: 1 << 30,
        ..config()
    };
    let mut engine = Engine::new(backlog, now, 25);
    (0..4).for_each(|_| engine.pace.succeeded(Duration::from_millis(10)));
    assert_eq!(
        engine.actions(now).len(),
        2,
        "a receive, and how deep it is"
    );
    engine.done(Done::Depth(Some(100_000)), now);
    let receives = 1 + engine.actions(now).len();
    assert_eq!(receives, 8);
    for receive in 0..receives as u64 {
        let result = Err(Error::Throttled {
            action: "ReceiveMessage",
            queue: "queue".to_owned(),
            code: "RequestThrottled".to_owned(),
        });
        engine.done(
            Done::Received {
                receive,
                began: now,
                result,
            },
            now + Duration::from_millis(50),
        );
    }
    assert!(engine.is_running());
    for seed in 0..20 {
        let mut world = world(seed, 500);
        world.no_receives_until = Some(world.now + Duration::from_secs(6));
        let (outcome, tally) = world.run(config(), None).unwrap();
        assert_eq!(outcome, Outcome::Drained, "seed {seed}");
        assert_eq!(tally.messages.deleted, 500);
    }
}

#[test]
fn a_run_that_is_still_at_work_at_its_deadline_has_ended_by_it() {
    for seed in 0..20 {
        // At one request in a second, the last permit lies behind the end.
        let mut world = world(seed, 2_000);
        let config = Config {
            pace: Limits {
                post_interval: Duration::from_secs(1),
                ..config().pace
            },
            max_duration: Duration::from_millis(10_000 + 97 * seed),
            ..config()
        };
        let (outcome, tally) = world.run(config, None).unwrap();
        assert_eq!(outcome, Outcome::LimitReached, "seed {seed}: {tally:?}");
        assert_eq!(tally.notice, None);
    }
}

#[test]
fn a_run_of_which_iterable_asks_for_a_longer_wait_than_it_has_time_ends() {
    let mut world = world(26, 100);
    world.quiet = Some(Duration::from_secs(24 * 3600));
    let started = world.now;
    let (outcome, tally) = world.run(config(), None).unwrap();
    assert_eq!(outcome, Outcome::SinkDown);
    assert!(tally.notice.unwrap().contains("Retry-After"));
    assert!(world.now < started + Duration::from_secs(10));
}

fn with_payloads(fifo: bool) -> Config {
    Config {
        max_bytes: 8 << 20,
        max_payload_bytes: Some(2 << 20),
        max_message_bytes: 1 << 16,
        request: RequestLimits {
            events: 100,
            bytes: 4_000_000,
        },
        fifo,
        ..config()
    }
}

#[test]
fn payloads_are_read_as_there_is_room_for_them() {
    for (seed, told, fifo) in [
        (19, None, false),
        (20, Some(1_000_100), false),
        // Less than there is: the size that the object has counts.
        (21, Some(10), false),
        (22, None, true),
    ] {
        let mut world = World::new(seed);
        for index in 0..24 {
            world.send_payload(1_000_000, told, Some("one"));
            (0..index % 3).for_each(|_| world.send("Viewed", 1, Some("one")));
        }
        let config = with_payloads(fifo);
        let most = config.max_bytes;
        let (outcome, tally) = world.run(config, None).unwrap();
        assert_eq!(outcome, Outcome::Drained);
        assert_eq!((tally.messages.deleted, tally.messages.duplicate), (48, 0));
        assert!(world.queue.is_empty());
        assert!(world.most_loaded <= most, "{} bytes", world.most_loaded);
        assert!(world.order.is_sorted() || !fifo, "{:?}", world.order);
    }
}

#[test]
fn messages_are_kept_invisible_while_payloads_are_read() {
    let mut world = World::new(23);
    world.read_time = 2 * VISIBILITY;
    (0..8).for_each(|_| world.send_payload(1_000_000, None, None));
    (0..2).for_each(|_| world.send("Viewed", 1, None));
    let (outcome, tally) = world.run(with_payloads(false), None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!((tally.messages.received, tally.messages.deleted), (10, 10));
    assert_eq!(tally.reasons.get("HandleExpired"), None);
}

#[test]
fn a_payload_that_is_larger_than_any_that_is_read_stays() {
    let mut world = World::new(24);
    world.send_payload(3 << 20, Some(10), None);
    let (_, tally) = world.run(with_payloads(false), None).unwrap();
    assert_eq!((tally.messages.deleted, tally.messages.released), (0, 1));
    assert_eq!(tally.reasons["PayloadTooLarge"], 1);
}

#[test]
fn an_extension_that_fails_by_a_fault_of_the_queue_is_made_again() {
    let mut world = World::new(28);
    (0..10).for_each(|_| world.send("Viewed", 1, None));
    world.post_time = 3 * VISIBILITY;
    world.faulty_extensions = 2;
    let (_, tally) = world.run(config(), None).unwrap();
    assert_eq!((tally.messages.received, tally.messages.deleted), (10, 10));
}

#[test]
fn a_deleted_message_that_comes_again_counts_once() {
    let mut world = World::new(29);
    (0..100).for_each(|_| world.send("Viewed", 1, None));
    world.ghosts = 7;
    let (_, tally) = world.run(config(), None).unwrap();
    assert_eq!((tally.messages.deleted, tally.messages.duplicate), (100, 7));
    assert_eq!(tally.messages.received, 107);
    assert!(world.queue.is_empty());
}

#[test]
fn a_message_past_its_timeout_is_deleted_only_when_it_comes_again_and_sent_once() {
    let mut world = world(14, 10);
    world.post_time = 3 * VISIBILITY;
    world.failing_extensions = true;
    let (_, tally) = world.run(config(), None).unwrap();
    assert_eq!(
        tally.reasons["HandleExpired"], 10,
        "they may be in other hands"
    );
    assert_eq!((tally.messages.received, tally.messages.released), (20, 10));
    assert_eq!((world.posts, tally.messages.deleted), (1, 10));
    assert_eq!(world.deletes, [10], "by the handles of the second receive");
    assert!(world.queue.is_empty());
}

#[test]
fn a_message_that_comes_twice_is_deleted_by_its_newest_handle_and_sent_once() {
    let now = Instant::now();
    let mut engine = Engine::new(config(), now, 15);
    engine.actions(now);
    let parcel = |handle: &str| Parcel {
        id: "one".to_owned(),
        handle: handle.to_owned(),
        body: String::new(),
        sent_at: None,
        group: None,
        content: Content::Here(mapped(&batch(
            "ada@example.com",
            &[("Viewed", json!({"n": 1}))],
        ))),
    };
    engine.done(
        Done::Received {
            receive: 0,
            began: now,
            result: Ok(vec![parcel("older"), parcel("newer")]),
        },
        now,
    );
    let later = now + Duration::from_secs(3);
    let posted: Vec<_> = engine
        .actions(later)
        .into_iter()
        .filter_map(|action| match action {
            Action::Post(group) => Some(group),
            _ => None,
        })
        .collect();
    assert_eq!(posted.len(), 1);
    assert_eq!(posted[0].items.len(), 1);
    for group in posted {
        let answer = ApiResponse::read(200, None, br#"{"successCount":1,"failCount":0}"#);
        engine.done(
            Done::Posted {
                began: later,
                group,
                answer,
            },
            later,
        );
    }
    let end = later + Duration::from_secs(6);
    let handles: Vec<_> = engine
        .actions(end)
        .iter()
        .filter_map(|action| match action {
            Action::Delete(deletions) => Some(deletions),
            _ => None,
        })
        .flatten()
        .map(|deletion| deletion.settled.message().receipt.handle.clone())
        .collect();
    assert_eq!(handles, ["newer"]);
}

#[test]
fn messages_of_unknown_users_stay_and_are_sent_once_a_run() {
    let mut world = World::new(4);
    (0..40).for_each(|_| world.send("Viewed", 1, None));
    world.send("Stranger", 1, None);
    let (outcome, tally) = world.run(config(), None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!((tally.messages.deleted, tally.messages.released), (40, 1));
    assert_eq!(tally.reasons["UserNotFound"], 1);
    assert_eq!(world.queue.len(), 1);
}

#[test]
fn a_left_message_that_comes_again_is_not_sent_again_and_is_kept_away() {
    let mut world = World::new(5);
    world.send("Stranger", 1, None);
    (0..400).for_each(|_| world.send("Viewed", 3, None));
    world.post_time = Duration::from_secs(10);
    let (_, tally) = world.run(config(), None).unwrap();
    let stranger = world.queue.values().next().unwrap();
    assert!(stranger.receives <= 2, "{} receives", stranger.receives);
    assert_eq!(tally.reasons["UserNotFound"], 1);
    assert!(
        stranger.visible_at <= world.now,
        "it is given back at the end"
    );
}

#[test]
fn unknown_users_are_made_and_their_messages_come_again_in_this_run_or_the_next() {
    for backlog in [0, 4_000] {
        let mut world = World::new(11);
        world.send("Stranger", 2, None);
        world.send("Stranger", 1, None);
        (0..backlog).for_each(|_| world.send("Viewed", 3, None));
        let config = Config {
            unknown_users: UnknownUserPolicy::Create,
            ..config()
        };
        let mut receives = 0;
        while !world.queue.is_empty() {
            world.run(config.clone(), None).unwrap();
            receives = world
                .queue
                .values()
                .map(|message| message.receives)
                .max()
                .unwrap_or(receives);
            world.later(Duration::from_secs(120));
        }
        assert_eq!(world.known.len(), 2);
        assert_eq!(world.stored.len(), 3 + 3 * backlog);
        assert!(receives <= 3, "{receives} receives");
    }
}

#[test]
fn rejected_events_are_dead_lettered_alone_and_their_message_deleted() {
    let mut world = World::new(6);
    (0..50).for_each(|_| world.send("Viewed", 2, None));
    world.send("Poison", 2, None);
    let (outcome, tally) = world.run(config(), None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!(
        (tally.messages.deleted, tally.messages.dead_lettered),
        (51, 1)
    );
    assert_eq!(world.dead_numbers(), BTreeSet::from([5_000, 5_001]));
}

#[test]
fn a_dead_letter_queue_that_throttles_for_seconds_gets_its_letters() {
    let mut world = World::new(27);
    (0..10).for_each(|_| world.send("Poison", 1, None));
    world.no_letters_until = Some(world.now + Duration::from_secs(5));
    let (_, tally) = world.run(config(), None).unwrap();
    assert_eq!(
        (tally.messages.deleted, tally.messages.dead_lettered),
        (10, 10)
    );
}

#[test]
fn fields_that_are_dropped_for_their_type_are_counted() {
    let mut world = World::new(30);
    (0..3).for_each(|_| world.send("Typed", 2, None));
    let config = Config {
        type_conflicts: TypeConflictPolicy::DropField,
        ..config()
    };
    let (_, tally) = world.run(config, None).unwrap();
    assert_eq!((tally.messages.deleted, tally.events.forwarded), (3, 6));
    assert_eq!(tally.reasons["FieldTypeConflict"], 6);
}

#[test]
fn an_event_that_is_too_large_leaves_the_size_of_later_requests_alone() {
    for others_with_it in [0, 59] {
        let mut world = World::new(17);
        (0..others_with_it).for_each(|_| world.send("Viewed", 1, None));
        world.send("Huge", 1, None);
        (0..2_000).for_each(|_| world.send("Viewed", 3, None));
        let config = Config {
            request: RequestLimits {
                events: 100,
                bytes: 10_000_000,
            },
            ..config()
        };
        let (outcome, tally) = world.run(config, None).unwrap();
        assert_eq!(outcome, Outcome::Drained);
        assert_eq!(tally.reasons["EventTooLarge"], 1);
        let full = world.sizes.iter().filter(|size| **size == 100).count();
        assert!(full > 50, "{:?}", world.sizes);
    }
}

#[test]
fn requests_keep_to_a_size_that_iterable_takes() {
    let mut world = world(18, 2_000);
    world.most_events = 40;
    let (outcome, tally) = world.run(config(), None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!(tally.events.forwarded, 6_000);
    assert!(world.posts < 6_000 / 20, "{} posts", world.posts);
}

#[test]
fn without_a_dead_letter_queue_the_message_stays() {
    let mut world = World::new(7);
    world.send("Poison", 1, None);
    let config = Config {
        dead_letter_bytes: None,
        ..config()
    };
    let (_, tally) = world.run(config, None).unwrap();
    assert_eq!((tally.messages.deleted, tally.messages.released), (0, 1));
    assert!(tally.notice.unwrap().contains("dead-letter queue"));
}

#[test]
fn the_most_messages_of_a_run_are_kept_to() {
    let mut world = world(8, 100);
    let config = Config {
        max_messages: 25,
        ..config()
    };
    let (outcome, tally) = world.run(config, None).unwrap();
    assert_eq!(outcome, Outcome::LimitReached);
    assert_eq!((tally.messages.received, tally.messages.deleted), (25, 25));
}

#[test]
fn a_run_ends_by_its_deadline_and_holds_nothing_past_it() {
    let mut world = world(9, 5_000);
    let started = world.now;
    let config = Config {
        max_duration: Duration::from_secs(8),
        ..config()
    };
    let (outcome, tally) = world.run(config, None).unwrap();
    assert_eq!(outcome, Outcome::LimitReached);
    assert!(world.now <= started + Duration::from_secs(9));
    assert!(tally.messages.deleted > 100);
    assert_eq!(world.queue.len() as u64, 5_000 - tally.messages.deleted);
    assert!(
        world
            .queue
            .values()
            .all(|message| message.visible_at <= world.now)
    );
}

#[test]
fn what_a_receive_brings_past_the_end_is_given_back() {
    let now = Instant::now();
    let limit = Duration::from_secs(4);
    let short = Config {
        max_duration: limit,
        ..config()
    };
    let mut engine = Engine::new(short, now, 7);
    assert!(matches!(
        engine.actions(now)[..],
        [Action::ReadDepth, Action::Receive { receive: 0, .. }]
    ));
    engine.done(Done::Depth(Some(10)), now);
    let later = now + limit + LAST_WORD / 2;
    assert!(engine.actions(later).is_empty());
    assert_eq!(engine.ended(), None, "an answer may still come");
    let mut world = World::new(7);
    (0..10).for_each(|_| world.send("Viewed", 1, None));
    let messages = world.take(10, false);
    engine.done(received(0, now, messages), later);
    let actions = engine.actions(later);
    let [Action::GiveBack(handles, after)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!((handles.len(), *after), (10, Duration::ZERO));
    engine.done(Done::GivenBack, later);
    assert!(engine.actions(later).is_empty());
    assert_eq!(engine.ended(), Some(Outcome::LimitReached));
    let messages = &engine.tally().messages;
    assert_eq!((messages.received, messages.released), (10, 10));
}

#[test]
fn a_trickle_ends_a_run_in_order() {
    let mut world = world(10, 3);
    let config = Config {
        max_duration: Duration::from_secs(3_000),
        ..config()
    };
    // Each run sees what is there; what comes later is for the next one.
    let (outcome, _) = world.run(config, None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
}

#[test]
fn a_fifo_queue_keeps_the_order_of_its_groups_under_faults() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for index in 0..60 {
            world.send("Viewed", 2, Some(if index % 3 == 0 { "a" } else { "b" }));
        }
        world.sink_faults = 20;
        world.queue_faults = 5;
        for _ in 0..50 {
            if world.queue.is_empty() {
                break;
            }
            world
                .run(
                    Config {
                        fifo: true,
                        ..config()
                    },
                    None,
                )
                .unwrap();
            world.later(VISIBILITY * 2);
        }
        assert!(world.queue.is_empty(), "seed {seed}");
        assert_eq!(world.most_posting, 1);
        for group in [0, 1] {
            let of_group = world
                .order
                .iter()
                .filter(|n| usize::from((**n / 100) % 3 != 0) == group);
            let order: Vec<_> = of_group.collect();
            assert!(order.is_sorted(), "seed {seed}: {order:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever fails, and wherever a run is killed: no event is lost, and in the end everything
    /// is in Iterable or in the dead-letter queue.
    #[test]
    fn no_event_is_ever_lost(
        seed in any::<u64>(),
        sink_faults in 0u32..30,
        queue_faults in 0u32..20,
        kills in proptest::collection::vec(1usize..60, 0..6),
        poison in 0usize..4,
    ) {
        let mut world = World::new(seed);
        for index in 0..80 {
            world.send(if index % 20 < poison { "Poison" } else { "Viewed" }, 1 + index % 3, None);
        }
        let sent: BTreeMap<usize, Message> = world.queue.clone();
        world.sink_faults = sink_faults;
        world.queue_faults = queue_faults;
        world.ghosts = 10;
        let check = |world: &World| {
            let dead = world.dead_numbers();
            let stored: BTreeSet<u64> = world.stored.values().copied().collect();
            for (id, message) in &sent {
                if world.queue.contains_key(id) {
                    continue;
                }
                let count = message.body.matches("event_name").count() as u64;
                for n in (0..count).map(|event| *id as u64 * 100 + event) {
                    assert!(stored.contains(&n) || dead.contains(&n), "event {n} is lost");
                }
            }
        };
        for kill in kills {
            if let Some((_, tally)) = world.run(config(), Some(kill)) {
                assert_adds_up(&tally);
            }
            check(&world);
            world.later(VISIBILITY);
        }
        for _ in 0..60 {
            if world.queue.is_empty() {
                break;
            }
            let (_, tally) = world.run(config(), None).unwrap();
            assert_adds_up(&tally);
            check(&world);
            world.later(VISIBILITY * 2);
        }
        prop_assert!(world.queue.is_empty());
    }

    /// A run that is told to stop at any point ends within its grace period and gives back
    /// whatever it has not settled.
    #[test]
    fn an_interrupted_run_ends_in_order(seed in any::<u64>(), messages in 1usize..300, after in 0u64..4_000) {
        let mut world = world(seed, messages);
        let stop_at = world.now + Duration::from_millis(after);
        let (outcome, tally, stopped) = world.run_until(config(), stop_at);
        prop_assert!(outcome == Outcome::Interrupted || (outcome == Outcome::Drained && !stopped));
        if stopped {
            prop_assert!(world.now <= stop_at + Duration::from_secs(5));
        }
        prop_assert!(world.queue.values().all(|message| message.visible_at <= world.now));
        assert_adds_up(&tally);
    }

    /// Such a run ends within its grace period whatever fails, and however slowly.
    #[test]
    fn an_interrupted_run_ends_in_time_whatever_fails(
        seed in any::<u64>(),
        sink_faults in 0u32..50,
        queue_faults in 0u32..100,
        slow_seconds in 0u64..60,
        after in 0u64..20_000,
    ) {
        let mut world = World::new(seed);
        for index in 0..200 {
            let name = ["Viewed", "Poison", "Stranger"][index % 3];
            world.send(name, 2, None);
        }
        (world.sink_faults, world.queue_faults) = (sink_faults, queue_faults);
        world.slow_time = Duration::from_secs(slow_seconds);
        let config = Config {
            unknown_users: UnknownUserPolicy::Create,
            ..config()
        };
        let stop_at = world.now + Duration::from_millis(after);
        let (_, tally, stopped) = world.run_until(config.clone(), stop_at);
        assert_adds_up(&tally);
        if stopped {
            prop_assert!(world.now <= stop_at + config.grace + LAST_WORD);
        }
    }
}

/// The most bytes that a run holds of so many messages of a mebibyte. Each is held with its events,
/// so twice.
/// The most bytes that are held of so many messages of a mebibyte each, after so many small ones.
fn most_held_of_mebibytes(
    small: usize,
    messages: usize,
    max_bytes: usize,
    tells_sizes: bool,
) -> usize {
    let mut world = World::new(31);
    world.tells_sizes = tells_sizes;
    (0..small).for_each(|_| world.send("Viewed", 1, None));
    // A value may have 32,000 bytes at most.
    let text = "x".repeat(26_000);
    (0..messages).for_each(|_| world.send_with("Viewed", 40, None, &text));
    let bytes = world.queue.values().map(|message| message.body.len());
    assert!(bytes.max().unwrap() > 1_000_000);
    let config = Config {
        max_bytes,
        max_message_bytes: 1 << 20,
        request: RequestLimits {
            events: 1_000,
            bytes: 4_000_000,
        },
        ..config()
    };
    let (outcome, tally) = world.run(config, None).unwrap();
    assert_eq!(outcome, Outcome::Drained);
    assert_eq!(tally.messages.deleted, (small + messages) as u64);
    assert_eq!(tally.messages.received, tally.messages.deleted, "each once");
    world.most_held
}

#[test]
fn no_more_bytes_are_held_than_the_forwarder_allows() {
    let max_bytes = 32 << 20;
    for small in [0, 400] {
        for tells_sizes in [true, false] {
            let held = most_held_of_mebibytes(small, 80, max_bytes, tells_sizes);
            assert!(held <= max_bytes, "after {small}: {held}");
            assert!(held > max_bytes / 2, "the room is used: {held}");
        }
    }
}

#[test]
fn answers_that_may_hold_up_another_are_read_whatever_the_room() {
    let now = Instant::now();
    let mut engine = Engine::new(config(), now, 3);
    (0..4).for_each(|_| engine.pace.succeeded(Duration::from_millis(10)));
    engine.actions(now);
    engine.done(Done::Depth(Some(100_000)), now);
    engine.actions(now);
    assert_eq!(engine.intake.under_way(), 8);
    for receive in 0..8 {
        let bytes = Some(100 << 20);
        engine.done(Done::Answered { receive, bytes }, now);
    }
    assert_eq!(engine.answers_to_read(), [0], "more than all the room");
    assert!(engine.answers_to_read().is_empty());
    engine.done(Done::Stalled, now);
    assert_eq!(engine.answers_to_read(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(engine.answers_to_read().is_empty());
}

#[test]
fn where_ten_messages_are_more_than_is_allowed_fewer_are_asked_for() {
    let max_bytes = 8 << 20;
    let held = most_held_of_mebibytes(200, 40, max_bytes, true);
    assert!(held <= max_bytes, "{held}");
}
