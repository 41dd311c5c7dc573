//! End-to-end tests on a real Kubernetes cluster, with helm, kubectl, a third-party SQS server and
//! a fake Iterable server.
//!
//! `make test` runs them. To run only these tests, start a cluster and import the image (see
//! CONTRIBUTING.md), then run `cargo test --test e2e`.
//!
//! If the cluster already has an installation of the product, the suite stops unless
//! `EVENT_FORWARDER_SHARE_CLUSTER=yes` is set. On a cluster of `tests/cluster/cluster`, the suite
//! also creates a user's installation, runs beside it, and checks that it is unchanged.

mod admission;
mod ambient;
mod changes;
mod conditions;
mod crd;
mod faults;
mod health;
mod iam;
mod leader;
mod names;
mod ownership;
mod permissions;
mod plugin;
mod printed;
mod queues;
mod runs;
mod schedules;
mod sharing;
#[path = "../tls_support/mod.rs"]
mod tls_support;
mod tracking;
mod uninstall;
mod user_installation;
mod world;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Handle, Runtime};
use world::{Shared, Stage};

/// Minimum duration that is printed, to show which tests should start first.
const SLOW_TEST: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests mostly wait for the cluster.
    arguments.test_threads = arguments.test_threads.or(Some(12));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let runtime = Runtime::new().expect("a runtime");
    // For the AWS and Kubernetes clients, as in the product.
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

/// Prepares the cluster and starts the shared servers.
async fn start(arguments: &Arguments) -> Result<Shared, Box<dyn std::error::Error + Send + Sync>> {
    world::image()?;
    let host = world::host()?;
    let client = kube::Client::try_default().await?;
    tokio::spawn(restore_on_signal(client.clone()));
    let mut users = None;
    if faults::own_cluster() {
        user_installation::remove(&client).await;
        sharing::preflight(&client, true).await?;
        sharing::clean_up(&client).await;
        // A filter may select only tests that don't need the user's installation.
        let filter = arguments.filter.as_deref().unwrap_or_default();
        let is_needed = user_installation::TESTS
            .iter()
            .any(|test| test.contains(filter));
        if is_needed && user_installation::install(&client).await {
            users = Some(user_installation::Snapshot::take().await);
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
        user_installation::remove(client).await;
    }
}

/// Restores the CRD of a shared cluster when the suite receives SIGINT or SIGTERM.
///
/// The next run, or the printed command, deletes the remaining objects.
async fn restore_on_signal(client: kube::Client) {
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
        "stopped; the next run deletes the remaining objects. To delete them now, run kubectl delete namespaces --selector {}",
        sharing::suite_selector()
    );
    sharing::restore_saved_crd(&client).await;
    std::process::exit(130);
}

type Context<'a> = Option<(&'a Handle, &'a Arc<Shared>)>;

