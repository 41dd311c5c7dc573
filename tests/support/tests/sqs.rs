//! The SQS features that the drain's tests need, on every server.

use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_sqs::{
    Client,
    error::ProvideErrorMetadata,
    types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName},
};
use event_forwarder_test_support::free_address;
use event_forwarder_test_support::sqs::{Attributes, Depth, Kind, Queue, SqsServer, set_up};
use tokio::{process::Command, sync::OnceCell};

/// Returns the server of this kind, shared by all tests; it ends with this process.
async fn server(kind: Kind) -> &'static SqsServer {
    static SERVERS: [OnceCell<SqsServer>; 3] = [const { OnceCell::const_new() }; 3];
    let start = async || match kind {
        Kind::Moto => SqsServer::moto().await,
        Kind::Fauxqs => SqsServer::fauxqs().await,
        Kind::ElasticMq => SqsServer::elasticmq().await,
    };
    SERVERS[kind as usize]
        .get_or_init(async || start().await.expect("the server starts"))
        .await
}

async fn queue(kind: Kind, attributes: Attributes) -> (Client, Queue) {
    static QUEUES: AtomicU32 = AtomicU32::new(0);
    let name = format!("queue-{}", QUEUES.fetch_add(1, Ordering::Relaxed));
    let server = server(kind).await;
    let queue = server
        .create_queue_with_dlq(&name, attributes)
        .await
        .expect("a queue");
    assert!(queue.url.starts_with(&server.endpoint()), "{}", queue.url);
    (server.client(), queue)
}

async fn receive(client: &Client, url: &str, wait_seconds: i32) -> Vec<Message> {
    let received = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(10)
        .wait_time_seconds(wait_seconds)
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .send()
        .await
        .expect("an answer");
    received.messages.unwrap_or_default()
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    messages.iter().filter_map(Message::body).collect()
}

fn handle(message: &Message) -> &str {
    message.receipt_handle().expect("a receipt handle")
}

async fn release(client: &Client, url: &str, message: &Message) {
    client
        .change_message_visibility()
        .queue_url(url)
        .receipt_handle(handle(message))
        .visibility_timeout(0)
        .send()
        .await
        .expect("an answer");
}

