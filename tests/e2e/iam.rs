//! An IAM user of moto, for an SQS server that checks permissions.

use event_forwarder_test_support::sqs::SqsServer;
use serde_json::json;
use url::form_urlencoded;

const NAME: &str = "drains";

/// An IAM user with access keys, initially without permissions.
pub struct User {
    pub access_key_id: String,
    pub secret_access_key: String,
    endpoint: String,
}

impl User {
    /// Creates the user and enables authorization on the server.
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
        user.set_authorization(true).await;
        user
    }

    /// Allows these actions only.
    pub async fn allow(&self, actions: &[&str]) {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}],
        });
        self.set_authorization(false).await;
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
        self.set_authorization(true).await;
    }

    /// Enables or disables authorization. It must be disabled to change policies, because no user
    /// has permission to do that.
    async fn set_authorization(&self, enabled: bool) {
        let free_requests = if enabled { "0" } else { "inf" };
        reqwest::Client::new()
            .post(format!("{}/moto-api/reset-auth", self.endpoint))
            .body(free_requests)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .expect("moto");
    }
}

/// Sends a request to IAM. Moto selects the service by the signature's scope.
async fn iam(endpoint: &str, form: &[(&str, &str)]) -> String {
    let response = reqwest::Client::new()
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
    response.text().await.expect("text")
}

fn element(xml: &str, name: &str) -> String {
    let (_, after) = xml.split_once(&format!("<{name}>")).expect(name);
    after.split('<').next().unwrap_or_default().to_owned()
}
