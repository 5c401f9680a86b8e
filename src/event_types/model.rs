//! What an event type looks like, and what may be said of one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{Object, Type, schema::SchemaType},
};

use super::{payload_schema::PayloadSchema, queries::Custom};
use crate::{
    formats::presets::PresetEventType,
    locations::Channel,
    types::{Timestamp, event_type::EventType, schema::described},
    web::{
        ApiError, Patch,
        fields::{Fields, nul_in},
    },
};

const DESCRIPTION_MAX_CHARS: usize = 1_000;
const GROUP_MAX_CHARS: usize = 64;
/// Largest schema or example, as JSON text.
const JSON_MAX_BYTES: usize = 64 * 1024;
const CHANNELS: [&str; 3] = ["whatsapp", "imessage", "sms"];

/// A JSON Schema, as callers give it.
struct JsonSchema;

described!(
    JsonSchema,
    "JsonSchema",
    Object::builder()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Boolean]))
        .description(Some("A JSON Schema (2020-12). References lead nowhere but into itself; patterns have no look-around and no back references."))
        .examples([serde_json::json!({"type": "object", "required": ["order_id"]})])
);

/// A kind of event.
#[derive(Serialize, ToSchema)]
#[schema(as = EventType)]
pub struct EventTypeView {
    #[schema(value_type = EventType)]
    pub name: String,
    /// What has happened when such an event is published.
    #[schema(examples("A customer sent a message"))]
    pub description: String,
    /// Where it stands in the catalogue.
    #[schema(examples("message"))]
    pub group: String,
    /// The channel that such events belong to; `null`: any or none.
    #[schema(value_type = Option<Channel>)]
    pub channel: Option<String>,
    /// JSON Schema (2020-12) of the data; `null`: none.
    #[schema(value_type = Option<JsonSchema>)]
    pub schema: Option<Value>,
    /// Sample data; `null`: none.
    #[schema(value_type = Option<Value>, examples(json!({"text": "hello"})))]
    pub example: Option<Value>,
    /// The preset that it is part of; `null`: the tenant's own; `posthaste`: of no preset, but about Posthaste itself.
    #[schema(examples("standard"))]
    pub preset: Option<String>,
    /// Since when it takes no new subscriptions.
    pub archived_at: Option<Timestamp>,
}

impl From<Custom> for EventTypeView {
    fn from(custom: Custom) -> Self {
        let Custom { name, description, group, channel, schema, example, archived_at } = custom;
        Self { name, description, group, channel, schema, example, preset: None, archived_at }
    }
}

impl EventTypeView {
    pub fn of_preset(preset: &str, known: &PresetEventType) -> Self {
        Self {
            name: known.name.as_str().to_owned(),
            description: known.description.clone(),
            group: known.group.clone(),
            channel: known.channel.clone(),
            schema: known.schema.clone(),
            example: Some(known.example.clone()),
            preset: Some(preset.to_owned()),
            archived_at: None,
        }
    }
}

/// An event type to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateEventType)]
pub struct CreateBody {
    #[schema(value_type = EventType)]
    name: String,
    /// What has happened when such an event is published.
    #[schema(min_length = 1, max_length = 1000, examples("A customer paid an order"))]
    description: String,
    /// Where it stands in the catalogue.
    #[schema(min_length = 1, max_length = 64, default = "custom")]
    group: Option<String>,
    /// The channel that such events belong to. Without it: any or none.
    #[schema(value_type = Option<Channel>)]
    channel: Option<String>,
    /// JSON Schema (2020-12) of the data, at most 64 KiB. References lead nowhere but into itself.
    #[schema(value_type = Option<JsonSchema>, examples(json!({"type": "object", "required": ["order_id"]})))]
    schema: Option<Value>,
    /// Sample data, valid by the schema, at most 64 KiB.
    #[schema(value_type = Option<Value>, examples(json!({"order_id": "4821"})))]
    example: Option<Value>,
}

