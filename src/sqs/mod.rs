//! stand-in until merged
use crate::api::QueueSpec;
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    Ambient,
    Keys(String, String, Option<String>),
}
impl Credentials {
    pub fn keys(a: String, b: String, c: Option<String>) -> Self {
        Self::Keys(a, b, c)
    }
}
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    pub visible: i64,
    pub in_flight: i64,
    pub delayed: i64,
    pub dead_letters: Option<i64>,
}
pub struct QueueClient;
#[derive(Debug, thiserror::Error)]
pub enum SqsError {
    #[error("x")]
    NotConnected,
}
impl SqsError {
    pub fn reason(&self) -> &'static str {
        "x"
    }
}
impl QueueClient {
    pub async fn connect(_: &QueueSpec, _: &Credentials) -> Result<Self, SqsError> {
        Ok(Self)
    }
    pub async fn depth(&self) -> Result<Depth, SqsError> {
        Err(SqsError::NotConnected)
    }
}
