//! What a location is, and how one is named.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{Object, Type, schema::AdditionalProperties},
};
use uuid::Uuid;

use super::DEFAULT_EXTERNAL_ID;
use crate::{
    types::{
        LocationId, Timestamp,
        schema::{described, text, words},
        text::{EXTERNAL_ID_MAX_BYTES, ExternalId, Name},
    },
    web::{
        ApiError, Patch,
        fields::{Fields, Metadata},
    },
};

/// A way that messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Whatsapp,
    Imessage,
    Sms,
}

impl Channel {
    pub const ALL: [Self; 3] = [Self::Whatsapp, Self::Imessage, Self::Sms];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whatsapp => "whatsapp",
            Self::Imessage => "imessage",
            Self::Sms => "sms",
        }
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.as_str() == text)
            .ok_or_else(|| "must be whatsapp, imessage or sms".to_owned())
    }
}

described!(Channel, "Channel", words("A way that messages travel.", Self::ALL.map(Self::as_str)));

/// How callers name a location: by our id, or by their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocationRef {
    Id(LocationId),
    External(String),
}

impl LocationRef {
    /// A text that is neither names nothing, and must not reach SQL: Postgres can't take every text.
    pub fn parse(text: String) -> Result<Self, String> {
        if let Ok(id) = LocationId::from_str(&text) {
            return Ok(Self::Id(id));
        }
        match ExternalId::parse(text) {
            Ok(external_id) => Ok(Self::External(external_id.as_str().to_owned())),
            Err(_) => Err("must be a location's id or external_id".into()),
        }
    }

    pub fn default_location() -> Self {
        Self::External(DEFAULT_EXTERNAL_ID.to_owned())
    }

    /// What to look for: `id`, or `external_id`, or nothing, for a name with a NUL, which Postgres does not even compare.
    pub fn columns(&self) -> (Option<Uuid>, Option<&str>) {
        match self {
            Self::Id(id) => (Some(id.uuid()), None),
            Self::External(text) => (None, Some(text.as_str()).filter(|text| !text.contains('\0'))),
        }
    }
}

impl<'de> Deserialize<'de> for LocationRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

described!(
    LocationRef,
    "LocationRef",
    text("A location's id, or its `external_id`.", DEFAULT_EXTERNAL_ID)
        .min_length(Some(1))
        .max_length(Some(EXTERNAL_ID_MAX_BYTES))
        .pattern(Some("^[!-~]+$"))
);

/// A tenant's site, brand or number.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Location {
    pub id: LocationId,
    #[schema(value_type = Name)]
    pub name: String,
    /// Your own id for it: stands wherever its id may.
    #[schema(value_type = Option<ExternalId>)]
    pub external_id: Option<String>,
    #[schema(schema_with = channels_schema)]
    pub channels: Value,
    #[schema(value_type = Metadata)]
    pub metadata: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn channels_schema() -> Object {
    let state = words("Whether the channel is connected.", ["connected", "disconnected"]);
    let names = words("A channel.", Channel::ALL.map(Channel::as_str));
    Object::builder()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(state.into())))
        .description(Some(
            "Which channels are connected. Empty: unknown, and no event is refused for its channel.",
        ))
        .property_names(Some(names))
        .examples([
            serde_json::json!({"whatsapp": "connected", "imessage": "disconnected", "sms": "disconnected"}),
        ])
        .build()
}

/// A location to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateLocation)]
pub struct CreateBody {
    #[schema(value_type = Name)]
    name: String,
    /// Your own id for it, unlike those of the tenant's other locations.
    #[schema(value_type = Option<ExternalId>, examples("store-17"))]
    external_id: Option<String>,
    /// The channels that are connected. Without it: unknown, and no event is refused for its channel.
    #[schema(value_type = Option<Vec<Channel>>, examples(json!(["whatsapp"])))]
    channels: Option<Vec<String>>,
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<Map<String, Value>>,
}

/// What should change about a location (RFC 7396): what is left out stays, what is `null` is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateLocation)]
pub struct UpdateBody {
    #[serde(default)]
    #[schema(value_type = Name)]
    name: Patch<String>,
    /// Your own id for it, unlike those of the tenant's other locations.
    #[serde(default)]
    #[schema(value_type = Option<ExternalId>)]
    external_id: Patch<String>,
    /// The channels that are connected; `null`: unknown.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Channel>>, examples(json!(["whatsapp", "sms"])))]
    channels: Patch<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<Metadata>)]
    metadata: Patch<Map<String, Value>>,
}

/// A location to be made.
pub struct NewLocation {
    pub name: String,
    pub external_id: Option<String>,
    pub channels: Value,
    pub metadata: Value,
}

impl NewLocation {
    pub fn default_of_tenant() -> Self {
        Self {
            name: "Default".to_owned(),
            external_id: Some(DEFAULT_EXTERNAL_ID.to_owned()),
            channels: Value::Object(Map::new()),
            metadata: Value::Object(Map::new()),
        }
    }
}

impl CreateBody {
    pub fn parse(self) -> Result<NewLocation, ApiError> {
        let mut fields = Fields::default();
        let name = fields.take("/name", Name::parse(self.name));
        let external_id = fields.take("/external_id", self.external_id.map(ExternalId::parse).transpose());
        let channels = match self.channels {
            None => Some(Value::Object(Map::new())),
            Some(connected) => channels(&mut fields, &connected),
        };
        let metadata = fields.metadata("/metadata", self.metadata.unwrap_or_default());
        fields.done(|| {
            Some(NewLocation {
                name: name?.as_str().to_owned(),
                external_id: external_id?.map(|id| id.as_str().to_owned()),
                channels: channels?,
                metadata: metadata?,
            })
        })
    }
}

impl UpdateBody {
    /// Applies the patch; the names of what it sets.
    pub fn apply(self, location: &mut Location) -> Result<Vec<&'static str>, ApiError> {
        let mut fields = Fields::default();
        if let Some(name) = fields.required("name", self.name, Name::parse) {
            location.name = name.as_str().to_owned();
        }
        if let Some(external_id) = fields.optional("external_id", self.external_id, ExternalId::parse) {
            location.external_id = external_id.map(|id| id.as_str().to_owned());
        }
        match fields.optional("channels", self.channels, Ok) {
            None => {}
            Some(None) => location.channels = Value::Object(Map::new()),
            Some(Some(connected)) => {
                if let Some(channels) = channels(&mut fields, &connected) {
                    location.channels = channels;
                }
            }
        }
        fields.patch_metadata(self.metadata, &mut location.metadata);
        fields.finish()
    }
}

/// The connected ones are listed; the others are then known to be disconnected.
fn channels(fields: &mut Fields, connected: &[String]) -> Option<Value> {
    let mut channels = Map::new();
    let mut good = true;
    for (at, name) in connected.iter().enumerate() {
        good &= fields.take(format!("/channels/{at}"), Channel::parse(name)).is_some();
    }
    for channel in Channel::ALL {
        let is_connected = connected.iter().any(|name| name == channel.as_str());
        let state = if is_connected { "connected" } else { "disconnected" };
        channels.insert(channel.as_str().to_owned(), state.into());
    }
    good.then_some(Value::Object(channels))
}
