//! What a tenant is, and what may be said of one.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    formats::{Format, FormatName, presets},
    types::{
        TenantId, Timestamp,
        text::{ExternalId, Name},
    },
    web::{
        ApiError, Patch,
        fields::{Fields, Metadata},
    },
};

/// Days of failing after which an endpoint is disabled.
const FAILING_DAYS_DEFAULT: u16 = 5;
const FAILING_DAYS_MAX: u16 = 30;
const RETENTION_DAYS_MAX: u16 = 3_650;

/// A customer account of the platform.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Tenant {
    pub id: TenantId,
    #[schema(value_type = Name)]
    pub name: String,
    /// The catalogue of event types that it has.
    #[schema(examples("standard"))]
    pub preset: String,
    /// The wire format of endpoints that name none; `null`: that of the preset.
    #[schema(value_type = Option<FormatName>)]
    pub format: Option<String>,
    /// Your own id for it.
    #[schema(value_type = Option<ExternalId>)]
    pub external_id: Option<String>,
    /// Whether events may be published whose type is not in the catalogue.
    #[schema(examples(false))]
    pub allow_unknown_event_types: bool,
    /// Whether published data must be valid by the JSON Schema of its type, where that has one.
    #[schema(examples(false))]
    pub validate_payloads: bool,
    /// Days that its events and their history are kept; `null`: as long as the operator's setting says.
    #[schema(minimum = 1, maximum = 3650)]
    pub retention_days: Option<i32>,
    /// Days of nothing but failures after which an endpoint is disabled.
    #[schema(minimum = 1, maximum = 30, examples(5))]
    pub failing_days: i32,
    #[schema(value_type = Metadata)]
    pub metadata: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A tenant to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateTenant)]
pub struct CreateBody {
    #[schema(value_type = Name)]
    name: String,
    /// The catalogue of event types that it gets. Can't be changed later.
    #[schema(examples("standard"), default = "standard")]
    preset: Option<String>,
    /// The wire format of endpoints that name none, a built-in one: the tenant has none of its own yet. Without it: that of the preset.
    #[schema(value_type = Option<FormatName>)]
    format: Option<String>,
    /// Your own id for it, unlike any other tenant's.
    #[schema(value_type = Option<ExternalId>, examples("account-4821"))]
    external_id: Option<String>,
    /// Whether events may be published whose type is not in the catalogue.
    #[schema(default = false)]
    allow_unknown_event_types: Option<bool>,
    /// Whether published data must be valid by the JSON Schema of its type, where that has one.
    #[schema(default = false)]
    validate_payloads: Option<bool>,
    /// Days that its events and their history are kept. Without it: as long as the operator's setting says.
    #[schema(minimum = 1, maximum = 3650)]
    retention_days: Option<u16>,
    /// Days of nothing but failures after which an endpoint is disabled.
    #[schema(minimum = 1, maximum = 30, default = 5)]
    failing_days: Option<u16>,
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<Map<String, Value>>,
}

/// What should change about a tenant (RFC 7396): what is left out stays, what is `null` is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateTenant)]
pub struct UpdateBody {
    #[serde(default)]
    #[schema(value_type = Name)]
    name: Patch<String>,
    /// The wire format of endpoints that name none, built in or the tenant's own; `null`: that of the preset. Endpoints that are there
    /// keep theirs.
    #[serde(default)]
    #[schema(value_type = Option<FormatName>)]
    format: Patch<String>,
    /// Your own id for it, unlike any other tenant's.
    #[serde(default)]
    #[schema(value_type = Option<ExternalId>)]
    external_id: Patch<String>,
    /// Whether events may be published whose type is not in the catalogue.
    #[serde(default)]
    #[schema(value_type = bool)]
    allow_unknown_event_types: Patch<bool>,
    /// Whether published data must be valid by the JSON Schema of its type, where that has one.
    #[serde(default)]
    #[schema(value_type = bool)]
    validate_payloads: Patch<bool>,
    /// Days that its events and their history are kept; `null`: as long as the operator's setting says.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 3650)]
    retention_days: Patch<u16>,
    /// Days of nothing but failures after which an endpoint is disabled.
    #[serde(default)]
    #[schema(value_type = u16, minimum = 1, maximum = 30)]
    failing_days: Patch<u16>,
    #[serde(default)]
    #[schema(value_type = Option<Metadata>)]
    metadata: Patch<Map<String, Value>>,
}

