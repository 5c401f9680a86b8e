//! What receivers get, one entry for every event type of every preset: told from the presets, with a sample that is rendered and
//! signed as a real one is.

use serde_json::{Map, Value, json};
use time::macros::datetime;

use crate::{
    formats::{
        EventView, Format, SuccessRule,
        presets::{self, Preset, PresetEventType},
    },
    signing::{POSTHASTE_ATTEMPT, Signer, WEBHOOK_ID},
    types::secret::SigningSecret,
};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDfAk2LmIHL7s=";
const EVENT_ID: &str = "evt_0193a1b2-c3d4-7e5f-8a6b-0123456789ab";
const LOCATION_ID: &str = "loc_0193a1b2-c3d4-7e5f-8a6b-0123456789ab";
const TENANT_ID: &str = "ten_0193a1b2-c3d4-7e5f-8a6b-0123456789ab";
const AT: time::OffsetDateTime = datetime!(2026-11-20 10:00 UTC);

/// The `webhooks` of the document; keys are `preset.type`.
pub fn all() -> Value {
    let mut webhooks = Map::new();
    for preset in presets::all() {
        for event_type in &preset.event_types {
            let key = format!("{}.{}", preset.name, event_type.name);
            let operation = operation(&key, preset, event_type);
            webhooks.insert(key, json!({"post": operation}));
        }
    }
    Value::Object(webhooks)
}

fn operation(key: &str, preset: &Preset, event_type: &PresetEventType) -> Value {
    let format = &preset.format;
    let body = format.envelope.render(&EventView {
        id: EVENT_ID,
        event_type: event_type.name.as_str(),
        occurred_at: AT,
        tenant_id: TENANT_ID,
        location_id: LOCATION_ID,
        channel: event_type.channel.as_deref(),
        api_version: None,
        live_mode: true,
        data: event_type.example_data().as_bytes(),
    });
    let example: Value = serde_json::from_slice(&body).expect("a rendered body is JSON");
    let envelope = Value::from(format.envelope.clone());
    json!({
        "operationId": key,
        "tags": ["Webhooks"],
        "summary": event_type.description,
        "description": format!("What endpoints with the format `{}` get for events of the type `{}`.", format.name, event_type.name),
        "security": [],
        "parameters": headers(format, &body),
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": schema(&envelope, event_type), "example": example}},
        },
        "responses": responses(format),
    })
}

/// Of a body, by its envelope.
fn schema(envelope: &Value, event_type: &PresetEventType) -> Value {
    match envelope {
        Value::Object(members) => {
            let properties: Map<String, Value> =
                members.iter().map(|(name, member)| (name.clone(), schema(member, event_type))).collect();
            let names: Vec<&String> = members.keys().collect();
            json!({"type": "object", "properties": properties, "required": names})
        }
        Value::String(text) => text
            .strip_prefix("{{")
            .and_then(|rest| rest.strip_suffix("}}"))
            .map_or_else(|| json!({"const": text}), |slot| slot_schema(slot, event_type)),
        literal => json!({"const": literal}),
    }
}

fn slot_schema(slot: &str, event_type: &PresetEventType) -> Value {
    let (name, fallback) = slot.split_once('|').unzip();
    let or_null = if fallback.is_some() { json!("string") } else { json!(["string", "null"]) };
    match name.unwrap_or(slot) {
        "id" => json!({"$ref": "#/components/schemas/EventId"}),
        "type" => json!({"const": event_type.name.as_str()}),
        "timestamp" => json!({"$ref": "#/components/schemas/Timestamp"}),
        "timestamp_s" => {
            json!({"type": "string", "format": "date-time", "description": "When it happened, UTC, to the second."})
        }
        "created_at" => json!({"type": "integer", "description": "When it happened, in seconds since 1970."}),
        "data" => data_schema(event_type),
        "location_id" => json!({"$ref": "#/components/schemas/LocationId"}),
        "tenant_id" => json!({"$ref": "#/components/schemas/TenantId"}),
        "channel" => match &event_type.channel {
            Some(channel) => json!({"const": channel}),
            None => json!({"type": or_null, "description": "The channel that it came by."}),
        },
        "api_version" => {
            json!({"type": or_null, "description": "The version of the publisher's API that the data follows."})
        }
        _ => json!({"type": "boolean", "description": "`false`: a trial."}),
    }
}

fn data_schema(event_type: &PresetEventType) -> Value {
    const DESCRIPTION: &str = "What happened, as it was published.";
    let mut schema = event_type.schema.clone().unwrap_or_else(|| json!({}));
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("description").or_insert_with(|| DESCRIPTION.into());
    }
    schema
}

/// Content-Type is the body's business in OpenAPI.
fn headers(format: &Format, body: &[u8]) -> Vec<Value> {
    let header = |name: &str, description: &str, kind: &str, example: Value| json!({"name": name, "in": "header", "required": true, "description": description, "schema": {"type": kind}, "example": example});
    let mut headers = vec![
        header(
            WEBHOOK_ID.as_str(),
            "The event's id, the same at every attempt: skip what you have seen.",
            "string",
            EVENT_ID.into(),
        ),
        header(POSTHASTE_ATTEMPT.as_str(), "Which attempt it is, from 1.", "integer", 1.into()),
    ];
    let secret = SigningSecret::parse(SECRET).expect("a secret");
    let signer = Signer::new(&format.signatures, &[secret]).expect("a secret that fits every format");
    for (name, value) in signer.sign(EVENT_ID, AT.unix_timestamp(), body) {
        let description = match format.signatures.iter().find(|spec| *spec.header() == name) {
            Some(spec) => spec.to_string(),
            None => "When this attempt was sent, in seconds since 1970; part of what is signed.".to_owned(),
        };
        headers.push(header(
            name.as_str(),
            &description,
            "string",
            value.to_str().unwrap_or_default().into(),
        ));
    }
    headers
}

fn responses(format: &Format) -> Value {
    let mut responses = Map::new();
    let taken = json!({"description": "Taken. The delivery has succeeded; the body is kept for its history, up to 16 KiB."});
    match &format.success {
        SuccessRule::Any2xx => {
            responses.insert("2XX".to_owned(), taken);
        }
        SuccessRule::Statuses(statuses) => {
            responses.extend(statuses.iter().map(|status| (status.to_string(), taken.clone())));
        }
    }
    if format.disable_on_410 {
        let told = "Nobody is there any more: the endpoint is disabled.";
        responses.insert("410".to_owned(), json!({"description": told}));
    }
    let told = if format.honor_retry_after {
        "Tried again later, after 429 and 503 no sooner than Retry-After says."
    } else {
        "Tried again later."
    };
    responses.insert("default".to_owned(), json!({"description": told}));
    Value::Object(responses)
}
