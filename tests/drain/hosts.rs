//! The hosts of requests to SQS and the regions of their signatures, as sent on the wire.

use aws_sdk_sqs::{Client, Config, config::Region};
use event_forwarder::drain::report::Outcome;
use event_forwarder_test_support::sqs::Kind;

use crate::{
    process::Pod,
    tap::Tap,
    tls::{ConnectProxy, certificates, terminator},
    world::{Setting, World, batches},
};

on_each_server!(
    requests_are_signed_for_partition_and_endpoint,
    fauxqs lacks "queues under other hosts: it identifies a queue by its full URL"
);

/// Creates a queue with three messages in this region, and returns its URL.
async fn queue_in(client: Client, region: &'static str) -> String {
    let config = || Config::builder().region(Region::from_static(region));
    let request = client.create_queue().queue_name("events").customize();
    let created = request.config_override(config()).send().await.unwrap();
    let url = created.queue_url.unwrap();
    for body in batches(3, 1) {
        let message = client.send_message().queue_url(&url).message_body(body);
        message
            .customize()
            .config_override(config())
            .send()
            .await
            .unwrap();
    }
    url
}

async fn requests_are_signed_for_partition_and_endpoint(kind: Kind) {
    // The queue's URL, `queue.endpoint`, the requested host, and the region of the signature.
    for (url, endpoint, host, region) in [
        (
            "sqs.eu-central-1.amazonaws.com",
            None,
            "sqs.eu-central-1.amazonaws.com",
            "eu-central-1",
        ),
        (
            "sqs.us-gov-west-1.amazonaws.com",
            None,
            "sqs.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
        (
            "sqs.cn-north-1.amazonaws.com.cn",
            None,
            "sqs.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        (
            "sqs-fips.us-east-1.amazonaws.com",
            None,
            "sqs-fips.us-east-1.amazonaws.com",
            "us-east-1",
        ),
        (
            "sqs.eu-west-1.api.aws",
            None,
            "sqs.eu-west-1.api.aws",
            "eu-west-1",
        ),
        (
            "sqs.us-east-2.amazonaws.com",
            Some("sqs-fips.us-east-2.amazonaws.com"),
            "sqs-fips.us-east-2.amazonaws.com",
            "us-east-2",
        ),
        (
            "sqs.ap-southeast-2.amazonaws.com",
            Some("vpce-0a1b-2c3d.sqs.ap-southeast-2.vpce.amazonaws.com"),
            "vpce-0a1b-2c3d.sqs.ap-southeast-2.vpce.amazonaws.com",
            "ap-southeast-2",
        ),
    ] {
        let mut world = World::new(Setting::on(kind)).await;
        let queue = queue_in(world.sqs.client(), region).await;
        let pod = Pod::new("hosts");
        certificates(&pod.dir, &format!("DNS:{host}"));
        let tap = Tap::start(&world.sqs.endpoint()).await;
        let proxy = ConnectProxy::start(terminator(&pod.dir, &tap.url, &[]).await).await;
        let path = queue.splitn(4, '/').nth(3).unwrap();
        world.spec.queue.url = format!("https://{url}/{path}");
        world.spec.queue.endpoint = endpoint.map(|host| format!("https://{host}"));
        world.spec.queue.region = None;
        let https_proxy = ("HTTPS_PROXY", proxy.url.clone());
        let child = pod
            .all_files(&world)
            .start_with([https_proxy, pod.ca_file()]);
        let (_, report) = pod.end(child).await;
        assert_eq!(report.outcome, Outcome::Drained, "{url}: {report:?}");
        assert_eq!(report.messages.deleted, 3, "{url}");
        assert!(
            proxy
                .targets()
                .iter()
                .all(|target| target == &format!("{host}:443")),
            "{url}: {:?}",
            proxy.targets()
        );
        let requests = tap.requests();
        assert!(requests.len() >= 4, "{url}");
        for request in requests {
            assert_eq!(request.headers["host"], host, "{url}");
            assert_eq!(request.region(), region, "{url}");
        }
    }
}
