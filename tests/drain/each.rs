//! A macro that runs tests on every SQS server.

/// Turns every `async fn(Kind)` into one test per SQS server.
///
/// `fauxqs lacks "feature"` marks the test on that server as ignored, with the feature as reason.
macro_rules! on_each_server {
    ($($test:ident),+ $(,)?) => { $(
        on_each_server!(@tests $test, fauxqs Fauxqs [], elasticmq ElasticMq [], moto Moto []);
    )+ };
    ($test:ident, fauxqs lacks $what:literal) => {
        on_each_server!(@tests $test, fauxqs Fauxqs [#[ignore = $what]], elasticmq ElasticMq [], moto Moto []);
    };
    (@tests $test:ident, $($name:ident $kind:ident [$($mark:tt)*]),+) => {
        mod $test {
            use event_forwarder_test_support::sqs::Kind;

            $(
                #[tokio::test(flavor = "multi_thread")]
                $($mark)*
                async fn $name() {
                    super::$test(Kind::$kind).await;
                }
            )+
        }
    };
}
