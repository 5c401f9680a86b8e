//! From what a caller says about an endpoint to what may be stored: create and update go through the same check.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{Array, ArrayBuilder, Object, Type, schema::SchemaType},
};

use super::queries::{Stored, TenantSettings};
use crate::{
    egress::{CustomHeaders, EndpointUrl, Policy, SchemeRule, headers_schema},
    formats::{Format, MAX_RETRY_STEPS, MAX_RETRY_TOTAL_S, check_retry_schedule_s, check_timeout_ms},
    locations::LocationRef,
    types::{ecma_json::pointer_token, event_type::Pattern, secret::SigningSecret, text::Name},
    web::{
        ApiError, Patch,
        entries::HeaderEntries,
        fields::{Fields, Metadata},
    },
};

pub const MAX_IN_FLIGHT_DEFAULT: u32 = 8;
const MAX_IN_FLIGHT_MAX: u32 = 256;
const RATE_LIMIT_MAX_PER_S: u32 = 10_000;
/// Patterns of one endpoint.
pub const EVENT_TYPES_MAX: usize = 100;

/// An endpoint to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateEndpoint)]
pub struct CreateBody {
    /// The location whose events it gets; refused where the path names one. Without it: the tenant's default location.
    pub location_id: Option<LocationRef>,
    #[schema(value_type = Name)]
    name: String,
    /// Where deliveries are POSTed to.
    #[schema(value_type = EndpointUrl)]
    url: String,
    /// Which events it gets, none twice.
    #[schema(value_type = Vec<Pattern>, min_items = 1, max_items = 100, examples(json!(["message.*"])))]
    event_types: Vec<String>,
    /// Most attempts that are started a second. Without it: no limit.
    #[schema(minimum = 1, maximum = 10000)]
    rate_limit_per_s: Option<u32>,
    /// Most attempts that are under way at a time.
    #[schema(minimum = 1, maximum = 256, default = 8)]
    max_in_flight: Option<u32>,
    /// Its wire format. Without it: that of the tenant's preset.
    #[schema(examples("standard"))]
    format: Option<String>,
    #[schema(value_type = Option<CustomHeaders>)]
    headers: Option<HeaderEntries<String>>,
    /// How long an attempt may take, in milliseconds. Without it: as the format says.
    #[schema(minimum = 1000, maximum = 30000)]
    timeout_ms: Option<u32>,
    #[schema(schema_with = retry_schedule_schema)]
    retry_schedule_s: Option<Vec<u32>>,
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<Map<String, Value>>,
    /// A signing secret that it brings along. Without it: one is made.
    #[schema(value_type = Option<SigningSecret>)]
    secret: Option<String>,
    /// Whether to send one test event once the endpoint is there; the answer doesn't wait for it.
    #[serde(default)]
    #[schema(default = false)]
    pub send_test_ping: bool,
}

fn retry_schedule_schema() -> Array {
    let step =
        Object::builder().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MAX_RETRY_TOTAL_S as f64));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(step)
        .max_items(Some(MAX_RETRY_STEPS))
        .description(Some("Seconds from each failure to the next attempt, 7 days together. `null` or left out: as the format says."))
        .examples([serde_json::json!([10, 60, 300])])
        .build()
}

fn headers_patch_schema() -> Object {
    let value = Object::builder().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    headers_schema(value)
        .description(Some(
            "Headers that every request should carry besides. Merged: a name that is `null` is taken away.",
        ))
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .build()
}

