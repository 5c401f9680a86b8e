//! What deliveries and attempts look like from outside.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::types::{AttemptId, EndpointId, EventId, LocationId, Timestamp};

#[derive(Debug, Serialize)]
pub struct Delivery {
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub location_id: Option<LocationId>,
    pub event_type: Option<String>,
    /// `pending`, `held`, `succeeded`, `failed`, `canceled` or `expired`.
    pub status: String,
    pub attempt_count: i64,
    pub last_response_status: Option<i16>,
    pub last_error: Option<String>,
    pub last_attempt_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

#[derive(Debug, Serialize)]
pub struct WholeDelivery {
    #[serde(flatten)]
    pub delivery: Delivery,
    /// As the latest attempt sent it, or as the first one will.
    pub request: Option<Request>,
    /// Newest last.
    pub attempts: Vec<AttemptView>,
}

#[derive(Debug, Serialize)]
pub struct Request {
    pub url: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

#[derive(Debug, Serialize)]
pub struct AttemptRequest {
    pub url: String,
    pub headers: BTreeMap<String, String>,
    /// Of the body, hex.
    pub body_sha256: String,
}

#[derive(Debug, Serialize)]
pub struct AttemptView {
    pub id: AttemptId,
    pub number: i32,
    pub at: Timestamp,
    pub trigger: &'static str,
    pub outcome: &'static str,
    /// A class, such as `timeout`.
    pub error: Option<String>,
    /// A sentence.
    pub diagnosis: Option<String>,
    pub request: Option<AttemptRequest>,
    pub response: Option<ResponseView>,
    pub duration_ms: i32,
    pub timings_ms: TimingsView,
    pub remote_addr: Option<String>,
}

/// An attempt among those of other deliveries.
#[derive(Debug, Serialize)]
pub struct ListedAttempt {
    pub event_id: EventId,
    /// `null` where the event has expired.
    pub event_type: Option<String>,
    #[serde(flatten)]
    pub attempt: AttemptView,
}

#[derive(Debug, Serialize)]
pub struct ResponseView {
    pub status: i16,
    pub headers: BTreeMap<String, String>,
    /// What is not UTF-8 is shown as replacement characters.
    pub body: String,
    pub truncated: bool,
}

/// What did not happen (a connection was there already) is null.
#[derive(Debug, Serialize)]
pub struct TimingsView {
    pub dns: Option<i32>,
    pub connect: Option<i32>,
    pub tls: Option<i32>,
    pub first_byte: Option<i32>,
}
