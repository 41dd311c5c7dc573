//! A relay in front of a server that records the requests.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A relay that records requests.
pub struct Tap {
    pub url: String,
    /// The bytes that clients sent, by connection.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// A request as sent on the wire.
#[derive(Debug)]
pub struct Request {
    /// Headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Tap {
    /// Starts a relay to the server at `http://HOST:PORT`.
    pub async fn start(target: &str) -> Self {
        let target = target.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let sent: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let all = Arc::clone(&sent);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else {
                    continue;
                };
                let index = {
                    let mut all = all.lock().unwrap();
                    all.push(Vec::new());
                    all.len() - 1
                };
                tokio::spawn(relay(client, server, Arc::clone(&all), index));
            }
        });
        Self { url, sent }
    }

    /// Returns all requests so far, in the order of their connections.
    pub fn requests(&self) -> Vec<Request> {
        let sent = self.sent.lock().unwrap();
        sent.iter().flat_map(|bytes| requests(bytes)).collect()
    }

    /// Returns the bodies of the requests of one SQS operation.
    pub fn bodies(&self, operation: &str) -> Vec<Value> {
        self.requests()
            .iter()
            .filter(|request| {
                request
                    .headers
                    .get("x-amz-target")
                    .is_some_and(|target| target == &format!("AmazonSQS.{operation}"))
            })
            .map(|request| serde_json::from_str(&request.body).unwrap())
            .collect()
    }
}

impl Request {
    /// Returns one part of the signature's credential: access key, date, region or service.
    fn credential(&self, position: usize) -> &str {
        let signature = &self.headers["authorization"];
        let credential = signature.split_once("Credential=").unwrap().1;
        credential.split(['/', ',']).nth(position).unwrap()
    }

    /// Returns the ID of the access key of the signature.
    pub fn access_key(&self) -> &str {
        self.credential(0)
    }

    /// Returns the region of the signature.
    pub fn region(&self) -> &str {
        self.credential(2)
    }
}

async fn relay(client: TcpStream, server: TcpStream, sent: Arc<Mutex<Vec<Vec<u8>>>>, index: usize) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
    });
    let mut piece = [0; 16 << 10];
    while let Ok(count @ 1..) = from_client.read(&mut piece).await {
        sent.lock().unwrap()[index].extend_from_slice(&piece[..count]);
        if to_server.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}

/// Parses the requests that a client sent on one connection.
fn requests(mut bytes: &[u8]) -> Vec<Request> {
    let mut requests = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let headers: BTreeMap<_, _> = head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |text| text.parse().unwrap());
        let rest = &bytes[end + 4..];
        let body = &rest[..length.min(rest.len())];
        requests.push(Request {
            headers,
            body: String::from_utf8_lossy(body).into_owned(),
        });
        bytes = &rest[body.len()..];
    }
    requests
}
