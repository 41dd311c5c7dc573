//! A project and a client that posts to it.

use event_forwarder_test_support::iterable::{Handle, IterableStandIn, Options};
use serde_json::{Value, json};

pub const TRACK_BULK: &str = "/api/events/trackBulk";
pub const BULK_UPDATE: &str = "/api/users/bulkUpdate";

pub struct Project {
    pub http: reqwest::Client,
    stand_in: IterableStandIn,
}

#[derive(Debug)]
pub struct Answered {
    pub status: u16,
    pub retry_after: Option<String>,
    pub text: String,
}

impl Answered {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the answer is JSON")
    }
}

impl Project {
    pub async fn start(options: Options) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::new(),
            stand_in: IterableStandIn::start(options)
                .await
                .expect("the stand-in starts"),
        }
    }

    pub fn handle(&self) -> &Handle {
        &self.stand_in.handle
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stand_in.url())
    }

    pub fn request(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http
            .post(self.url(path))
            .header("Api-Key", "test-key")
            .header("Content-Type", "application/json")
            .body(body)
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answered {
        answered(self.request(path, body)).await.expect("an answer")
    }

    pub async fn track(&self, events: Value) -> Answered {
        self.post(TRACK_BULK, json!({ "events": events }).to_string())
            .await
    }

    pub async fn update(&self, users: Value) -> Answered {
        self.post(BULK_UPDATE, json!({ "users": users }).to_string())
            .await
    }
}

pub async fn answered(request: reqwest::RequestBuilder) -> reqwest::Result<Answered> {
    let response = request.send().await?;
    Ok(Answered {
        status: response.status().as_u16(),
        retry_after: response
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().expect("text").to_owned()),
        text: response.text().await?,
    })
}
