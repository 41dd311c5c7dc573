//! Posts: when, which, and what their answers mean for the events.

use std::time::Instant;

use super::{Action, Engine};
use crate::{
    api::UnknownUserPolicy,
    drain::{
        ack::Verdict,
        batch::Group,
        blame::{self, Cause, Finding, Judgement, Order},
        pace::Failure,
        report::Outcome,
    },
    iterable::{ApiResponse, TransportFailure},
};

/// How often the same request is sent without a usable answer, while others get one, before it
/// is halved: something in it may be what Iterable stumbles over.
const MAX_ATTEMPTS: u32 = 4;

/// After how many events whose answer proves nothing a run ends, if Iterable took none at all:
/// then it is not Iterable that answers.
const MAX_UNCLEAR: u32 = 10;

/// The reason that a run counts for each field that it left out of an event, as the field is of
/// another type than the one that Iterable first saw.
const FIELD_TYPE_CONFLICT: &str = "FieldTypeConflict";

impl Engine {
    pub(super) fn post(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.is_stopping() {
            return;
        }
        // On a FIFO queue one request follows the other, which keeps the order of its groups.
        while !(self.config.fifo && self.posting > 0) && self.has_request(now) {
            match self.pace.permit_post(now, self.posting) {
                Err(None) => return,
                Err(Some(at)) => {
                    let asked = self.pace.asked_until(now);
                    if asked.is_some_and(|until| until >= self.stop_at) {
                        self.tally
                            .notice("Iterable's Retry-After exceeds the remaining run time");
                        self.stop(Outcome::SinkDown, now);
                    }
                    return self.wake_by(at);
                }
                Ok(()) => {
                    if let Some(group) = self.next_request() {
                        self.posting += 1;
                        actions.push(Action::Post(group));
                    }
                }
            }
        }
    }

    /// Whether there is a request worth a permit: one to repeat, a full one, or one that waits
    /// for nothing more.
    fn has_request(&mut self, now: Instant) -> bool {
        if !self.again.is_empty() || self.batcher.full_requests() > 0 {
            return true;
        }
        let Some(since) = self.batcher.forming_since() else {
            return false;
        };
        let nothing_comes =
            !self.intake.is_coming() && self.reading.under_way() == 0 && !self.may_receive(now);
        if nothing_comes || now >= since + self.linger() {
            return true;
        }
        self.wake_by(since + self.linger());
        false
    }

    fn next_request(&mut self) -> Option<Group> {
        let mut group = self.again.pop_front().or_else(|| self.batcher.take_any())?;
        if self.config.fifo {
            let lost: Vec<_> = group
                .items
                .extract_if(.., |item| self.ledger.is_lost(item.owner.ticket))
                .collect();
            for owner in lost.iter().flat_map(|item| item.owners()) {
                self.ledger.settle(owner.ticket, Verdict::Left);
            }
        }
        (!group.items.is_empty()).then_some(group)
    }

    pub(super) fn posted(
        &mut self,
        began: Instant,
        group: Group,
        answer: ApiResponse,
        now: Instant,
    ) {
        self.posting -= 1;
        let took = now.saturating_duration_since(began);
        let cause = match &answer {
            ApiResponse::RateLimited { .. } => " (status 429)".to_owned(),
            ApiResponse::Unavailable { kind, .. } => format!(" ({kind})"),
            _ => String::new(),
        };
        let judgement = match answer {
            ApiResponse::Accepted(counts) => {
                self.pace.succeeded(took);
                self.batcher.confirm(&group);
                blame::judge_counts(group, &counts)
            }
            ApiResponse::Rejected(refusal) => {
                self.pace.answered();
                let order = if self.config.fifo {
                    Order::Kept
                } else {
                    Order::Free
                };
                blame::judge_refusal(group, &refusal, self.config.type_conflicts, order)
            }
            ApiResponse::TooLarge => {
                self.pace.answered();
                self.batcher.shrink(&group);
                blame::judge_too_large(group)
            }
            ApiResponse::Unauthorized(refusal) => {
                self.tally.notice(format!(
                    "Iterable rejected the API key ({refusal}): store a server-side key from the \
                     project's data center in the Secret"
                ));
                self.stop(Outcome::ApiKeyRejected, now);
                self.later(group)
            }
            ApiResponse::WrongEndpoint(refusal) => {
                self.tally.notice(format!(
                    "events/trackBulk not found at the Iterable endpoint ({refusal}): check \
                     spec.iterable.endpoint and dataCenter"
                ));
                self.stop(Outcome::BadConfiguration, now);
                self.later(group)
            }
            ApiResponse::RateLimited { retry_after } => {
                let dice = self.dice.f64();
                self.tally.reason("SinkRateLimited");
                self.pace
                    .failed(Failure::SlowDown, began, now, retry_after, dice);
                self.later(group)
            }
            ApiResponse::Unavailable { kind, retry_after } => {
                let dice = self.dice.f64();
                self.tally.reason(kind.as_str());
                let failure = match kind {
                    TransportFailure::NotConnected { .. } => Failure::NotConnected,
                    _ => Failure::Trouble,
                };
                self.pace.failed(failure, began, now, retry_after, dice);
                self.stumbled(group, &kind)
            }
        };
        self.apply(judgement);
        let nothing_taken = self.tally.events.forwarded == 0 && self.unclear >= MAX_UNCLEAR;
        if self.pace.is_broken(now) || nothing_taken {
            self.tally.notice(format!(
                "Iterable is failing or returning invalid responses{cause}; stopped the run early, the next run retries"
            ));
            self.stop(Outcome::SinkDown, now);
        }
    }

