//! A project on the fake Iterable server, and a client that posts to it.

use event_forwarder_test_support::iterable::{FakeIterable, Handle, Options};
use serde_json::{Value, json};

pub const TRACK_BULK: &str = "/api/events/trackBulk";
pub const BULK_UPDATE: &str = "/api/users/bulkUpdate";

pub struct Project {
    pub http: reqwest::Client,
    fake_iterable: FakeIterable,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("the answer is JSON")
    }
}

impl Project {
    pub async fn start(options: Options) -> Self {
        // Fails if another test of this process has already installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            http: reqwest::Client::new(),
            fake_iterable: FakeIterable::start(options)
                .await
                .expect("the server starts"),
        }
    }

    pub fn handle(&self) -> &Handle {
        &self.fake_iterable.handle
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.fake_iterable.url())
    }

    pub fn request(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        self.http
            .post(self.url(path))
            .header("Api-Key", "test-key")
            .header("Content-Type", "application/json")
            .body(body)
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.request(path, body)).await.expect("an answer")
    }

    pub async fn track(&self, events: Value) -> Answer {
        self.post(TRACK_BULK, json!({ "events": events }).to_string())
            .await
    }

    pub async fn update(&self, users: Value) -> Answer {
        self.post(BULK_UPDATE, json!({ "users": users }).to_string())
            .await
    }
}

pub async fn send(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        retry_after: response
            .headers()
            .get("retry-after")
            .map(|value| value.to_str().expect("text").to_owned()),
        text: response.text().await?,
    })
}
