//! The presets that are built in: a catalogue of event types with samples, and a wire format, for each system that Posthaste
//! stands in for. One file each in `presets/`, embedded and parsed once. And, in `presets/formats/`, wire formats alone, in the style of
//! services that integrators have receivers for.
//!
//! The numbers of their formats are part of stored deliveries: they stay what they are for ever, and an edited format takes
//! a new number (below 1000) with the old one kept resolvable.

use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Format, FormatVersion};
use crate::types::ecma_json::normalise;
use crate::types::event_type::EventType;
use crate::types::schema::{described, text};

/// The preset, and the format, of whoever names none.
pub const DEFAULT_PRESET: &str = "standard";

const FILES: [&str; 6] = [
    include_str!("../../presets/standard.json"),
    include_str!("../../presets/messagesync.json"),
    include_str!("../../presets/whatsable.json"),
    include_str!("../../presets/aisoule.json"),
    include_str!("../../presets/whatssync.json"),
    include_str!("../../presets/whatsapp_platform.json"),
];

const FORMAT_FILES: [&str; 4] = [
    include_str!("../../presets/formats/stripe.json"),
    include_str!("../../presets/formats/github.json"),
    include_str!("../../presets/formats/shopify.json"),
    include_str!("../../presets/formats/slack.json"),
];

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    FILES
        .iter()
        .map(|file| serde_json::from_str(file).expect("embedded, and parsed by a unit test"))
        .collect()
});

/// Those of the presets, then those that come alone.
static FORMATS: LazyLock<Vec<Arc<Format>>> = LazyLock::new(|| {
    let alone = FORMAT_FILES
        .iter()
        .map(|file| Arc::new(serde_json::from_str(file).expect("embedded, and parsed by a unit test")));
    all().iter().map(|preset| Arc::clone(&preset.format)).chain(alone).collect()
});

/// A catalogue of event types, and a wire format.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    #[schema(value_type = PresetName)]
    pub name: String,
    /// Whom it is for.
    #[schema(examples(
        "Posthaste's own catalogue for a messaging platform, delivered as Standard Webhooks"
    ))]
    pub description: String,
    /// What can be published.
    pub event_types: Vec<PresetEventType>,
    #[schema(value_type = Format)]
    pub format: Arc<Format>,
}

/// A kind of event that a preset brings.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PresetEventType {
    pub name: EventType,
    /// What has happened when such an event is published.
    #[schema(examples("A customer sent a message"))]
    pub description: String,
    /// Where it stands in the catalogue.
    #[schema(examples("message"))]
    pub group: String,
    /// `whatsapp`, `imessage` or `sms`, if events of this type belong to one.
    pub channel: Option<String>,
    /// JSON Schema (2020-12) of the data; `null`: none.
    #[schema(value_type = Option<Value>)]
    pub schema: Option<Value>,
    /// Sample data.
    #[schema(value_type = Value, examples(json!({"text": "hello"})))]
    pub example: Value,
}

/// Names a preset.
pub struct PresetName;

described!(PresetName, "PresetName", text("A preset's name.", DEFAULT_PRESET));

impl Preset {
    pub fn event_type(&self, name: &str) -> Option<&PresetEventType> {
        self.event_types.iter().find(|event_type| event_type.name.as_str() == name)
    }
}

impl PresetEventType {
    /// The sample in the normal form that an event's data has.
    pub fn example_data(&self) -> String {
        normalise(&self.example.to_string()).expect("every embedded sample is normalised by a unit test")
    }
}

pub fn all() -> &'static [Preset] {
    &PRESETS
}

pub fn preset(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

/// The built-in formats.
pub fn formats() -> &'static [Arc<Format>] {
    &FORMATS
}

/// The built-in format of a name.
pub fn format_by_name(name: &str) -> Option<&'static Arc<Format>> {
    formats().iter().find(|format| format.name == name)
}

/// The built-in format of a number.
pub fn format_by_version(version: FormatVersion) -> Option<&'static Arc<Format>> {
    formats().iter().find(|format| format.version == version)
}