    /// The same request again, later.
    fn later(&self, group: Group) -> Judgement {
        Judgement {
            again: vec![group],
            ..Judgement::default()
        }
    }

    /// The same request again, or its halves if it keeps failing while others succeed.
    fn stumbled(&mut self, mut group: Group, kind: &TransportFailure) -> Judgement {
        group.attempts += 1;
        if group.attempts < MAX_ATTEMPTS {
            return self.later(group);
        }
        if group.items.len() > 1 {
            return Judgement {
                again: group.halves().into(),
                ..Judgement::default()
            };
        }
        let cause = Cause {
            reason: kind.as_str().to_owned(),
            detail: kind.to_string(),
        };
        let found = group
            .items
            .into_iter()
            .map(|item| (item, Finding::Unclear(cause.clone())))
            .collect();
        Judgement {
            found,
            ..Judgement::default()
        }
    }

    fn apply(&mut self, judgement: Judgement) {
        for _ in 0..judgement.fields_dropped {
            self.tally.reason(FIELD_TYPE_CONFLICT);
        }
        for (item, finding) in judgement.found {
            for owner in item.owners() {
                match &finding {
                    Finding::Taken => {
                        self.tally.events.forwarded += 1;
                        self.ledger.settle(owner.ticket, Verdict::Done);
                    }
                    Finding::UserNotFound
                        if self.config.unknown_users != UnknownUserPolicy::Reject =>
                    {
                        self.tally.reason("UserNotFound");
                        let awaits_user = self.meet(item.event.user());
                        if let Some(held) = self.ledger.get_mut(owner.ticket) {
                            held.awaits_user |= awaits_user;
                        }
                        self.ledger.settle(owner.ticket, Verdict::Left);
                    }
                    Finding::UserNotFound => {
                        let detail = "user not found in Iterable".to_owned();
                        self.reject(
                            owner,
                            Cause {
                                reason: "UserNotFound".to_owned(),
                                detail,
                            },
                            1,
                        );
                    }
                    Finding::Refused(cause) => self.reject(owner, cause.clone(), 1),
                    Finding::Unclear(cause) => {
                        self.unclear += 1;
                        self.tally.reason(&cause.reason);
                        self.tally.notice(format!(
                            "delivery of an event could not be confirmed, so its message stays \
                             in the queue: {}",
                            cause.detail
                        ));
                        self.ledger.settle(owner.ticket, Verdict::Left);
                    }
                }
            }
        }
        if self.is_stopping() {
            judgement
                .again
                .into_iter()
                .for_each(|group| self.leave(group));
        } else {
            // In front, in their order: what was sent first stays first.
            judgement
                .again
                .into_iter()
                .rev()
                .for_each(|group| self.again.push_front(group));
        }
    }

    /// Leaves in the queue whatever isn't under way.
    pub(super) fn leave_unsent(&mut self) {
        self.leave_unread();
        while let Some(group) = self.again.pop_front().or_else(|| self.batcher.take_any()) {
            self.leave(group);
        }
    }

    fn leave(&mut self, group: Group) {
        for owner in group.items.iter().flat_map(|item| item.owners()) {
            self.ledger.settle(owner.ticket, Verdict::Left);
        }
    }
}
