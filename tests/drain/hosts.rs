//! Where SQS is found and for which region requests are signed, by the names on the wire.

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
    each_of_aws_partitions_and_endpoints_is_reached_and_signed_for,
    fauxqs lacks "queues under other hosts: it knows a queue by its whole URL"
);

/// A queue of a region's own with three messages; answers its URL.
async fn queue_in(client: Client, region: &'static str) -> String {
    let there = || Config::builder().region(Region::from_static(region));
    let made = client.create_queue().queue_name("events").customize();
    let made = made.config_override(there()).send().await.unwrap();
    let url = made.queue_url.unwrap();
    for body in batches(3, 1) {
        let message = client.send_message().queue_url(&url).message_body(body);
        message
            .customize()
            .config_override(there())
            .send()
            .await
            .unwrap();
    }
    url
}

async fn each_of_aws_partitions_and_endpoints_is_reached_and_signed_for(kind: Kind) {
    // The queue's URL, `queue.endpoint`, the host on the wire, the region of the signature.
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
        let through = ("HTTPS_PROXY", proxy.url.clone());
        let child = pod.all_files(&world).start_with([through, pod.authority()]);
        let (_, report) = pod.end(child).await;
        assert_eq!(report.outcome, Outcome::Drained, "{url}: {report:?}");
        assert_eq!(report.messages.deleted, 3, "{url}");
        assert!(
            proxy
                .asked()
                .iter()
                .all(|asked| asked == &format!("{host}:443")),
            "{url}: {:?}",
            proxy.asked()
        );
        let requests = tap.requests();
        assert!(requests.len() >= 4, "{url}");
        for request in requests {
            assert_eq!(request.headers["host"], host, "{url}");
            assert_eq!(request.region(), region, "{url}");
        }
    }
}