/// A tenant to be made.
pub struct NewTenant {
    pub name: Name,
    pub preset: &'static str,
    pub format: Option<&'static str>,
    pub external_id: Option<ExternalId>,
    pub allow_unknown_event_types: bool,
    pub validate_payloads: bool,
    pub retention_days: Option<u16>,
    pub failing_days: u16,
    pub metadata: Value,
}

impl CreateBody {
    pub fn parse(self) -> Result<NewTenant, ApiError> {
        let mut fields = Fields::default();
        let name = fields.take("/name", Name::parse(self.name));
        let preset =
            fields.take("/preset", preset(self.preset.as_deref().unwrap_or(presets::DEFAULT_PRESET)));
        let format = fields.take("/format", self.format.as_deref().map(built_in_format).transpose());
        let external_id = fields.take("/external_id", self.external_id.map(ExternalId::parse).transpose());
        let retention_days =
            fields.take("/retention_days", self.retention_days.map(retention_days).transpose());
        let failing_days =
            fields.take("/failing_days", failing_days(self.failing_days.unwrap_or(FAILING_DAYS_DEFAULT)));
        let metadata = fields.metadata("/metadata", self.metadata.unwrap_or_default());
        let allow_unknown_event_types = self.allow_unknown_event_types.unwrap_or(false);
        let validate_payloads = self.validate_payloads.unwrap_or(false);
        fields.done(|| {
            Some(NewTenant {
                name: name?,
                preset: preset?,
                format: format?,
                external_id: external_id?,
                allow_unknown_event_types,
                validate_payloads,
                retention_days: retention_days?,
                failing_days: failing_days?,
                metadata: metadata?,
            })
        })
    }
}

impl UpdateBody {
    /// The name of the wanted format, for [`UpdateBody::apply`].
    pub fn format(&self) -> Option<&str> {
        if let Patch::Value(name) = &self.format { Some(name) } else { None }
    }

    /// Applies the patch; the names of what it sets. `format`: the one of the wanted name, if there is one.
    pub fn apply(self, tenant: &mut Tenant, format: Option<&Format>) -> Result<Vec<&'static str>, ApiError> {
        let mut fields = Fields::default();
        if let Some(name) = fields.required("name", self.name, Name::parse) {
            tenant.name = name.as_str().to_owned();
        }
        let known =
            |_| format.map(|format| format.name.clone()).ok_or_else(|| "is not a wire format".to_owned());
        if let Some(format) = fields.optional("format", self.format, known) {
            tenant.format = format;
        }
        if let Some(external_id) = fields.optional("external_id", self.external_id, ExternalId::parse) {
            tenant.external_id = external_id.map(|id| id.as_str().to_owned());
        }
        if let Some(allow) = fields.required("allow_unknown_event_types", self.allow_unknown_event_types, Ok)
        {
            tenant.allow_unknown_event_types = allow;
        }
        if let Some(validate) = fields.required("validate_payloads", self.validate_payloads, Ok) {
            tenant.validate_payloads = validate;
        }
        if let Some(days) = fields.optional("retention_days", self.retention_days, retention_days) {
            tenant.retention_days = days.map(i32::from);
        }
        if let Some(days) = fields.required("failing_days", self.failing_days, failing_days) {
            tenant.failing_days = i32::from(days);
        }
        fields.patch_metadata(self.metadata, &mut tenant.metadata);
        fields.finish()
    }
}

fn preset(name: &str) -> Result<&'static str, String> {
    presets::preset(name).map(|preset| preset.name.as_str()).ok_or_else(|| {
        let known: Vec<&str> = presets::all().iter().map(|preset| preset.name.as_str()).collect();
        format!("is not a preset; there are {}", known.join(", "))
    })
}

fn built_in_format(name: &str) -> Result<&'static str, String> {
    presets::format_by_name(name).map(|format| format.name.as_str()).ok_or_else(|| {
        let known: Vec<&str> = presets::formats().iter().map(|format| format.name.as_str()).collect();
        format!("is not a built-in wire format; there are {}", known.join(", "))
    })
}

fn retention_days(days: u16) -> Result<u16, String> {
    if (1..=RETENTION_DAYS_MAX).contains(&days) {
        Ok(days)
    } else {
        Err(format!("must be 1 to {RETENTION_DAYS_MAX}"))
    }
}

fn failing_days(days: u16) -> Result<u16, String> {
    if (1..=FAILING_DAYS_MAX).contains(&days) {
        Ok(days)
    } else {
        Err(format!("must be 1 to {FAILING_DAYS_MAX}"))
    }
}

/// The name is another tenant's.
pub fn external_id_taken() -> ApiError {
    ApiError::Conflict("The external_id is another tenant's.".into())
}