/// What should change about an endpoint (RFC 7396): what is left out stays, what is `null` is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpdateEndpoint)]
pub struct UpdateBody {
    #[serde(default)]
    #[schema(value_type = Name)]
    name: Patch<String>,
    /// Where deliveries are POSTed to; those that wait go there too.
    #[serde(default)]
    #[schema(value_type = EndpointUrl)]
    url: Patch<String>,
    /// Which events it gets: the whole set, none twice.
    #[serde(default)]
    #[schema(value_type = Vec<Pattern>, min_items = 1, max_items = 100)]
    event_types: Patch<Vec<String>>,
    /// Most attempts that are started a second; `null`: no limit.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000, examples(20))]
    rate_limit_per_s: Patch<u32>,
    /// Most attempts that are under way at a time; `null`: 8.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 256)]
    max_in_flight: Patch<u32>,
    /// Its wire format; `null`: that of the tenant's preset.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    format: Patch<String>,
    #[serde(default)]
    #[schema(schema_with = headers_patch_schema)]
    headers: Patch<HeaderEntries<Option<String>>>,
    /// How long an attempt may take, in milliseconds; `null`: as the format says.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1000, maximum = 30000)]
    timeout_ms: Patch<u32>,
    #[serde(default)]
    #[schema(schema_with = retry_schedule_schema)]
    retry_schedule_s: Patch<Vec<u32>>,
    #[serde(default)]
    #[schema(value_type = Option<Metadata>)]
    metadata: Patch<Map<String, Value>>,
}

/// Everything that can be set, unchecked.
pub struct Draft {
    name: String,
    url: String,
    event_types: Vec<String>,
    rate_limit_per_s: Option<u32>,
    max_in_flight: u32,
    format: Option<Arc<Format>>,
    headers: BTreeMap<String, String>,
    timeout_ms: Option<u32>,
    retry_schedule_s: Option<Vec<u32>>,
    metadata: Value,
}

/// Everything that can be set, fit to be stored.
pub struct Checked {
    pub name: Name,
    pub url: EndpointUrl,
    pub patterns: Vec<Pattern>,
    pub rate_limit_per_s: Option<u32>,
    pub max_in_flight: u32,
    pub format: Arc<Format>,
    pub headers: BTreeMap<String, String>,
    pub timeout_ms: Option<u32>,
    pub retry_schedule_s: Option<Vec<u32>>,
    pub metadata: Value,
}

impl CreateBody {
    /// An endpoint with nothing but what it must have.
    pub fn plain(name: String, url: String, event_types: Vec<String>) -> Self {
        Self {
            location_id: None,
            name,
            url,
            event_types,
            rate_limit_per_s: None,
            max_in_flight: None,
            format: None,
            headers: None,
            timeout_ms: None,
            retry_schedule_s: None,
            metadata: None,
            secret: None,
            send_test_ping: false,
        }
    }

    /// The name of the wanted format, for [`CreateBody::check`].
    pub fn format<'a>(&'a self, tenant: &'a TenantSettings) -> &'a str {
        self.format.as_deref().unwrap_or_else(|| tenant.default_format())
    }

    /// The checked endpoint, and its secret: the one brought along, or a new one. `format`: the one of this name, if there
    /// is one.
    pub fn check(
        self,
        format: Option<Arc<Format>>,
        policy: &Policy,
        tenant: &TenantSettings,
    ) -> Result<(Checked, SigningSecret), ApiError> {
        let mut fields = Fields::default();
        let metadata = fields.metadata("/metadata", self.metadata.unwrap_or_default());
        let secret = match self.secret {
            None => Some(SigningSecret::generate()),
            Some(text) => {
                fields.take("/secret", SigningSecret::parse(&text).map_err(|error| error.to_string()))
            }
        };
        let draft = Draft {
            name: self.name,
            url: self.url,
            event_types: self.event_types,
            rate_limit_per_s: self.rate_limit_per_s,
            max_in_flight: self.max_in_flight.unwrap_or(MAX_IN_FLIGHT_DEFAULT),
            format,
            headers: self.headers.unwrap_or_default().0,
            timeout_ms: self.timeout_ms,
            retry_schedule_s: self.retry_schedule_s,
            metadata: metadata.unwrap_or_default(),
        };
        let checked = draft.check(&mut fields, &[], policy, tenant);
        if let (Some(checked), Some(secret)) = (&checked, &secret) {
            fits(&mut fields, "/secret", &checked.format, secret);
        }
        fields.done(|| Some((checked?, secret?)))
    }
}

/// Notes where a format needs a secret of ours and this is none.
fn fits(fields: &mut Fields, pointer: &str, format: &Format, secret: &SigningSecret) {
    if let Err(detail) = secret_fits(format, secret) {
        fields.wrong(pointer, detail);
    }
}

