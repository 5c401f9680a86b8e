//! What is published, and what comes of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::{
    ToSchema,
    openapi::{
        Object, Type,
        schema::{AdditionalProperties, SchemaType},
    },
};

use super::routing::Routing;
use crate::{
    locations::{Channel, LocationRef},
    types::{
        EndpointId, EventId, LocationId, Timestamp,
        ecma_json::normalise_within,
        event_type::EventType,
        schema::{GivenTime, words},
    },
    web::{entries::Entries, fields::Fields, json},
};

/// Largest `data`, as it is sent to receivers.
pub const DATA_MAX_BYTES: usize = 256 * 1024;
const TAGS_MAX: usize = 16;
const TAG_KEY_MAX_BYTES: usize = 64;
const TAG_VALUE_MAX_BYTES: usize = 256;
const API_VERSION_MAX_BYTES: usize = 64;

fn tags_schema() -> Object {
    let text = |least, most| {
        let text =
            Object::builder().schema_type(Type::String).pattern(Some(r"^[^\u0000-\u001F\u007F-\u009F]*$"));
        text.min_length(Some(least)).max_length(Some(most))
    };
    Object::builder()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some("Short texts to find it by: keys of 1 to 64 bytes, values of at most 256."))
        .max_properties(Some(TAGS_MAX))
        .property_names(Some(text(1, TAG_KEY_MAX_BYTES)))
        .additional_properties(Some(AdditionalProperties::RefOr(text(0, TAG_VALUE_MAX_BYTES).into())))
        .examples([serde_json::json!({"campaign": "spring"})])
        .build()
}

/// An event to be published.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PublishEvent)]
pub struct PublishBody<'a> {
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    event_type: String,
    /// What happened: any JSON, at most 256 KiB. Integers must fit a double; send larger ones as strings.
    #[serde(borrow)]
    #[schema(value_type = Value, examples(json!({"text": "hello"})))]
    data: &'a RawValue,
    /// When it happened. Without it: now.
    #[schema(value_type = Option<GivenTime>)]
    timestamp: Option<String>,
    /// The channel that it came by; needless where its type has one.
    #[schema(value_type = Option<Channel>)]
    channel: Option<String>,
    #[schema(schema_with = tags_schema)]
    tags: Option<Entries<String>>,
    /// `false` for an event that is only a trial.
    #[schema(default = true)]
    live_mode: Option<bool>,
    /// The version of your API that the data follows, for formats that tell it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]+$", examples("2026-02-04"))]
    api_version: Option<String>,
    /// The same as the header `Idempotency-Key`.
    #[schema(min_length = 1, max_length = 255, pattern = "^[!-~]+$")]
    pub idempotency_key: Option<String>,
}

/// Events to be published together: all of them or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PublishBatch)]
pub struct BatchBody<'a> {
    #[serde(borrow)]
    /// In the order in which they are answered.
    #[schema(value_type = Vec<BatchedBody>, min_items = 1, max_items = 1000)]
    pub events: Vec<json::Object<BatchedBody<'a>>>,
}

/// An event of a batch.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BatchedEvent)]
pub struct BatchedBody<'a> {
    /// The location that it is published to.
    pub location_id: LocationRef,
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    event_type: String,
    /// What happened: any JSON, at most 256 KiB. Integers must fit a double; send larger ones as strings.
    #[serde(borrow)]
    #[schema(value_type = Value, examples(json!({"text": "hello"})))]
    data: &'a RawValue,
    /// When it happened. Without it: now.
    #[schema(value_type = Option<GivenTime>)]
    timestamp: Option<String>,
    /// The channel that it came by; needless where its type has one.
    #[schema(value_type = Option<Channel>)]
    channel: Option<String>,
    #[schema(schema_with = tags_schema)]
    tags: Option<Entries<String>>,
    /// `false` for an event that is only a trial.
    #[schema(default = true)]
    live_mode: Option<bool>,
    /// The version of your API that the data follows, for formats that tell it.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]+$", examples("2026-02-04"))]
    api_version: Option<String>,
}

impl<'a> BatchedBody<'a> {
    pub fn split(self) -> (LocationRef, PublishBody<'a>) {
        let Self { location_id, event_type, data, timestamp, channel, tags, live_mode, api_version } = self;
        let body = PublishBody {
            event_type,
            data,
            timestamp,
            channel,
            tags,
            live_mode,
            api_version,
            idempotency_key: None,
        };
        (location_id, body)
    }
}

/// A publish that is well-formed; whether the tenant may publish it is asked next.
pub struct Draft {
    pub event_type: EventType,
    pub data: String,
    pub timestamp: Option<Timestamp>,
    pub channel: Option<Channel>,
    pub tags: Option<String>,
    pub live_mode: bool,
    pub api_version: Option<String>,
}

