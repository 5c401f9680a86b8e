//! What an endpoint looks like from outside.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::types::{EndpointId, LocationId, Timestamp};

/// Why an endpoint is `failing`.
pub const FAILING_REASON: &str = "a delivery ran out of retries, and none has succeeded since";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Active,
    /// A delivery ran out of retries, and none has succeeded since.
    Failing,
    /// By a person.
    Paused,
    /// By the receiver (410), or for failing too long.
    Disabled,
}

impl Status {
    pub const ALL: [(&'static str, Self); 4] = [
        ("active", Self::Active),
        ("failing", Self::Failing),
        ("paused", Self::Paused),
        ("disabled", Self::Disabled),
    ];
}

#[derive(Debug, Serialize)]
pub struct Endpoint {
    pub id: EndpointId,
    pub location_id: LocationId,
    pub name: String,
    pub url: String,
    pub event_types: Vec<String>,
    pub rate_limit_per_s: Option<i32>,
    pub max_in_flight: i32,
    pub format: String,
    pub headers: BTreeMap<String, String>,
    pub timeout_ms: Option<i32>,
    pub retry_schedule_s: Option<Vec<i32>>,
    pub metadata: Value,
    pub status: Status,
    pub status_reason: Option<String>,
    pub failing_since: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    pub last_error: Option<String>,
    /// Deliveries waiting; counted up to [`super::queries::PENDING_COUNT_MAX`].
    pub pending_count: i64,
    pub throttled_until: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The signing secret, in the answer that made it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The ETag.
    #[serde(skip)]
    pub version: i32,
}
