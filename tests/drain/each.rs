//! The same tests on each SQS server.

/// Makes of each `async fn(Kind)` one test for each SQS server. A server that lacks what a test
/// needs is named with what that is, and its test is listed as ignored for this reason.
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