async fn delete(client: &Client, url: &str, messages: &[Message]) {
    let entries = messages.iter().enumerate().map(|(index, message)| {
        DeleteMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(handle(message))
            .build()
            .expect("an entry")
    });
    let deleted = client
        .delete_message_batch()
        .queue_url(url)
        .set_entries(Some(entries.collect()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (deleted.successful.len(), deleted.failed.len()),
        (messages.len(), 0)
    );
}

async fn sent_messages_are_received_and_deleted(kind: Kind) {
    let (client, queue) = queue(kind, Attributes::default()).await;
    let sent: Vec<_> = (0..25).map(|n| format!("message {n} ü & + % =")).collect();
    queue.send(&sent).await.expect("all sent");
    assert_eq!(queue.depth().await.expect("a depth").visible, 25);

    let mut received = Vec::new();
    loop {
        let messages = receive(&client, &queue.url, 0).await;
        if messages.is_empty() {
            break;
        }
        delete(&client, &queue.url, &messages).await;
        received.extend(bodies(&messages).into_iter().map(str::to_owned));
    }
    received.sort_unstable_by_key(|body| sent.iter().position(|sent| sent == body));
    assert_eq!(received, sent);
    assert_eq!(queue.depth().await.expect("a depth"), Depth::default());
}

async fn received_message_is_invisible_until_its_timeout(kind: Kind) {
    let (client, queue) = queue(
        kind,
        Attributes {
            visibility_timeout: std::time::Duration::from_secs(3),
            ..Attributes::default()
        },
    )
    .await;
    queue.send(&["m"]).await.expect("sent");
    let first = receive(&client, &queue.url, 0).await;
    assert_eq!(bodies(&first), ["m"]);
    assert_eq!(
        bodies(&receive(&client, &queue.url, 0).await),
        Vec::<&str>::new()
    );
    assert_eq!(queue.depth().await.expect("a depth").in_flight, 1);

    let again = receive(&client, &queue.url, 10).await;
    assert_eq!(bodies(&again), ["m"]);
    assert_ne!(handle(&again[0]), handle(&first[0]));
    let count = MessageSystemAttributeName::ApproximateReceiveCount;
    assert_eq!(
        again[0]
            .attributes()
            .and_then(|all| all.get(&count))
            .map(String::as_str),
        Some("2")
    );
}

async fn message_moves_to_dlq_after_max_receives(kind: Kind) {
    let (client, queue) = queue(kind, Attributes::default()).await;
    queue.send(&["m"]).await.expect("sent");
    for _ in 0..3 {
        let received = receive(&client, &queue.url, 1).await;
        assert_eq!(bodies(&received), ["m"]);
        release(&client, &queue.url, &received[0]).await;
    }
    assert_eq!(queue.dlq_depth().await.expect("a depth").visible, 0);
    assert_eq!(
        bodies(&receive(&client, &queue.url, 1).await),
        Vec::<&str>::new()
    );
    assert_eq!(queue.dlq_depth().await.expect("a depth").visible, 1);
    assert_eq!(bodies(&receive(&client, &queue.dlq_url, 1).await), ["m"]);
}

async fn messages_over_one_mebibyte_are_rejected(kind: Kind) {
    let (client, queue) = queue(kind, Attributes::default()).await;
    let largest = "x".repeat(1_048_576);
    queue.send(&[largest.as_str()]).await.expect("sent");
    assert_eq!(
        bodies(&receive(&client, &queue.url, 1).await),
        [largest.as_str()]
    );
    queue.send(&[largest + "x"]).await.expect_err("a rejection");
}

async fn fifo_group_is_blocked_while_messages_are_in_flight(kind: Kind) {
    let (client, queue) = queue(
        kind,
        Attributes {
            fifo: true,
            ..Attributes::default()
        },
    )
    .await;
    assert!(queue.url.ends_with(".fifo") && queue.dlq_url.ends_with(".fifo"));
    let sent: Vec<_> = (0..12).map(|n| n.to_string()).collect();
    queue.send(&sent).await.expect("sent");
    let first = receive(&client, &queue.url, 0).await;
    assert_eq!(bodies(&first), sent[..first.len()]);
    assert_eq!(
        bodies(&receive(&client, &queue.url, 0).await),
        Vec::<&str>::new()
    );
}

async fn unknown_queue_is_an_error(kind: Kind) {
    let server = server(kind).await;
    let url = format!("{}/000000000000/missing", server.endpoint());
    let error = server
        .client()
        .receive_message()
        .queue_url(url)
        .send()
        .await
        .expect_err("an error");
    let error = error.into_service_error();
    // ElasticMQ's answer lacks the header with which the SDK detects the type, so the code must do.
    assert!(
        error.is_queue_does_not_exist() || error.code() == Some("QueueDoesNotExist"),
        "{error:?}"
    );
}

async fn server_listens_at_address_and_ends_when_dropped(kind: Kind) {
    let listen = free_address().expect("an address");
    let server = SqsServer::start(kind, listen)
        .await
        .expect("the server starts");
    assert_eq!(server.endpoint(), format!("http://{listen}"));
    let queue = server
        .create_queue_with_dlq("q", Attributes::default())
        .await
        .expect("a queue");
    assert!(queue.url.starts_with(&server.endpoint()), "{}", queue.url);
    drop(server);
    std::net::TcpStream::connect(listen).expect_err("the server has ended");
}

macro_rules! on_each_server {
    ($($test:ident),* $(,)?) => {
        on_each_server!(@ moto, Kind::Moto, $($test),*);
        on_each_server!(@ fauxqs, Kind::Fauxqs, $($test),*);
        on_each_server!(@ elasticmq, Kind::ElasticMq, $($test),*);
    };
    (@ $server:ident, $kind:expr, $($test:ident),*) => {
        mod $server {
            use super::*;
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test($kind).await;
                }
            )*
        }
    };
}

on_each_server!(
    sent_messages_are_received_and_deleted,
    received_message_is_invisible_until_its_timeout,
    message_moves_to_dlq_after_max_receives,
    messages_over_one_mebibyte_are_rejected,
    fifo_group_is_blocked_while_messages_are_in_flight,
    unknown_queue_is_an_error,
    server_listens_at_address_and_ends_when_dropped,
);

/// Deletes messages and creates queues in ten threads, which Python switches every 10 µs.
const CONCURRENT_REQUESTS: &str = r#"
import sys, threading, serve
from moto.sqs.models import sqs_backends

sys.setswitchinterval(1e-5)
backend = sqs_backends["123456789012"]["us-east-1"]
queue = backend.create_queue("deletes", {})
for _ in range(100):
    backend.send_message("deletes", "body")
received = []
while len(received) < 100:
    received += backend.receive_message("deletes", 10, 0, 30)
failures = []

def requests(thread):
    try:
        for message in received[thread * 10 : thread * 10 + 10]:
            backend.delete_message("deletes", message.receipt_handle)
        for number in range(50):
            dlq = backend.create_queue(f"{thread}-{number}-dlq", {})
            policy = {"deadLetterTargetArn": dlq.queue_arn, "maxReceiveCount": 3}
            backend.create_queue(f"{thread}-{number}", {}, RedrivePolicy=policy)
    except Exception as error:
        failures.append(repr(error))

threads = [threading.Thread(target=requests, args=[thread]) for thread in range(10)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(queue._messages), failures)
"#;

#[tokio::test]
async fn moto_performs_concurrent_requests_one_by_one() {
    let folder = set_up(Kind::Moto).await.expect("moto");
    let output = Command::new(folder.join("bin/python"))
        .args(["-c", CONCURRENT_REQUESTS])
        .current_dir(&folder)
        .output()
        .await
        .expect("Python");
    let (stdout, stderr) = (output.stdout, output.stderr);
    let text = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(text, ["0 []\n", ""]);
}
