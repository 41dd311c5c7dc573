//! The product as its users meet it: on a real Kubernetes, by the real helm and kubectl, with
//! an SQS server that others wrote and a stand-in for Iterable.
//!
//! `make test` runs it. On its own: start a cluster and import the image (see the README), then
//! `cargo test --test e2e`.

mod conditions;
mod definition;
mod faults;
mod ownership;
mod runs;
mod uninstall;
mod world;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Handle, Runtime};
use world::{Shared, Stage};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait for the cluster much more than they work.
    arguments.test_threads = arguments.test_threads.or(Some(12));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let runtime = Runtime::new().expect("a runtime");
    let shared = match runtime.block_on(Shared::start()) {
        Ok(shared) => Arc::new(shared),
        Err(error) => {
            eprintln!("the tests can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some((runtime.handle(), &shared))));
    conclusion.exit_code()
}

type Context<'a> = Option<(&'a Handle, &'a Arc<Shared>)>;

/// All tests; without a context they can only be listed.
fn trials(context: Context<'_>) -> Vec<Trial> {
    let mut trials = Vec::new();
    macro_rules! add {
        ($stage:expr; $($test:path),* $(,)?) => {$(
            trials.push(trial(stringify!($test), context, $stage, $test));
        )*};
    }
    add![
        Stage::Operator;
        runs::a_scheduled_run_forwards_every_sample_event_and_empties_the_queue,
        runs::the_report_of_a_run_started_by_hand_is_in_status,
        runs::an_annotation_starts_a_run_now_and_once,
        runs::a_batch_that_can_not_be_parsed_is_left_for_the_redrive_policy,
        runs::suspend_stops_runs_and_resuming_starts_them_again,
        runs::a_refused_key_is_a_condition_and_deletes_nothing,
        conditions::a_missing_secret_is_named_and_the_forwarder_resumes_when_it_appears,
        conditions::a_missing_queue_is_a_condition,
        conditions::an_invalid_schedule_is_refused_with_a_sentence,
        conditions::rules_in_a_config_map_are_checked_before_any_run,
        conditions::what_can_be_known_to_be_wrong_is_refused_with_the_mend,
        conditions::no_key_stands_in_anything_that_the_system_printed,
        conditions::an_object_that_can_not_be_read_stops_nobody_else,
        definition::the_definition_applies_both_ways_without_a_warning,
        ownership::a_changed_schedule_reaches_the_cronjob,
        ownership::a_hand_edited_cronjob_is_put_back,
        ownership::deleting_the_forwarder_removes_cronjob_jobs_and_pods,
        ownership::a_cronjob_of_the_users_own_is_left_alone,
        ownership::a_controller_that_starts_takes_up_every_forwarder,
        ownership::at_rest_nothing_is_written,
        ownership::a_long_name_gets_a_cronjob_all_the_same,
        uninstall::uninstalling_keeps_the_definition_and_the_resources,
    ];
    if context.is_none() || faults::own_cluster() {
        add![
            Stage::OwnOperator;
            faults::the_controller_is_killed_at_random,
            faults::others_write_the_same_objects_all_the_time,
            faults::a_clock_that_is_hours_off_does_no_harm,
            faults::clocks_that_differ_leave_one_leader_at_a_time,
        ];
        add![
            Stage::OwnCluster;
            faults::the_api_server_is_killed_in_mid_reconcile,
            faults::a_watch_that_expired_is_started_afresh,
            faults::etcd_is_away_for_a_minute,
        ];
    }
    trials
}

fn trial<T>(name: &str, context: Context<'_>, stage: Stage, test: T) -> Trial
where
    T: AsyncFnOnce(&Shared) + Send + 'static,
{
    let context =
        context.map(|(runtime, shared)| (runtime.clone(), Arc::clone(shared), shared.turn(stage)));
    Trial::test(name, move || {
        if let Some((runtime, shared, _turn)) = context {
            runtime.block_on(async {
                let _cluster = shared.stage(stage).await;
                test(&shared).await;
            });
        }
        Ok(())
    })
}