/// Formats that sign with the secret's base64 part need one that has it.
pub fn secret_fits(format: &Format, secret: &SigningSecret) -> Result<(), String> {
    if format.uses_base64_key() && secret.base64_key().is_none() {
        return Err(format!(
            "must be whsec_ and base64 of 24 to 64 bytes for the format {}, which signs with those bytes",
            format.name
        ));
    }
    Ok(())
}

impl UpdateBody {
    /// The name of the format after the patch, for [`UpdateBody::check`].
    pub fn format<'a>(&'a self, stored: &'a Stored, tenant: &'a TenantSettings) -> &'a str {
        match &self.format {
            Patch::Absent => &stored.format,
            Patch::Null => tenant.default_format(),
            Patch::Value(name) => name,
        }
    }

    /// The checked endpoint after the patch, and the names of the fields that it sets. `format`: the one of this name, if
    /// there is one.
    pub fn check(
        self,
        format: Option<Arc<Format>>,
        stored: &Stored,
        headers: BTreeMap<String, String>,
        secret: &SigningSecret,
        policy: &Policy,
        tenant: &TenantSettings,
    ) -> Result<(Checked, Vec<&'static str>), ApiError> {
        let mut fields = Fields::default();
        let mut draft = Draft {
            name: stored.name.clone(),
            url: stored.url.clone(),
            event_types: stored.event_types.clone(),
            rate_limit_per_s: unsigned(stored.rate_limit_per_s),
            max_in_flight: unsigned(Some(stored.max_in_flight)).unwrap_or(MAX_IN_FLIGHT_DEFAULT),
            format,
            headers,
            timeout_ms: unsigned(stored.timeout_ms),
            retry_schedule_s: stored
                .retry_schedule_s
                .as_ref()
                .map(|steps| steps.iter().filter_map(|step| unsigned(Some(*step))).collect()),
            metadata: stored.metadata.clone(),
        };
        if let Some(name) = fields.required("name", self.name, Ok) {
            draft.name = name;
        }
        if let Some(url) = fields.required("url", self.url, Ok) {
            draft.url = url;
        }
        if let Some(event_types) = fields.required("event_types", self.event_types, Ok) {
            draft.event_types = event_types;
        }
        if let Some(rate) = fields.optional("rate_limit_per_s", self.rate_limit_per_s, Ok) {
            draft.rate_limit_per_s = rate;
        }
        if let Some(most) = fields.optional("max_in_flight", self.max_in_flight, Ok) {
            draft.max_in_flight = most.unwrap_or(MAX_IN_FLIGHT_DEFAULT);
        }
        let _ = fields.optional("format", self.format, Ok);
        match fields.optional("headers", self.headers, Ok) {
            None => {}
            Some(None) => draft.headers.clear(),
            Some(Some(patch)) => merge_headers(&mut draft.headers, patch.0),
        }
        if let Some(timeout) = fields.optional("timeout_ms", self.timeout_ms, Ok) {
            draft.timeout_ms = timeout;
        }
        if let Some(schedule) = fields.optional("retry_schedule_s", self.retry_schedule_s, Ok) {
            draft.retry_schedule_s = schedule;
        }
        fields.patch_metadata(self.metadata, &mut draft.metadata);
        let checked = draft.check(&mut fields, &stored.event_types, policy, tenant);
        if let Some(checked) = &checked {
            fits(&mut fields, "/format", &checked.format, secret);
        }
        let set = fields.finish()?;
        checked
            .map(|checked| (checked, set))
            .ok_or_else(|| ApiError::internal("an unchecked endpoint without errors"))
    }
}

