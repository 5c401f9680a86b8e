//! What a caller wants changed about an endpoint.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{self, Type, schema::SchemaType},
};

use super::{Checked, Draft, MAX_IN_FLIGHT_DEFAULT, Rules, fits, retry_schedule_schema};
use crate::{
    egress::{EndpointUrl, headers_schema},
    endpoints::{
        client_certificate::ClientCertificateBody,
        queries::{Stored, TenantSettings},
    },
    formats::Format,
    types::{event_type::Pattern, secret::SigningSecret, text::Name},
    web::{
        ApiError, Patch,
        entries::HeaderEntries,
        fields::{Fields, Metadata},
        json::Object,
    },
};

fn headers_patch_schema() -> openapi::Object {
    let value = openapi::Object::builder().schema_type(SchemaType::from_iter([Type::String, Type::Null]));
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
    /// Its wire format; `null`: the tenant's.
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
    /// The whole of it; `null`: none. A change takes effect for every later attempt.
    #[serde(default)]
    #[schema(value_type = Option<ClientCertificateBody>)]
    client_certificate: Patch<Object<ClientCertificateBody>>,
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
        rules: Rules<'_>,
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
            retry_schedule_s: stored.retry_schedule_s.as_deref().map(schedule),
            metadata: stored.metadata.clone(),
            client_certificate: Patch::Absent,
            has_client_certificate: stored.client_certificate.is_some(),
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
        match fields.optional("client_certificate", self.client_certificate, Ok) {
            None => {}
            Some(None) => draft.client_certificate = Patch::Null,
            Some(Some(Object(given))) => {
                if let Some(new) = given.check(&mut fields, rules.now) {
                    draft.client_certificate = Patch::Value(new);
                }
            }
        }
        let checked = draft.check(&mut fields, &stored.event_types, rules);
        if let Some(checked) = &checked {
            fits(&mut fields, "/format", &checked.format, secret);
        }
        let set = fields.finish()?;
        checked
            .map(|checked| (checked, set))
            .ok_or_else(|| ApiError::internal("an unchecked endpoint without errors"))
    }
}

impl Checked {
    /// Whether it says what is stored already, with these headers.
    pub fn is_stored(&self, stored: &Stored, headers: &BTreeMap<String, String>) -> bool {
        let mut patterns: Vec<&str> = self.patterns.iter().map(Pattern::as_str).collect();
        let mut known: Vec<&str> = stored.event_types.iter().map(String::as_str).collect();
        patterns.sort_unstable();
        known.sort_unstable();
        let certificate_stays = match self.client_certificate {
            Patch::Absent => true,
            Patch::Null => stored.client_certificate.is_none(),
            // Its key can't be seen from here.
            Patch::Value(_) => false,
        };
        certificate_stays
            && patterns == known
            && self.name.as_str() == stored.name
            && self.url.as_str() == stored.url
            && self.rate_limit_per_s == unsigned(stored.rate_limit_per_s)
            && Some(self.max_in_flight) == unsigned(Some(stored.max_in_flight))
            && (self.format.name.as_str(), self.format.version.0)
                == (stored.format.as_str(), stored.format_version)
            && self.headers == *headers
            && self.timeout_ms == unsigned(stored.timeout_ms)
            && self.retry_schedule_s == stored.retry_schedule_s.as_deref().map(schedule)
            && self.metadata == stored.metadata
    }
}

fn schedule(steps: &[i32]) -> Vec<u32> {
    steps.iter().filter_map(|step| unsigned(Some(*step))).collect()
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
