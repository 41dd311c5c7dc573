//! The product as its users meet it: on a real Kubernetes, by the real helm and kubectl, with
//! an SQS server that others wrote and a stand-in for Iterable.
//!
//! `make test` runs it. On its own: start a cluster and import the image (see the README), then
//! `cargo test --test e2e`.
//!
//! On a cluster with an installation of the product, the suite stops, unless
//! `EVENT_FORWARDER_SHARE_CLUSTER=yes` is set. On a cluster of `tests/cluster/cluster`, it installs
//! one as a user would, runs beside it, and checks that it has not changed.

mod admission;
mod ambient;
mod changes;
mod conditions;
mod definition;
mod faults;
mod health;
mod iam;
mod leader;
mod names;
mod ownership;
mod plugin;
mod printed;
mod queues;
mod rights;
mod runs;
mod scene;
mod schedules;
mod sharing;
#[path = "../tls_support/mod.rs"]
mod tls_support;
mod tracking;
mod uninstall;
mod world;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Handle, Runtime};
use world::{Shared, Stage};

/// From which time on a test's duration is printed: the slowest should start first.
const WORTH_TELLING: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait for the cluster much more than they work.
    arguments.test_threads = arguments.test_threads.or(Some(12));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let runtime = Runtime::new().expect("a runtime");
    // The AWS and Kubernetes clients of this process, like those of the product.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shared = match runtime.block_on(start(&arguments)) {
        Ok(shared) => Arc::new(shared),
        Err(error) => {
            eprintln!("the tests can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some((runtime.handle(), &shared))));
    runtime.block_on(clean_up(&shared.client));
    conclusion.exit_code()
}

/// Prepares the cluster.
async fn start(arguments: &Arguments) -> Result<Shared, Box<dyn std::error::Error + Send + Sync>> {
    world::image()?;
    let host = world::host()?;
    let client = kube::Client::try_default().await?;
    tokio::spawn(put_back_when_stopped(client.clone()));
    let mut users = None;
    if faults::own_cluster() {
        scene::remove(&client).await;
        sharing::preflight(&client, true).await?;
        sharing::clean_up(&client).await;
        // With a filter, only the tests that need it get it.
        let filter = arguments.filter.as_deref().unwrap_or_default();
        let is_needed = scene::TESTS.iter().any(|test| test.contains(filter));
        if is_needed && scene::set(&client).await {
            users = Some(scene::Snapshot::take().await);
        }
    }
    sharing::preflight(&client, sharing::is_allowed() || users.is_some()).await?;
    sharing::clean_up(&client).await;
    let shared = Shared::start(client.clone(), host, users).await;
    if shared.is_err() {
        clean_up(&client).await;
    }
    shared
}

async fn clean_up(client: &kube::Client) {
    sharing::clean_up(client).await;
    if faults::own_cluster() {
        scene::remove(client).await;
    }
}

/// Puts the CRD of a shared cluster back when the suite is told to stop. The next run, or this
/// selector, deletes the rest.
async fn put_back_when_stopped(client: kube::Client) {
    let terminated = async {
        let kind = tokio::signal::unix::SignalKind::terminate();
        let mut signals = tokio::signal::unix::signal(kind).expect("a handler");
        signals.recv().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
    eprintln!(
        "stopped: the next run deletes what this one has left, or kubectl delete namespaces --selector {}",
        sharing::ours()
    );
    sharing::put_back_saved_crd(&client).await;
    std::process::exit(130);
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
    let beside_users = context.is_none_or(|(_, shared)| shared.users.is_some());
    if beside_users {
        add![Stage::Operator; scene::the_demo_leaves_all_that_it_has_not_made];
    }
    add![
        Stage::Operator;
        // Those that take minutes start first.
        schedules::a_run_that_takes_longer_than_to_the_next_start_makes_none_overdue,
        tracking::a_run_whose_node_dies_is_stuck_until_the_node_is_deleted,
        tracking::a_run_that_can_not_start_says_why,
        schedules::each_change_is_one_event_and_minutes_at_rest_are_none,
        schedules::a_run_that_is_kept_from_starting_is_overdue_until_one_starts,
        schedules::tools_wait_for_what_may_still_come_and_give_up_on_what_can_not,
        schedules::a_year_of_missed_starts_does_not_stop_runs,
        runs::a_scheduled_run_forwards_every_sample_event_and_empties_the_queue,
        runs::the_report_of_a_run_started_by_hand_is_in_status,
        runs::an_annotation_starts_a_run_now_and_once,
        runs::a_batch_that_can_not_be_parsed_is_left_for_the_redrive_policy,
        runs::suspend_stops_runs_and_resuming_starts_them_again,
        runs::the_reports_of_several_pods_add_up,
        runs::a_refused_key_is_a_condition_and_deletes_nothing,
        conditions::a_missing_secret_is_named_and_the_forwarder_resumes_when_it_appears,
        conditions::a_missing_queue_is_a_condition,
        conditions::an_invalid_schedule_is_refused_with_a_sentence,
        conditions::rules_in_a_config_map_are_checked_before_any_run,
        conditions::what_can_be_known_to_be_wrong_is_refused_with_the_mend,
        conditions::no_key_stands_in_anything_that_the_system_printed,
        conditions::an_object_that_can_not_be_read_stops_nobody_else,
        names::missing_host_is_named_at_once,
        ambient::the_controllers_identity_goes_to_allowed_hosts_only,
        definition::the_definition_applies_both_ways_without_a_warning,
        ownership::a_changed_schedule_reaches_the_cronjob,
        ownership::a_hand_edited_cronjob_is_put_back,
        ownership::deleting_the_forwarder_removes_cronjob_jobs_and_pods,
        ownership::a_cronjob_of_the_users_own_is_left_alone,
        ownership::at_rest_nothing_is_written,
        ownership::a_long_name_gets_a_cronjob_all_the_same,
        leader::a_leader_that_dies_is_followed_within_15_seconds,
        leader::a_leader_that_is_told_to_stop_hands_over_at_once,
        leader::a_leader_that_was_asleep_ends_when_it_wakes,
        health::a_right_to_watch_that_is_missing_is_named_by_readyz,
        plugin::a_run_is_followed_to_its_report_and_stands_on_the_page,
        plugin::a_run_that_fails_gives_its_own_exit_code,
        plugin::what_hinders_a_run_is_told_with_the_mend,
        plugin::suspending_and_resuming_leaves_the_manifest_in_charge,
        plugin::files_are_mapped_by_the_live_forwarder,
        plugin::dead_letters_are_told_by_reason_and_sent_back,
        plugin::every_obstacle_has_a_sentence_and_an_exit_code,
        plugin::kubectl_completes_commands_and_names,
        admission::what_can_not_work_is_refused_with_a_sentence,
        admission::a_field_of_a_volume_that_would_be_lost_is_told,
        admission::the_largest_forwarder_is_taken_kept_whole_and_reaches_the_cronjob,
        admission::a_run_without_a_user_of_its_own_meets_the_restricted_level,
        admission::the_longest_name_that_kubernetes_takes_works,
        changes::what_is_taken_out_of_the_job_leaves_the_cronjob,
        changes::what_a_quota_forbids_is_told_until_it_is_allowed,
        changes::deleting_the_forwarder_in_mid_run_loses_nothing,
        changes::a_changed_queue_is_for_the_next_run,
        changes::suspending_lets_the_run_end_and_resuming_starts_the_next,
        changes::another_secret_in_the_spec_is_for_the_next_run,
        queues::without_a_dead_letter_queue_rejected_events_stay_and_a_condition_says_so,
        queues::a_dead_letter_queue_that_takes_nothing_is_told_until_one_does,
        queues::a_right_that_is_missing_is_named_by_status_and_run_until_it_is_given,
        queues::a_region_that_can_not_be_told_is_named_and_stalls,
        tracking::an_evicted_run_is_interrupted_and_its_report_is_kept,
        tracking::a_run_whose_job_is_deleted_is_followed_to_its_report,
        tracking::a_run_whose_pod_is_deleted_by_force_is_lost_and_says_so,
        tracking::a_run_that_is_killed_for_its_memory_says_so_and_loses_nothing,
        printed::what_the_notes_print_can_be_pasted,
        printed::commands_in_the_documentation_run,
        printed::commands_in_messages_run,
    ];
    add![
        Stage::OwnInstallation;
        definition::a_definition_that_is_older_than_the_controller_is_told,
        rights::with_roles_alone_the_operator_serves_its_namespaces_and_no_other,
        names::private_authority_is_trusted_by_run_and_controller,
    ];
    if beside_users {
        add![Stage::Users; scene::what_users_have_survives_the_suite];
    }
    add![
        Stage::SoleInstallation;
        changes::an_upgrade_changes_the_image_of_cronjobs_and_leaves_runs_alone,
        ownership::a_controller_that_starts_takes_up_every_forwarder,
        tracking::a_run_that_began_and_ended_without_a_controller_is_in_status,
        uninstall::uninstalling_keeps_the_definition_and_the_resources,
    ];
    if context.is_none() || faults::own_cluster() {
        add![Stage::OwnInstallation; names::run_survives_five_seconds_without_name_server];
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
            printed::the_printed_command_updates_an_older_crd,
            printed::uninstalling_by_helm_is_as_written,
            printed::uninstalling_by_kustomize_is_as_written,
        ];
    }
    trials
}

fn trial<T>(name: &'static str, context: Context<'_>, stage: Stage, test: T) -> Trial
where
    T: AsyncFnOnce(&Shared) + Send + 'static,
{
    let context =
        context.map(|(runtime, shared)| (runtime.clone(), Arc::clone(shared), shared.turn(stage)));
    Trial::test(name, move || {
        if let Some((runtime, shared, _turn)) = context {
            runtime.block_on(async {
                let _floor = shared.stage(stage).await;
                let began = Instant::now();
                world::in_test(test(&shared)).await;
                let took = began.elapsed();
                if took > WORTH_TELLING {
                    eprintln!("{name} took {} s", took.as_secs());
                }
            });
        }
        Ok(())
    })
}
