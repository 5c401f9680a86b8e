//! What a location is, and how one is named.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::DEFAULT_EXTERNAL_ID;
use crate::{
    types::{
        LocationId, Timestamp,
        text::{ExternalId, Name},
    },
    web::{ApiError, Patch, fields::Fields},
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

#[derive(Debug, Serialize)]
pub struct Location {
    pub id: LocationId,
    pub name: String,
    pub external_id: Option<String>,
    /// Channel to `connected` or `disconnected`; empty is unchecked.
    pub channels: Value,
    pub metadata: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    name: String,
    external_id: Option<String>,
    channels: Option<Vec<String>>,
    metadata: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateBody {
    #[serde(default)]
    name: Patch<String>,
    #[serde(default)]
    external_id: Patch<String>,
    #[serde(default)]
    channels: Patch<Vec<String>>,
    #[serde(default)]
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