/// Returns all tests. Without a context, they can only be listed.
fn trials(context: Context<'_>) -> Vec<Trial> {
    let mut trials = Vec::new();
    macro_rules! add {
        ($stage:expr; $($test:path),* $(,)?) => {$(
            trials.push(trial(stringify!($test), context, $stage, $test));
        )*};
    }
    let beside_users = context.is_none_or(|(_, shared)| shared.users.is_some());
    if beside_users {
        add![Stage::Operator; user_installation::demo_changes_no_user_objects];
    }
    add![
        Stage::Operator;
        // The slowest tests start first.
        schedules::long_run_makes_no_start_overdue,
        tracking::run_is_stuck_until_dead_node_is_deleted,
        tracking::pending_run_reports_reason,
        schedules::each_change_emits_one_event,
        schedules::blocked_run_is_overdue_until_one_starts,
        schedules::helm_waits_unless_forwarder_is_stalled,
        schedules::year_of_missed_starts_does_not_stop_runs,
        runs::scheduled_run_forwards_all_sample_events,
        runs::manual_run_is_reported_in_status,
        runs::annotation_starts_exactly_one_run,
        runs::unparsable_batch_is_left_for_redrive_policy,
        runs::suspended_forwarder_starts_no_runs_until_resumed,
        runs::reports_of_all_pods_are_summed,
        runs::rejected_key_sets_condition_and_deletes_nothing,
        conditions::missing_secret_pauses_runs_until_it_exists,
        conditions::missing_queue_sets_condition,
        conditions::invalid_schedule_is_rejected_with_message,
        conditions::config_map_program_is_checked_before_runs,
        conditions::invalid_spec_is_rejected_with_fix,
        conditions::secrets_appear_in_no_output,
        conditions::unreadable_object_does_not_block_others,
        names::missing_host_is_reported_immediately,
        ambient::ambient_credentials_go_to_allowed_hosts_only,
        crd::crd_applies_without_warnings,
        ownership::cronjob_follows_schedule_change,
        ownership::edited_cronjob_is_restored,
        ownership::deletion_removes_cronjob_jobs_and_pods,
        ownership::foreign_cronjob_is_not_changed,
        ownership::nothing_is_written_when_unchanged,
        ownership::long_name_gets_shortened_cronjob_name,
        leader::standby_replaces_killed_leader_within_15_seconds,
        leader::terminated_leader_releases_its_lease,
        leader::paused_leader_exits_when_it_resumes,
        health::readyz_reports_missing_watch_permission,
        plugin::run_is_followed_and_shown_in_status,
        plugin::failed_run_sets_exit_code,
        plugin::blocked_run_prints_reason_and_fix,
        plugin::suspend_and_resume_respect_manifest,
        plugin::map_uses_live_forwarder,
        plugin::dlq_messages_are_listed_and_redriven,
        plugin::every_error_has_message_and_exit_code,
        plugin::kubectl_completes_commands_and_names,
        admission::invalid_fields_are_rejected_with_message,
        admission::unknown_volume_field_is_reported,
        admission::largest_forwarder_is_stored_completely,
        admission::run_works_with_assigned_user_id,
        admission::longest_valid_name_works,
        changes::removed_job_fields_leave_cronjob,
        changes::quota_denial_is_reported_until_allowed,
        changes::deletion_during_run_loses_no_messages,
        changes::queue_change_applies_to_next_run,
        changes::suspend_does_not_stop_running_run,
        changes::secret_change_applies_to_next_run,
        queues::rejected_events_stay_without_dead_letter_queue,
        queues::unusable_dlq_is_reported_until_fixed,
        queues::missing_permission_is_reported_until_granted,
        queues::unknown_region_stalls_forwarder,
        tracking::evicted_run_reports_interrupted,
        tracking::run_is_reported_after_job_deletion,
        tracking::force_deleted_pod_is_reported_lost,
        tracking::oom_killed_run_loses_no_messages,
        printed::commands_in_notes_run,
        printed::commands_in_documentation_run,
        printed::commands_in_messages_run,
    ];
    add![
        Stage::OwnInstallation;
        crd::older_crd_is_reported,
        permissions::namespaced_roles_limit_operator_to_watched_namespaces,
        names::additional_ca_is_trusted_by_run_and_controller,
    ];
    if beside_users {
        add![Stage::Users; user_installation::suite_changes_no_user_objects];
    }
    add![
        Stage::SoleInstallation;
        changes::upgrade_changes_cronjob_image_but_not_runs,
        ownership::restarted_controller_reconciles_all_forwarders,
        tracking::run_without_controller_is_counted_later,
        uninstall::uninstall_keeps_crd_and_resources,
    ];
    if context.is_none() || faults::own_cluster() {
        add![Stage::OwnInstallation; names::run_survives_five_seconds_without_name_server];
        add![
            Stage::OwnOperator;
            faults::controller_converges_after_random_kills,
            faults::controller_converges_under_conflicting_writes,
            faults::wrong_clock_does_not_affect_runs,
            faults::different_clocks_elect_one_leader,
        ];
        add![
            Stage::OwnCluster;
            faults::controller_converges_after_api_server_kills,
            faults::expired_watch_is_restarted,
            faults::controller_converges_after_etcd_outage,
            printed::printed_command_updates_older_crd,
            printed::helm_uninstall_works_as_documented,
            printed::kustomize_uninstall_works_as_documented,
        ];
    }
    trials
}

fn trial<T>(name: &'static str, context: Context<'_>, stage: Stage, test: T) -> Trial
where
    T: AsyncFnOnce(&Shared) + Send + 'static,
{
    let context = context
        .map(|(runtime, shared)| (runtime.clone(), Arc::clone(shared), shared.register(stage)));
    Trial::test(name, move || {
        if let Some((runtime, shared, _pending)) = context {
            runtime.block_on(async {
                let _exclusive = shared.wait_for_stage(stage).await;
                let began = Instant::now();
                world::in_test(test(&shared)).await;
                let took = began.elapsed();
                if took > SLOW_TEST {
                    eprintln!("{name} took {} s", took.as_secs());
                }
            });
        }
        Ok(())
    })
}
