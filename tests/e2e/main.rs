//! The product as its users meet it: on a real Kubernetes, by the real helm and kubectl, with
//! an SQS server that others wrote and a stand-in for Iterable.
//!
//! `make test` runs it. On its own: start a cluster and import the image (see the README), then
//! `cargo test --test e2e`.

mod admission;
mod changes;
mod conditions;
mod ownership;
mod queues;
mod runs;
mod schedules;
mod tracking;
mod uninstall;
mod world;

use std::{process::ExitCode, sync::Arc};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Handle, Runtime};
use world::Shared;

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
        ($($test:path),* $(,)?) => {$(
            trials.push(trial(stringify!($test), context, $test));
        )*};
    }
    add![
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
        ownership::a_changed_schedule_reaches_the_cronjob,
        ownership::a_hand_edited_cronjob_is_put_back,
        ownership::deleting_the_forwarder_removes_cronjob_jobs_and_pods,
        ownership::a_cronjob_of_the_users_own_is_left_alone,
        ownership::at_rest_nothing_is_written,
        ownership::a_long_name_gets_a_cronjob_all_the_same,
        uninstall::uninstalling_keeps_the_definition_and_the_resources,
    ];
    add![
        admission::what_can_not_work_is_refused_with_a_sentence,
        admission::the_largest_forwarder_is_taken_kept_whole_and_reaches_the_cronjob,
        admission::a_run_without_a_user_of_its_own_meets_the_restricted_level,
        admission::the_longest_name_that_kubernetes_takes_works,
        changes::deleting_the_forwarder_in_mid_run_loses_nothing,
        changes::a_changed_queue_is_for_the_next_run,
        changes::suspending_lets_the_run_end_and_resuming_starts_the_next,
        changes::another_secret_in_the_spec_is_for_the_next_run,
        queues::without_a_dead_letter_queue_rejected_events_stay_and_a_condition_says_so,
        queues::a_dead_letter_queue_that_takes_nothing_is_told_until_one_does,
        queues::a_region_that_can_not_be_told_is_named_and_stalls,
        schedules::a_year_of_missed_starts_does_not_stop_runs,
        schedules::tools_wait_for_what_may_still_come_and_give_up_on_what_can_not,
        schedules::each_change_is_one_event_and_minutes_at_rest_are_none,
        tracking::an_evicted_run_is_interrupted_and_its_report_is_kept,
        tracking::a_run_whose_job_is_deleted_is_followed_to_its_report,
        tracking::a_run_whose_pod_is_deleted_by_force_is_lost_and_says_so,
        tracking::a_run_that_is_killed_for_its_memory_says_so_and_loses_nothing,
        tracking::a_run_that_can_not_start_says_why,
        tracking::a_run_whose_node_dies_is_stuck_until_the_node_is_deleted,
    ];
    macro_rules! add_alone {
        ($($test:path),* $(,)?) => {$(
            trials.push(trial_alone(stringify!($test), context, $test));
        )*};
    }
    add_alone![
        changes::an_upgrade_changes_the_image_of_cronjobs_and_leaves_runs_alone,
        ownership::a_controller_that_starts_takes_up_every_forwarder,
        tracking::a_run_that_began_and_ended_without_a_controller_is_in_status,
    ];
    trials
}

fn trial<T>(name: &str, context: Context<'_>, test: T) -> Trial
where
    T: AsyncFnOnce(&Shared) + Send + 'static,
{
    let context =
        context.map(|(runtime, shared)| (runtime.clone(), Arc::clone(shared), shared.turn()));
    Trial::test(name, move || {
        if let Some((runtime, shared, _turn)) = context {
            runtime.block_on(test(&shared));
        }
        Ok(())
    })
}

/// A test that runs when all those of [`trial`] have ended, and no other of its kind runs.
fn trial_alone<T>(name: &str, context: Context<'_>, test: T) -> Trial
where
    T: AsyncFnOnce(&Shared) + Send + 'static,
{
    let context = context.map(|(runtime, shared)| (runtime.clone(), Arc::clone(shared)));
    Trial::test(name, move || {
        if let Some((runtime, shared)) = context {
            runtime.block_on(async {
                let _floor = shared.floor().await;
                test(&shared).await;
            });
        }
        Ok(())
    })
}
