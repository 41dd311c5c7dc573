//! An SQS server that asks who may do what: moto, with a user of its own IAM.

use event_forwarder_test_support::sqs::SqsServer;
use serde_json::json;
use url::form_urlencoded;

const NAME: &str = "drains";

/// A user with keys of its own, who may do nothing yet.
pub struct User {
    pub access_key_id: String,
    pub secret_access_key: String,
    endpoint: String,
}

impl User {
    /// Creates the user; from then on the server refuses what nobody was given.
    pub async fn new(server: &SqsServer) -> Self {
        let endpoint = server.endpoint();
        iam(&endpoint, &[("Action", "CreateUser"), ("UserName", NAME)]).await;
        let key = iam(
            &endpoint,
            &[("Action", "CreateAccessKey"), ("UserName", NAME)],
        )
        .await;
        let user = Self {
            access_key_id: element(&key, "AccessKeyId"),
            secret_access_key: element(&key, "SecretAccessKey"),
            endpoint,
        };
        user.check(true).await;
        user
    }

    /// Gives the user a policy that allows these actions and no others.
    pub async fn may(&self, actions: &[&str]) {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}],
        });
        self.check(false).await;
        iam(
            &self.endpoint,
            &[
                ("Action", "PutUserPolicy"),
                ("UserName", NAME),
                ("PolicyName", "own"),
                ("PolicyDocument", &policy.to_string()),
            ],
        )
        .await;
        self.check(true).await;
    }

    /// Whether requests are judged. Without it the user could not be given anything: there is nobody
    /// who may.
    async fn check(&self, judged: bool) {
        let free_requests = if judged { "0" } else { "inf" };
        reqwest::Client::new()
            .post(format!("{}/moto-api/reset-auth", self.endpoint))
            .body(free_requests)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .expect("moto");
    }
}

/// A request to IAM, which moto tells from one to SQS by the signature's scope.
async fn iam(endpoint: &str, form: &[(&str, &str)]) -> String {
    let answer = reqwest::Client::new()
        .post(endpoint)
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=none",
        )
        .header("content-type", "application/x-www-form-urlencoded")
        .body(
            form_urlencoded::Serializer::new(String::new())
                .extend_pairs(form)
                .append_pair("Version", "2010-05-08")
                .finish(),
        )
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .expect("moto's IAM");
    answer.text().await.expect("text")
}

fn element(xml: &str, name: &str) -> String {
    let (_, after) = xml.split_once(&format!("<{name}>")).expect(name);
    after.split('<').next().unwrap_or_default().to_owned()
}