impl PublishBody<'_> {
    /// Notes what is wrong below `at`, which is empty or a pointer such as `/events/3`.
    pub fn parse(self, fields: &mut Fields, at: &str) -> Option<Draft> {
        let event_type = fields
            .take(format!("{at}/type"), EventType::parse(self.event_type).map_err(|error| error.to_string()));
        let data = parse_data(fields, at, self.data);
        let timestamp = fields.take(
            format!("{at}/timestamp"),
            self.timestamp
                .map(|text| {
                    Timestamp::parse(&text)
                        .ok_or_else(|| "must be a time in RFC 3339, from 1970 on".to_owned())
                })
                .transpose(),
        );
        let channel =
            fields.take(format!("{at}/channel"), self.channel.map(|text| Channel::parse(&text)).transpose());
        let tags = fields.take(format!("{at}/tags"), self.tags.map(|tags| parse_tags(&tags.0)).transpose());
        let api_version =
            fields.take(format!("{at}/api_version"), self.api_version.map(parse_api_version).transpose());
        Some(Draft {
            event_type: event_type?,
            data: data?,
            timestamp: timestamp?,
            channel: channel?,
            tags: tags?,
            live_mode: self.live_mode.unwrap_or(true),
            api_version: api_version?,
        })
    }
}

fn parse_data(fields: &mut Fields, at: &str, raw: &RawValue) -> Option<String> {
    if raw.get().len() > DATA_MAX_BYTES {
        fields.wrong(format!("{at}/data"), format!("must have at most {DATA_MAX_BYTES} bytes"));
        return None;
    }
    match normalise_within(raw.get(), DATA_MAX_BYTES) {
        Ok(data) => Some(data),
        Err(error) => {
            fields.wrong(format!("{at}/data{}", error.pointer), error.detail);
            None
        }
    }
}

fn parse_tags(tags: &BTreeMap<String, String>) -> Result<String, String> {
    if tags.len() > TAGS_MAX {
        return Err(format!("must have at most {TAGS_MAX} entries"));
    }
    for (key, value) in tags {
        if key.is_empty() || key.len() > TAG_KEY_MAX_BYTES || value.len() > TAG_VALUE_MAX_BYTES {
            return Err(format!(
                "must have keys of 1 to {TAG_KEY_MAX_BYTES} bytes and values of at most {TAG_VALUE_MAX_BYTES}"
            ));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return Err("must not contain control characters".into());
        }
    }
    serde_json::to_string(tags).map_err(|error| error.to_string())
}

fn parse_api_version(text: String) -> Result<String, String> {
    let good =
        (1..=API_VERSION_MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if good {
        Ok(text)
    } else {
        Err(format!("must be 1 to {API_VERSION_MAX_BYTES} visible ASCII characters"))
    }
}

/// What may be published to this location.
pub enum Refusal {
    Field(&'static str, String),
    /// Of the data, against the type's schema.
    Rules(Vec<(String, String)>),
    /// 409
    ChannelDisconnected(Channel),
}

/// An event's channel is its type's, where the type has one.
pub fn allow(draft: &Draft, routing: &Routing) -> Result<Option<Channel>, Refusal> {
    if draft.event_type.is_operational() {
        return Err(Refusal::Field("/type", "is one of Posthaste's own, which nobody can publish".into()));
    }
    let known = routing.catalogue.find(draft.event_type.as_str());
    if known.is_none() && !routing.allow_unknown_event_types {
        return Err(Refusal::Field("/type", "is not an event type of this tenant".into()));
    }
    let fixed = known.and_then(|known| known.channel).and_then(|channel| Channel::parse(channel).ok());
    let channel = match (fixed, draft.channel) {
        (Some(fixed), Some(given)) if fixed != given => {
            let detail = format!("must be {}, the channel of this type", fixed.as_str());
            return Err(Refusal::Field("/channel", detail));
        }
        (fixed, given) => fixed.or(given),
    };
    if let Some(fixed) = fixed.filter(|fixed| !routing.has_channel(*fixed)) {
        return Err(Refusal::ChannelDisconnected(fixed));
    }
    let broken = routing.broken_rules(draft.event_type.as_str(), &draft.data);
    if broken.is_empty() { Ok(channel) } else { Err(Refusal::Rules(broken)) }
}

impl Draft {
    /// The same request has the same fingerprint, however its JSON was spaced. Stored as it is, unlike those of other
    /// requests (`idempotency/`): what it is made of stands beside it in clear, as the event.
    pub fn fingerprint(&self, location: LocationId) -> [u8; 32] {
        let mut hash = Sha256::new();
        let parts = [
            location.to_string(),
            self.event_type.as_str().to_owned(),
            self.data.clone(),
            self.timestamp.map(|at| at.to_string()).unwrap_or_default(),
            self.channel.map(Channel::as_str).unwrap_or_default().to_owned(),
            self.tags.clone().unwrap_or_default(),
            self.live_mode.to_string(),
            self.api_version.clone().unwrap_or_default(),
        ];
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}

fn published_status_schema() -> Object {
    words("`pending`: it will be sent. `held`: the endpoint is paused or disabled.", ["pending", "held"])
}

/// An event that is on disk, with its deliveries.
#[derive(Serialize, ToSchema)]
#[schema(as = PublishedEvent)]
pub struct Published {
    pub id: EventId,
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    pub event_type: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// One for each endpoint that subscribes to it.
    pub deliveries: Vec<PublishedDelivery>,
}

/// A delivery that will be sent, or held.
#[derive(Serialize, ToSchema)]
pub struct PublishedDelivery {
    pub endpoint_id: EndpointId,
    #[schema(schema_with = published_status_schema)]
    pub status: &'static str,
}

/// The wire carries milliseconds; what is stored is what is sent.
pub fn milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_unix_us(at.unix_us() / 1_000 * 1_000)
}
