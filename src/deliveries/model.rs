//! What deliveries and attempts look like from outside.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{Object, Type, schema::SchemaType},
};

use crate::{
    egress::ErrorClass,
    types::{AttemptId, EndpointId, EventId, LocationId, Timestamp, event_type::EventType, schema::words},
};

fn status_schema() -> Object {
    words(
        "`pending`: it will be sent. `held`: it will be when its endpoint is resumed. `succeeded`: the receiver took it. `failed`: \
         it ran out of retries. `canceled`: by a person. `expired`: its history is older than what is kept.",
        ["pending", "held", "succeeded", "failed", "canceled", "expired"],
    )
}

fn trigger_schema() -> Object {
    words("Why it was sent.", ["scheduled", "manual", "replay", "test"])
}

pub fn outcome_schema() -> Object {
    words("Whether the receiver took it.", ["succeeded", "failed"])
}

fn error_schema() -> Object {
    let classes = ErrorClass::ALL.iter().map(|class| class.as_str()).chain(["response_status"]);
    Object::builder()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some(
            "What went wrong, as a class: `dns`; `refused_target`: an address that is not allowed; `proxy`: the operator's proxy; \
             `connect`; `local`: Posthaste itself had no resources to connect, which \
             is no failure of the receiver and uses up no retry; `tls`, `tls_expired`, `tls_wrong_name`, `tls_untrusted`: no TLS session; `timeout`: no answer in time; \
             `response_too_slow`: the answer's header began, and did not end in time; `reset`: closed before the answer; \
             `response_incomplete`: closed in the middle of its header; `response_too_large`: too much header; `interim_flood`: too \
             many 1xx responses; `protocol`: not HTTP; `response_status`: the status is not a success. `null`: nothing.",
        ))
        .enum_values(Some(classes.map(Value::from).chain([Value::Null])))
        .examples(["timeout"])
        .build()
}

/// One event to one endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub location_id: Option<LocationId>,
    #[schema(value_type = Option<EventType>)]
    pub event_type: Option<String>,
    #[schema(schema_with = status_schema)]
    pub status: String,
    /// Attempts so far.
    #[schema(minimum = 0, examples(1))]
    pub attempt_count: i64,
    /// The HTTP status of the latest attempt's answer.
    #[schema(minimum = 100, maximum = 999)]
    pub last_response_status: Option<i16>,
    /// What was wrong with the latest attempt, in a sentence.
    pub last_error: Option<String>,
    pub last_attempt_at: Option<Timestamp>,
    /// When it is sent next, at the earliest (while its endpoint is throttled, not before `throttled_until`); `null`: never.
    pub next_attempt_at: Option<Timestamp>,
    /// When the event was received.
    pub created_at: Timestamp,
}

/// A delivery with its request and all its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeDelivery {
    #[serde(flatten)]
    pub delivery: Delivery,
    /// As the latest attempt sent it, or as the first one will; `null`: the event's data are gone.
    pub request: Option<Request>,
    /// All of them, newest last.
    pub attempts: Vec<AttemptView>,
}

/// A request as it is POSTed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryRequest)]
pub struct Request {
    /// Where it went.
    #[schema(examples("https://crm.example.com/hooks/posthaste"))]
    pub url: String,
    /// By name, in lower case.
    #[schema(examples(json!({"content-type": "application/json"})))]
    pub headers: BTreeMap<String, String>,
    /// The fingerprint (SHA-256, hex) of the client certificate that a receiver is shown if it asks for one; `null`: none.
    #[schema(
        pattern = "^[0-9a-f]{64}$",
        examples("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )]
    pub client_certificate_sha256: Option<String>,
    /// Exactly as it is signed.
    #[schema(examples("{\"text\":\"hello\"}"))]
    pub body: String,
}

/// The request of an attempt. The body is the same at every attempt of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptRequest {
    /// Where it went.
    #[schema(examples("https://crm.example.com/hooks/posthaste"))]
    pub url: String,
    /// By name, in lower case.
    #[schema(examples(json!({"content-type": "application/json"})))]
    pub headers: BTreeMap<String, String>,
    /// The fingerprint (SHA-256, hex) of the client certificate that a receiver is shown if it asks for one; `null`: none.
    #[schema(
        pattern = "^[0-9a-f]{64}$",
        examples("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )]
    pub client_certificate_sha256: Option<String>,
    /// SHA-256 of the body, hex.
    #[schema(
        pattern = "^[0-9a-f]{64}$",
        examples("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    )]
    pub body_sha256: String,
    /// As it was POSTed: in the answer to a test alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        value_type = String,
        required = false,
        examples("{\"id\":\"evt_0199e8a1-2f00-7c15-8e77-0a1b2c3d4e01\",\"type\":\"message.incoming\"}")
    )]
    pub body: Option<String>,
}

/// One HTTP POST of a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    pub id: AttemptId,
    /// Counts the delivery's attempts from 1.
    #[schema(minimum = 1, examples(1))]
    pub number: i32,
    /// When it began.
    pub at: Timestamp,
    #[schema(schema_with = trigger_schema)]
    pub trigger: &'static str,
    #[schema(schema_with = outcome_schema)]
    pub outcome: &'static str,
    #[schema(schema_with = error_schema)]
    pub error: Option<String>,
    /// What went wrong: a sentence; `null`: nothing.
    pub diagnosis: Option<String>,
    /// `null`: the event's data are gone.
    pub request: Option<AttemptRequest>,
    /// `null`: there was none.
    pub response: Option<ResponseView>,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0, examples(84))]
    pub duration_ms: i32,
    pub timings_ms: TimingsView,
    /// The address that it was sent to.
    #[schema(examples("203.0.113.80:443"))]
    pub remote_addr: Option<String>,
}

/// An attempt among those of other deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListedAttempt {
    pub event_id: EventId,
    /// `null`: the event has expired.
    #[schema(value_type = Option<EventType>)]
    pub event_type: Option<String>,
    #[serde(flatten)]
    pub attempt: AttemptView,
}

/// What the receiver answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptResponse)]
pub struct ResponseView {
    /// The HTTP status.
    #[schema(minimum = 100, maximum = 999, examples(200))]
    pub status: i16,
    /// By name, in lower case; what came several times is joined by commas.
    #[schema(examples(json!({"content-type": "text/plain"})))]
    pub headers: BTreeMap<String, String>,
    /// Its beginning, at most 16 KiB. What is not UTF-8 is shown as replacement characters.
    #[schema(examples("ok"))]
    pub body: String,
    /// There was more of it.
    #[schema(examples(false))]
    pub truncated: bool,
}

/// How long the phases took, in milliseconds. What did not happen (a connection was there already) is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptTimings)]
pub struct TimingsView {
    /// Until the name was resolved.
    pub dns: Option<i32>,
    /// Until there was a connection.
    pub connect: Option<i32>,
    /// Until it was encrypted.
    pub tls: Option<i32>,
    /// Until the answer began.
    pub first_byte: Option<i32>,
}
