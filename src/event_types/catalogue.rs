//! What a tenant can publish and subscribe to.

use serde_json::Value;
use sqlx::PgConnection;

use super::{operational, queries};
use crate::{
    formats::presets::{self, Preset, PresetEventType},
    types::{TenantId, event_type::Pattern},
};

/// A preset's types and the tenant's own.
pub struct Catalogue {
    pub preset: &'static Preset,
    pub custom: Vec<queries::Custom>,
}

/// What matters about a type when it is published.
pub struct Known<'a> {
    pub channel: Option<&'a str>,
    pub schema: Option<&'a Value>,
}

/// A type with an example that can be sent.
pub struct Sample<'a> {
    pub name: &'a str,
    pub channel: Option<&'a str>,
    pub example: &'a Value,
}

impl Catalogue {
    /// The preset's samples, the tenant's own (archived ones too), and Posthaste's.
    pub fn samples(&self) -> impl Iterator<Item = Sample<'_>> {
        let is_hidden = |name: &str| self.custom.iter().any(|custom| custom.name == name);
        let preset = self.preset.event_types.iter().filter(move |known| !is_hidden(known.name.as_str()));
        fn built_in(known: &PresetEventType) -> Sample<'_> {
            Sample { name: known.name.as_str(), channel: known.channel.as_deref(), example: &known.example }
        }
        let own = self.custom.iter().filter_map(|custom| {
            let (name, channel) = (custom.name.as_str(), custom.channel.as_deref());
            Some(Sample { name, channel, example: custom.example.as_ref()? })
        });
        preset.map(built_in).chain(own).chain(operational::all().iter().map(built_in))
    }

    /// A tenant's own type goes before a preset's of the same name.
    pub fn find(&self, name: &str) -> Option<Known<'_>> {
        let custom = self.custom.iter().find(|custom| custom.name == name);
        let own =
            custom.map(|custom| Known { channel: custom.channel.as_deref(), schema: custom.schema.as_ref() });
        own.or_else(|| {
            let known = self.preset.event_type(name)?;
            Some(Known { channel: known.channel.as_deref(), schema: known.schema.as_ref() })
        })
    }

    pub fn is_archived(&self, name: &str) -> bool {
        self.custom.iter().any(|custom| custom.name == name && custom.archived_at.is_some())
    }

    /// Whether a new subscription to this pattern could ever get anything: of the preset's types, the tenant's own or
    /// Posthaste's.
    pub fn offers(&self, pattern: &Pattern) -> bool {
        let own =
            |custom: &queries::Custom| custom.archived_at.is_none() && pattern.matches_name(&custom.name);
        self.custom.iter().any(own)
            || self
                .preset
                .event_types
                .iter()
                .chain(operational::all())
                .any(|known| pattern.matches(&known.name))
    }

    /// Names of the types that have a schema, with it.
    pub fn schemas(&self) -> impl Iterator<Item = (&str, &Value)> {
        let own =
            self.custom.iter().filter_map(|custom| Some((custom.name.as_str(), custom.schema.as_ref()?)));
        let preset = self
            .preset
            .event_types
            .iter()
            .filter_map(|known| Some((known.name.as_str(), known.schema.as_ref()?)));
        preset.filter(|(name, _)| !self.custom.iter().any(|custom| custom.name == *name)).chain(own)
    }
}

/// `None` where there is no such tenant.
pub async fn load(db: &mut PgConnection, tenant: TenantId) -> sqlx::Result<Option<Catalogue>> {
    let Some(preset) = queries::preset_of(&mut *db, tenant).await? else { return Ok(None) };
    let Some(preset) = presets::preset(&preset) else { return Ok(None) };
    Ok(Some(Catalogue { preset, custom: queries::all(&mut *db, tenant).await? }))
}
