use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    post_interval: Duration::from_millis(100),
    posts: 8,
    receives: 6,
};

fn pace() -> (Pace, Instant) {
    let start = Instant::now();
    (Pace::new(LIMITS, start), start)
}

#[test]
fn a_run_starts_with_one_receive_and_one_post() {
    let (mut pace, start) = pace();
    assert!(pace.may_receive(start, 0, 0));
    assert!(!pace.may_receive(start, 1, 0));
    assert!(!pace.may_receive(start, 0, 10));
    assert_eq!(pace.permit_post(start, 0), Ok(()));
    assert_eq!(pace.permit_post(start, 1), Err(None));
}

#[test]
fn posts_keep_to_the_rate() {
    let (mut pace, start) = pace();
    (0..4).for_each(|_| pace.succeeded(Duration::from_millis(10)));
    assert_eq!(pace.permit_post(start, 0), Ok(()));
    assert_eq!(
        pace.permit_post(start, 1),
        Err(Some(start + Duration::from_millis(100)))
    );
    assert_eq!(
        pace.permit_post(start + Duration::from_millis(100), 1),
        Ok(())
    );
}

#[test]
fn a_success_widens_and_a_failure_narrows_to_one() {
    let (mut pace, start) = pace();
    pace.succeeded(Duration::from_millis(10));
    assert!(pace.may_receive(start, 1, 10));
    assert!(!pace.may_receive(start, 0, 40));
    (0..4).for_each(|_| pace.succeeded(Duration::from_millis(10)));
    assert!(!pace.is_widening() && pace.may_receive(start, 5, 100_000));
    pace.failed(Failure::Trouble, start, start, None, 0.0);
    assert!(pace.is_widening());
    assert!(
        !pace.may_receive(start, 0, 0),
        "no receive while the sink is in trouble"
    );
    pace.succeeded(Duration::from_millis(10));
    assert!(pace.may_receive(start, 0, 0));
}

#[test]
fn a_wait_that_iterable_asks_for_is_kept_whatever_the_dice_say() {
    let (mut pace, start) = pace();
    pace.failed(
        Failure::SlowDown,
        start,
        start,
        Some(Duration::from_secs(7)),
        0.1,
    );
    assert_eq!(
        pace.permit_post(start, 0),
        Err(Some(start + Duration::from_secs(7)))
    );
}

#[test]
fn posts_that_fail_together_count_once_towards_the_breaker() {
    let (mut pace, start) = pace();
    for _ in 0..8 {
        pace.failed(
            Failure::Trouble,
            start,
            start + Duration::from_secs(1),
            None,
            0.5,
        );
    }
    assert!(!pace.is_broken(start + Duration::from_secs(1)));
    for second in 2..6 {
        let at = start + Duration::from_secs(second);
        pace.failed(Failure::Trouble, at, at, None, 0.5);
    }
    assert!(pace.is_broken(start + Duration::from_secs(6)));
}

#[test]
fn failures_to_connect_within_ten_seconds_do_not_break() {
    let (mut pace, start) = pace();
    pace.failed(Failure::Trouble, start, start, None, 0.0);
    for second in 1..9 {
        let at = start + Duration::from_secs(second);
        pace.failed(Failure::NotConnected, at, at, None, 0.0);
    }
    assert!(!pace.is_broken(start + Duration::from_secs(9)));
    assert!(pace.is_broken(start + Duration::from_secs(10)));
}

#[test]
fn a_stalled_sink_breaks_by_time() {
    let (mut pace, start) = pace();
    for step in 0..3 {
        let sent = start + Duration::from_secs(31 * step);
        pace.failed(
            Failure::Trouble,
            sent,
            sent + Duration::from_secs(30),
            None,
            0.0,
        );
    }
    assert!(pace.is_broken(start + Duration::from_secs(92)));
}

#[test]
fn trouble_counts_though_iterable_asked_to_go_slower_just_before() {
    let (mut pace, now) = pace();
    pace.failed(Failure::SlowDown, now, now, None, 0.0);
    assert!(pace.may_receive(now, 0, 0));
    pace.failed(Failure::Trouble, now, now, None, 0.0);
    assert!(!pace.may_receive(now, 0, 0));
}

#[test]
fn no_more_is_held_than_can_be_sent_in_a_quarter_of_the_visibility_timeout() {
    let (mut pace, _) = pace();
    pace.succeeded(Duration::from_millis(50));
    assert_eq!(pace.requests_within(Duration::from_secs(30)), 75);
    let mut slow = Pace::new(LIMITS, Instant::now());
    (0..3).for_each(|_| slow.succeeded(Duration::from_secs(24)));
    assert_eq!(slow.requests_within(Duration::from_secs(30)), 2);
    assert_eq!(slow.requests_within(Duration::from_secs(1)), 1);
}

proptest! {
    /// Whatever happens when: no second holds more posts than the rate, none starts while
    /// Iterable asked for quiet, no more are under way than allowed, and after a failure there is
    /// no receive before a success.
    #[test]
    fn no_history_exceeds_the_rate(
        steps in proptest::collection::vec((0u64..400, 0u8..10, 0u64..5, 0.0f64..1.0), 1..300),
    ) {
        let (mut pace, mut now) = pace();
        let mut posts: Vec<Instant> = Vec::new();
        let mut under_way = 0;
        let mut quiet_until = now;
        let mut in_trouble = false;
        for (wait, what, seconds, dice) in steps {
            now += Duration::from_millis(wait);
            match what {
                0..6 => match pace.permit_post(now, under_way) {
                    Ok(()) => {
                        prop_assert!(now >= quiet_until);
                        under_way += 1;
                        prop_assert!(under_way <= LIMITS.posts);
                        posts.push(now);
                    }
                    Err(Some(at)) => prop_assert!(at > now, "asking again at once would spin"),
                    Err(None) => prop_assert!(under_way > 0),
                },
                6 | 7 if under_way > 0 => {
                    under_way -= 1;
                    in_trouble = false;
                    pace.succeeded(Duration::from_millis(wait));
                }
                8 if under_way > 0 => {
                    under_way -= 1;
                    let retry_after = Duration::from_secs(seconds);
                    quiet_until = quiet_until.max(now + retry_after);
                    pace.failed(Failure::SlowDown, now, now, Some(retry_after), dice);
                }
                9 if under_way > 0 => {
                    under_way -= 1;
                    in_trouble = true;
                    pace.failed(Failure::Trouble, now, now, None, dice);
                }
                _ => {}
            }
            prop_assert!(!in_trouble || !pace.may_receive(now, 0, 0));
        }
        for (index, first) in posts.iter().enumerate() {
            let second = *first + Duration::from_secs(1);
            let count = posts[index..].iter().take_while(|at| **at < second).count();
            prop_assert!(count <= 10, "{count} posts in a second");
        }
    }

    /// A back-off is never longer than its bound, unless Iterable asks for more.
    #[test]
    fn a_back_off_has_a_bound(failures in 1u64..40, dice in 0.0f64..1.0) {
        let (mut pace, mut now) = pace();
        for _ in 0..failures {
            now += MAX_BACK_OFF;
            pace.failed(Failure::Trouble, now, now, None, dice);
        }
        let until = pace.blocked_until(now).unwrap_or(now);
        prop_assert!(until <= now + MAX_BACK_OFF);
    }
}