/// What should change about an event type: what is left out stays, what is `null` is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateEventType)]
pub struct UpdateBody {
    /// What has happened when such an event is published.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 1000, examples("A customer paid an order in full"))]
    description: Patch<String>,
    /// Where it stands in the catalogue.
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 64)]
    group: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Channel>)]
    channel: Patch<String>,
    /// Replaced as a whole: merging schemas would surprise.
    #[serde(default)]
    #[schema(value_type = Option<JsonSchema>)]
    schema: Patch<Value>,
    /// Replaced as a whole.
    #[serde(default)]
    #[schema(value_type = Option<Value>)]
    example: Patch<Value>,
    /// `false` brings an archived type back, `true` archives it as `DELETE` does.
    #[serde(default)]
    #[schema(value_type = bool, examples(false))]
    archived: Patch<bool>,
}

impl CreateBody {
    pub fn parse(self) -> Result<Custom, ApiError> {
        let mut fields = Fields::default();
        let name = fields.take("/name", own_name(&self.name));
        let description = fields.take("/description", description(self.description));
        let group = fields.take("/group", self.group.map_or(Ok("custom".to_owned()), group));
        let channel = fields.take("/channel", self.channel.map(channel).transpose());
        let schema = fields.take("/schema", self.schema.map(schema).transpose());
        let example = fields.take("/example", self.example.map(example).transpose());
        check_example(&mut fields, schema.as_ref(), example.as_ref());
        fields.done(|| {
            Some(Custom {
                name: name?,
                description: description?,
                group: group?,
                channel: channel?,
                schema: schema?,
                example: example?,
                archived_at: None,
            })
        })
    }
}

impl UpdateBody {
    pub fn apply(self, custom: &mut Custom, now: Timestamp) -> Result<Vec<&'static str>, ApiError> {
        let mut fields = Fields::default();
        if let Some(text) = fields.required("description", self.description, description) {
            custom.description = text;
        }
        if let Some(text) = fields.required("group", self.group, group) {
            custom.group = text;
        }
        if let Some(word) = fields.optional("channel", self.channel, channel) {
            custom.channel = word;
        }
        if let Some(value) = fields.optional("schema", self.schema, schema) {
            custom.schema = value;
        }
        if let Some(value) = fields.optional("example", self.example, example) {
            custom.example = value;
        }
        if let Some(archived) = fields.required("archived", self.archived, Ok) {
            custom.archived_at = archived.then(|| custom.archived_at.unwrap_or(now));
        }
        check_example(&mut fields, Some(&custom.schema), Some(&custom.example));
        fields.finish()
    }
}

fn own_name(text: &str) -> Result<String, String> {
    let name = EventType::parse(text).map_err(|error| error.to_string())?;
    if name.is_operational() {
        Err("must not start with posthaste.".into())
    } else {
        Ok(name.as_str().to_owned())
    }
}

fn printable(text: String, most: usize) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if text.chars().count() > most {
        return Err(format!("must have at most {most} characters"));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        Err("must not contain control characters".into())
    } else {
        Ok(text)
    }
}

fn description(text: String) -> Result<String, String> {
    printable(text, DESCRIPTION_MAX_CHARS)
}

fn group(text: String) -> Result<String, String> {
    printable(text, GROUP_MAX_CHARS)
}

fn channel(word: String) -> Result<String, String> {
    if CHANNELS.contains(&word.as_str()) {
        Ok(word)
    } else {
        Err(format!("must be one of {}", CHANNELS.join(", ")))
    }
}

fn schema(value: Value) -> Result<Value, String> {
    let value = example(value)?;
    PayloadSchema::compile(&value).map(|_| value)
}

fn example(value: Value) -> Result<Value, String> {
    if value.to_string().len() > JSON_MAX_BYTES {
        return Err(format!("must have at most {JSON_MAX_BYTES} bytes"));
    }
    if nul_in(&value).is_some() { Err("must not contain the character U+0000".into()) } else { Ok(value) }
}

/// An example that breaks its own schema would mislead whoever reads it.
fn check_example(fields: &mut Fields, schema: Option<&Option<Value>>, example: Option<&Option<Value>>) {
    if let (Some(Some(schema)), Some(Some(example))) = (schema, example)
        && let Ok(schema) = PayloadSchema::compile(schema)
    {
        for (place, detail) in schema.broken_rules(example) {
            fields.wrong(format!("/example{place}"), detail);
        }
    }
}