/// Header names are the same whatever their case.
fn merge_headers(headers: &mut BTreeMap<String, String>, patch: BTreeMap<String, Option<String>>) {
    for (name, value) in patch {
        headers.retain(|known, _| !known.eq_ignore_ascii_case(&name));
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
}

fn unsigned(column: Option<i32>) -> Option<u32> {
    column.and_then(|value| u32::try_from(value).ok())
}

impl Draft {
    fn check(
        self,
        fields: &mut Fields,
        already: &[String],
        policy: &Policy,
        tenant: &TenantSettings,
    ) -> Option<Checked> {
        let name = fields.take("/name", Name::parse(self.name));
        let format = fields.take("/format", self.format.ok_or_else(|| "is not a wire format".to_owned()));
        let allows_http = format.as_ref().is_some_and(|format| format.allow_http);
        let rule = SchemeRule { format_allows_http: allows_http };
        let url =
            fields.take("/url", policy.parse_url(&self.url, rule).map_err(|refusal| refusal.to_string()));
        let patterns = check_patterns(fields, ("/event_types", ""), &self.event_types, already, tenant);
        let rate = fields.take("/rate_limit_per_s", within(self.rate_limit_per_s, RATE_LIMIT_MAX_PER_S));
        let most = fields.take("/max_in_flight", within(Some(self.max_in_flight), MAX_IN_FLIGHT_MAX));
        if let Some(timeout_ms) = self.timeout_ms {
            fields.take(
                "/timeout_ms",
                check_timeout_ms(timeout_ms).map_err(|_| "must be 1000 to 30000".to_owned()),
            );
        }
        if let Some(schedule) = &self.retry_schedule_s {
            let told = "must have at most 15 steps of 1 s or more, 7 days together".to_owned();
            fields.take("/retry_schedule_s", check_retry_schedule_s(schedule).map_err(|_| told));
        }
        let signature_headers: Vec<&str> =
            format.iter().flat_map(|format| &format.signatures).map(|spec| spec.header().as_str()).collect();
        let pairs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        if let Err(refusals) = CustomHeaders::parse(pairs, &signature_headers) {
            for refusal in refusals {
                let place = refusal.name.map(|name| format!("/{}", pointer_token(&name))).unwrap_or_default();
                fields.wrong(format!("/headers{place}"), refusal.detail);
            }
        }
        Some(Checked {
            name: name?,
            url: url?,
            patterns: patterns?,
            rate_limit_per_s: rate?,
            max_in_flight: most??,
            format: format?,
            headers: self.headers,
            timeout_ms: self.timeout_ms,
            retry_schedule_s: self.retry_schedule_s,
            metadata: self.metadata,
        })
    }
}

fn within(value: Option<u32>, most: u32) -> Result<Option<u32>, String> {
    if value.is_none_or(|value| (1..=most).contains(&value)) {
        Ok(value)
    } else {
        Err(format!("must be 1 to {most}"))
    }
}

/// A set of subscriptions: at least one, none twice, each of something that the tenant can get. `member` follows the index
/// in the pointer of a wrong one.
pub fn check_patterns(
    fields: &mut Fields,
    (pointer, member): (&str, &str),
    texts: &[String],
    // Subscriptions that the endpoint has: they stay good when their type is archived.
    already: &[String],
    tenant: &TenantSettings,
) -> Option<Vec<Pattern>> {
    if texts.is_empty() {
        fields.wrong(pointer, "must name at least one event type");
        return None;
    }
    if texts.len() > EVENT_TYPES_MAX {
        fields.wrong(pointer, format!("must name at most {EVENT_TYPES_MAX} event types"));
        return None;
    }
    let mut patterns: Vec<Pattern> = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        let pattern = Pattern::parse(text.as_str()).map_err(|error| error.to_string()).and_then(|pattern| {
            if patterns.contains(&pattern) {
                Err("is given twice".to_owned())
            } else if already.contains(text) {
                Ok(pattern)
            } else {
                check_new_pattern(&pattern, tenant).map(|()| pattern)
            }
        });
        patterns.extend(fields.take(format!("{pointer}/{at}{member}"), pattern));
    }
    (patterns.len() == texts.len()).then_some(patterns)
}

/// Whether the tenant can get anything by a new subscription to this pattern.
pub fn check_new_pattern(pattern: &Pattern, tenant: &TenantSettings) -> Result<(), String> {
    if tenant.catalogue.is_archived(pattern.as_str()) {
        return Err("is archived, and takes no new subscriptions".to_owned());
    }
    let is_free = tenant.allow_unknown_event_types && !pattern.is_operational();
    if is_free || tenant.catalogue.offers(pattern) {
        Ok(())
    } else {
        Err("is not an event type of this tenant".to_owned())
    }
}
