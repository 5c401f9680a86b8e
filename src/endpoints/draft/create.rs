//! What a caller says of a new endpoint.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Checked, Draft, MAX_IN_FLIGHT_DEFAULT, Rules, fits, retry_schedule_schema};
use crate::{
    egress::{CustomHeaders, EndpointUrl},
    endpoints::{client_certificate::ClientCertificateBody, queries::TenantSettings},
    formats::Format,
    locations::LocationRef,
    types::{event_type::Pattern, secret::SigningSecret, text::Name},
    web::{
        ApiError, Patch,
        entries::HeaderEntries,
        fields::{Fields, Metadata},
        json::Object,
    },
};

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
    /// Its wire format. Without it: the tenant's.
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
    #[schema(value_type = Option<ClientCertificateBody>)]
    client_certificate: Option<Object<ClientCertificateBody>>,
    /// Whether to send one test event once the endpoint is there; the answer doesn't wait for it.
    #[serde(default)]
    #[schema(default = false)]
    pub send_test_ping: bool,
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
            client_certificate: None,
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
        rules: Rules<'_>,
    ) -> Result<(Checked, SigningSecret), ApiError> {
        let mut fields = Fields::default();
        let metadata = fields.metadata("/metadata", self.metadata.unwrap_or_default());
        let secret = match self.secret {
            None => Some(SigningSecret::generate()),
            Some(text) => {
                fields.take("/secret", SigningSecret::parse(&text).map_err(|error| error.to_string()))
            }
        };
        let certificate =
            self.client_certificate.and_then(|Object(given)| given.check(&mut fields, rules.now));
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
            client_certificate: certificate.map_or(Patch::Null, Patch::Value),
            has_client_certificate: false,
        };
        let checked = draft.check(&mut fields, &[], rules);
        if let (Some(checked), Some(secret)) = (&checked, &secret) {
            fits(&mut fields, "/secret", &checked.format, secret);
        }
        fields.done(|| Some((checked?, secret?)))
    }
}
