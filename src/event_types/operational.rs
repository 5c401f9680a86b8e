//! Posthaste's own event types: what it tells about endpoints and deliveries, in every tenant's catalogue.
//!
//! This is the one list of them. They can be subscribed to by name or prefix (`posthaste.*`); `*` does not include
//! them, nobody can publish them, and no type of a tenant's own has a name like theirs.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::{formats::presets::PresetEventType, types::event_type::EventType};

/// What stands in place of a preset's name: these types are of no preset, and not the tenant's own.
pub const SOURCE: &str = "posthaste";
const GROUP: &str = "operational";

/// A delivery ran out of retries, and the endpoint had none such since its last success.
pub const ENDPOINT_FAILING: &str = "posthaste.endpoint.failing";
/// A delivery to a failing endpoint succeeded.
pub const ENDPOINT_RECOVERED: &str = "posthaste.endpoint.recovered";
/// An endpoint was disabled: by a 410, or for failing too long.
pub const ENDPOINT_DISABLED: &str = "posthaste.endpoint.disabled";
/// A delivery ran out of retries.
pub const DELIVERY_EXHAUSTED: &str = "posthaste.delivery.exhausted";

static TYPES: LazyLock<[PresetEventType; 4]> = LazyLock::new(|| {
    let endpoint = |status: &str, reason: &str| {
        json!({
            "endpoint_id": "ep_0199e8a0-4c00-7d31-9a52-5f2d8c6b7e01",
            "location_id": "loc_0199e8a0-1000-7a44-8b1c-3e9d2f4a5e01",
            "name": "CRM sync",
            "url": "https://crm.example.com/hooks/posthaste",
            "status": status,
            "status_reason": reason,
            "since": "2026-11-20T10:06:12.480Z"
        })
    };
    let exhausted = json!({
        "event_id": "evt_0199e8a1-2f00-7c15-8e77-0a1b2c3d4e01",
        "event_type": "message.incoming",
        "endpoint_id": "ep_0199e8a0-4c00-7d31-9a52-5f2d8c6b7e01",
        "location_id": "loc_0199e8a0-1000-7a44-8b1c-3e9d2f4a5e01",
        "attempt_count": 4,
        "last_response_status": 503,
        "error": "response_status",
        "diagnosis": "the receiver answered 503: it failed"
    });
    let failing = "a delivery ran out of retries, and none has succeeded since";
    let disabled = "the receiver answered 410 Gone";
    [
        listed(
            ENDPOINT_FAILING,
            "An endpoint is failing: a delivery to it ran out of retries, and none has succeeded since",
            endpoint_schema(),
            endpoint("failing", failing),
        ),
        listed(
            ENDPOINT_RECOVERED,
            "A failing endpoint has recovered: a delivery to it succeeded",
            endpoint_schema(),
            endpoint("active", "a delivery succeeded"),
        ),
        listed(
            ENDPOINT_DISABLED,
            "An endpoint was disabled, because it answered 410 Gone or was failing for too long; its deliveries are held",
            endpoint_schema(),
            endpoint("disabled", disabled),
        ),
        listed(
            DELIVERY_EXHAUSTED,
            "A delivery has failed: it ran out of retries, and can be retried by hand",
            delivery_schema(),
            exhausted,
        ),
    ]
});

fn listed(name: &'static str, description: &str, schema: Value, example: Value) -> PresetEventType {
    PresetEventType {
        name: EventType::parse(name).expect("a constant, and tested"),
        description: description.to_owned(),
        group: GROUP.to_owned(),
        channel: None,
        schema: Some(schema),
        example,
    }
}

fn schema(properties: &Value) -> Value {
    let required: Vec<&String> = properties.as_object().map(|all| all.keys().collect()).unwrap_or_default();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": required,
        "properties": properties
    })
}

fn endpoint_schema() -> Value {
    schema(&json!({
        "endpoint_id": {"type": "string"},
        "location_id": {"type": "string"},
        "name": {"type": "string"},
        "url": {"type": "string"},
        "status": {"enum": ["active", "failing", "disabled"]},
        "status_reason": {"type": ["string", "null"]},
        "since": {"type": "string", "format": "date-time"}
    }))
}

fn delivery_schema() -> Value {
    schema(&json!({
        "event_id": {"type": "string"},
        "event_type": {"type": "string"},
        "endpoint_id": {"type": "string"},
        "location_id": {"type": "string"},
        "attempt_count": {"type": "integer", "minimum": 1},
        "last_response_status": {"type": ["integer", "null"]},
        "error": {"type": ["string", "null"]},
        "diagnosis": {"type": ["string", "null"]}
    }))
}

pub fn all() -> &'static [PresetEventType] {
    &*TYPES
}

pub fn find(name: &str) -> Option<&'static PresetEventType> {
    all().iter().find(|known| known.name.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::{super::PayloadSchema, *};

    #[test]
    fn each_is_operational_and_its_example_is_what_its_schema_says() {
        for known in all() {
            assert!(known.name.is_operational(), "{}", known.name);
            let schema = known.schema.as_ref().expect("a schema");
            let schema_of_it = PayloadSchema::compile(schema).expect("a JSON Schema");
            assert_eq!(schema_of_it.broken_rules(&known.example), [], "{}", known.name);
            let keys = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
            assert_eq!(keys(&known.example), keys(&schema["properties"]), "{}", known.name);
        }
    }
}
