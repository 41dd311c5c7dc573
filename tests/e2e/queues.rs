//! Status of queues that can't be used as configured.

use event_forwarder::api::EventForwarderStatus;
use event_forwarder_test_support::sqs::{Attributes, Kind, SqsServer};
use serde_json::json;

use crate::{
    iam::User,
    tracking::{start, wait_for_run_end},
    world::{Shared, World, condition, sample},
};

const BATCH: &str = "01-session-and-screens-list-identities.json";
const EVENTS: u64 = 4;

/// Waits until the message that a run did not delete is visible again.
async fn wait_until_visible(world: &World) -> EventForwarderStatus {
    world
        .status_until("mparticle", "the message is visible again", |status| {
            status
                .queue
                .as_ref()
                .is_some_and(|queue| queue.visible == 1)
        })
        .await
}

pub async fn rejected_events_stay_without_dead_letter_queue(shared: &Shared) {
    let world = World::new(shared, "no-dead-letters").await;
    world.create_key_secret().await;
    // The dead-letter queue has no redrive policy.
    let mut queue = world.queue.clone();
    queue.url.clone_from(&world.queue.dlq_url);
    queue.send(&[sample(BATCH)]).await.expect("sending");
    world.iterable.handle.disallow_event_name("Screen View");
    world
        .apply("mparticle", json!({"queue": {"url": queue.url}}))
        .await;
    start(&world, "mparticle", "now").await;
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let run = status.last_run.as_ref().expect("a run");
    assert!(run.events.rejected > 0, "{run:#?}");
    assert_eq!((run.messages.deleted, run.messages.dead_lettered), (0, 0));
    let status = world
        .status_until("mparticle", "the queue has been polled", |status| {
            condition(status, "DeadLettersEmpty").1 == "NoDeadLetterQueue"
        })
        .await;
    let message = condition(&status, "DeadLettersEmpty").2;
    assert!(
        message.contains("as with spec.drain.rejected: Leave"),
        "{message}"
    );
    world
        .status_until("mparticle", "the forwarder is ready anyway", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    let depth = queue.depth().await.expect("depth");
    assert_eq!(depth.visible + depth.in_flight, 1);
}

pub async fn unusable_dlq_is_reported_until_fixed(shared: &Shared) {
    let world = World::new(shared, "dead-letters-denied").await;
    world.create_key_secret().await;
    world.queue.send(&[sample(BATCH)]).await.expect("sending");
    world.iterable.handle.disallow_event_name("Screen View");
    let missing = format!("{}-missing", world.queue.dlq_url);
    world
        .apply(
            "mparticle",
            json!({"queue": {"deadLetterUrl": missing}, "drain": {"visibilityTimeout": "10s"}}),
        )
        .await;
    start(&world, "mparticle", "now").await;
    let status = wait_for_run_end(&world, "mparticle", "now").await;
    let (condition_status, reason, message) = condition(&status, "DeadLettersEmpty");
    assert_eq!(
        (condition_status, reason),
        ("False", "DeadLetterQueueDenied"),
        "{message}"
    );
    assert!(message.contains("-missing"), "{message}");
    let depth = world.queue.depth().await.expect("depth");
    assert_eq!(
        depth.visible + depth.in_flight,
        1,
        "the message stays in the queue"
    );

    world
        .apply(
            "mparticle",
            json!({"queue": {"deadLetterUrl": world.queue.dlq_url}}),
        )
        .await;
    // The message stays invisible for the visibility timeout of the last run.
    let status = wait_until_visible(&world).await;
    assert_eq!(
        condition(&status, "DeadLettersEmpty").1,
        "DeadLetterQueueDenied"
    );
    start(&world, "mparticle", "next").await;
    let status = wait_for_run_end(&world, "mparticle", "next").await;
    let run = status.last_run.as_ref().expect("a run");
    assert_eq!(
        (run.messages.deleted, run.messages.dead_lettered),
        (1, 1),
        "{run:#?}"
    );
    world
        .status_until(
            "mparticle",
            "the dead-lettered message is counted",
            |status| condition(status, "DeadLettersEmpty").1 == "DeadLettersPresent",
        )
        .await;
    let arrived = world.iterable.handle.events().len() as u64;
    assert!(
        arrived > 0 && arrived < EVENTS,
        "the other events must arrive: {arrived}"
    );
}

pub async fn missing_permission_is_reported_until_granted(shared: &Shared) {
    let world = World::new(shared, "no-permissions").await;
    world.create_key_secret().await;
    let server = SqsServer::start(Kind::Moto, (shared.host, 0).into())
        .await
        .expect("an SQS server");
    let queue = server
        .create_queue_with_dlq("events", Attributes::default())
        .await
        .expect("a queue");
    queue.send(&[sample(BATCH)]).await.expect("sending");
    let user = User::new(&server).await;
    world
        .secret(
            "restricted",
            &[
                ("accessKeyId", &user.access_key_id),
                ("secretAccessKey", &user.secret_access_key),
            ],
        )
        .await;
    let spec = json!({"queue": {
        "url": queue.url,
        "endpoint": server.endpoint(),
        "credentialsSecretRef": {"name": "restricted"},
    }, "drain": {"visibilityTimeout": "10s"}});
    world.apply("mparticle", spec).await;
    let status = world
        .status_until("mparticle", "the condition is set", |status| {
            condition(status, "QueueReachable").0 == "False"
        })
        .await;
    let (_, reason, message) = condition(&status, "QueueReachable");
    assert_eq!(reason, "AccessDenied", "{message}");
    assert!(
        message.contains("sqs:GetQueueAttributes") && message.contains("user/drains"),
        "{message}"
    );
    assert_eq!(condition(&status, "Ready").1, "AccessDenied");

    user.allow(&["sqs:GetQueueAttributes", "sqs:ReceiveMessage"])
        .await;
    world
        .status_until("mparticle", "the queue is polled", |status| {
            condition(status, "QueueReachable").0 == "True"
        })
        .await;
    start(&world, "mparticle", "without-delete").await;
    let status = wait_for_run_end(&world, "mparticle", "without-delete").await;
    let (condition_status, reason, message) = condition(&status, "LastRunSucceeded");
    assert_eq!(
        (condition_status, reason),
        ("False", "QueueDenied"),
        "{message}"
    );
    assert!(
        message.contains("sqs:DeleteMessage") && message.contains("grant the permission"),
        "{message}"
    );
    assert_eq!(
        status.last_run.expect("a run").messages.deleted,
        0,
        "the message must not be deleted"
    );

    // In IAM, one permission covers a request and its batch form. Moto has one for each.
    let all = ["sqs:*Attributes", "sqs:*Message", "sqs:*MessageBatch"];
    user.allow(&[&all[..], &["sqs:ChangeMessageVisibility*"]].concat())
        .await;
    wait_until_visible(&world).await;
    start(&world, "mparticle", "with-delete").await;
    let status = wait_for_run_end(&world, "mparticle", "with-delete").await;
    assert_eq!(
        condition(&status, "LastRunSucceeded").1,
        "Drained",
        "{status:#?}"
    );
    assert_eq!(world.iterable.handle.events().len() as u64, EVENTS);
}

pub async fn unknown_region_stalls_forwarder(shared: &Shared) {
    let world = World::new(shared, "no-region").await;
    world.create_key_secret().await;
    world
        .apply("mparticle", json!({"queue": {"region": null}}))
        .await;
    let status = world
        .status_until("mparticle", "the condition is set", |status| {
            condition(status, "QueueReachable").1 == "NoRegion"
        })
        .await;
    assert!(
        condition(&status, "QueueReachable")
            .2
            .contains("set spec.queue.region"),
        "{status:#?}"
    );
    assert_eq!(
        (
            condition(&status, "Stalled").0,
            condition(&status, "Stalled").1
        ),
        ("True", "NoRegion")
    );
    world.apply("mparticle", json!({})).await;
    let status = world
        .status_until("mparticle", "the forwarder is ready", |status| {
            condition(status, "Ready").0 == "True"
        })
        .await;
    assert_eq!(
        condition(&status, "Stalled").0,
        "",
        "the condition must be removed"
    );
}
