//! From what a caller says about an endpoint to what may be stored: create and update go through the same check.

mod create;
mod patterns;
mod update;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;
use utoipa::openapi::{Array, ArrayBuilder, Object, Type, schema::SchemaType};

pub use self::{
    create::CreateBody,
    patterns::{EVENT_TYPES_MAX, check_new_pattern, check_patterns},
    update::UpdateBody,
};
use super::{client_certificate::NewClientCertificate, queries::TenantSettings};
use crate::{
    egress::{CustomHeaders, EndpointUrl, Policy, SchemeRule},
    formats::{Format, MAX_RETRY_STEPS, MAX_RETRY_TOTAL_S, check_retry_schedule_s, check_timeout_ms},
    types::{Timestamp, ecma_json::pointer_token, event_type::Pattern, secret::SigningSecret, text::Name},
    web::{Patch, fields::Fields},
};

pub const MAX_IN_FLIGHT_DEFAULT: u32 = 8;
const MAX_IN_FLIGHT_MAX: u32 = 256;
const RATE_LIMIT_MAX_PER_S: u32 = 10_000;

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

/// What an endpoint must comply with.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    pub policy: &'a Policy,
    pub tenant: &'a TenantSettings,
    pub now: Timestamp,
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
    client_certificate: Patch<NewClientCertificate>,
    /// It has one that stays unless `client_certificate` says otherwise.
    has_client_certificate: bool,
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
    /// `Absent`: it stays as it is.
    pub client_certificate: Patch<NewClientCertificate>,
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

impl Draft {
    fn check(self, fields: &mut Fields, already: &[String], rules: Rules<'_>) -> Option<Checked> {
        let Rules { policy, tenant, .. } = rules;
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
        let signature_headers = format.as_ref().map(|format| format.signature_headers()).unwrap_or_default();
        let pairs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        if let Err(refusals) = CustomHeaders::parse(pairs, &signature_headers) {
            for refusal in refusals {
                let place = refusal.name.map(|name| format!("/{}", pointer_token(&name))).unwrap_or_default();
                fields.wrong(format!("/headers{place}"), refusal.detail);
            }
        }
        let certified = match &self.client_certificate {
            Patch::Value(_) => Some(("/client_certificate", "needs a url with https")),
            Patch::Absent if self.has_client_certificate => {
                Some(("/url", "must be https: the endpoint has a client certificate"))
            }
            _ => None,
        };
        if let (Some((pointer, detail)), Some(url)) = (certified, &url)
            && !url.is_https()
        {
            fields.wrong(pointer, detail);
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
            client_certificate: self.client_certificate,
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
