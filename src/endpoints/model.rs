//! What an endpoint looks like from outside.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::client_certificate::ClientCertificate;
use crate::{
    egress::{CustomHeaders, EndpointUrl},
    signing::PublicKey,
    types::{EndpointId, LocationId, Timestamp, event_type::Pattern, secret::SigningSecret, text::Name},
    web::fields::Metadata,
};

/// Why an endpoint is `failing`.
pub const FAILING_REASON: &str = "a delivery ran out of retries, and none has succeeded since";

/// `active`: deliveries go out. `failing`: they do, but one ran out of retries, and none has succeeded since. `paused`: by a
/// person; they are held. `disabled`: the receiver said that it is gone (410), or it failed for too long; they are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EndpointStatus, examples("active"))]
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

/// A destination of one location's events.
#[derive(Debug, Serialize, ToSchema)]
pub struct Endpoint {
    pub id: EndpointId,
    pub location_id: LocationId,
    #[schema(value_type = Name)]
    pub name: String,
    /// Where deliveries are POSTed to.
    #[schema(value_type = EndpointUrl)]
    pub url: String,
    /// Which events it gets.
    #[schema(value_type = Vec<Pattern>)]
    pub event_types: Vec<String>,
    /// Most attempts that are started a second; `null`: no limit.
    #[schema(minimum = 1, maximum = 10000)]
    pub rate_limit_per_s: Option<i32>,
    /// Most attempts that are under way at a time.
    #[schema(minimum = 1, maximum = 256, examples(8))]
    pub max_in_flight: i32,
    /// Its wire format: how an event becomes a request.
    #[schema(examples("standard"))]
    pub format: String,
    #[schema(value_type = CustomHeaders)]
    pub headers: BTreeMap<String, String>,
    /// How long an attempt may take, in milliseconds; `null`: as its format says.
    #[schema(minimum = 1000, maximum = 30000)]
    pub timeout_ms: Option<i32>,
    /// Seconds from each failure to the next attempt; `null`: as its format says.
    #[schema(max_items = 15, examples(10))]
    pub retry_schedule_s: Option<Vec<i32>>,
    #[schema(value_type = Metadata)]
    pub metadata: Value,
    pub client_certificate: Option<ClientCertificate>,
    pub status: Status,
    /// Why it is not active; `null`: it is.
    pub status_reason: Option<String>,
    /// Since when no delivery has succeeded, where one has run out of retries.
    pub failing_since: Option<Timestamp>,
    /// Since when it is disabled; `null`: it is not.
    pub disabled_at: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    /// What went wrong last, in a sentence.
    pub last_error: Option<String>,
    /// Deliveries that wait; counted up to 10,000.
    #[schema(minimum = 0, maximum = 10000, examples(0))]
    pub pending_count: i64,
    /// Most attempts fail (at least 70 % of 10 or more within 5 minutes), so requests go out one at a time, and the next one not before
    /// this. One that succeeds ends it, and so does a resume or another URL. `null`: it is not so.
    pub throttled_until: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The signing secret: in the answer that made the endpoint alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = SigningSecret, required = false)]
    pub secret: Option<String>,
    /// Verifies the signatures of a format with ed25519: beside the secret, where the endpoint's format has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = PublicKey, required = false)]
    pub public_key: Option<String>,
    /// The ETag.
    #[serde(skip)]
    pub version: i32,
}
