//! What a delivery is sent with: an endpoint's settings, opened and put together once for many attempts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use axum::http::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{client_certificate, secrets};
use crate::{
    egress::{ClientIdentity, CustomHeaders, EndpointUrl, IdentityRefusal, Policy, SchemeRule},
    format_book::FormatBook,
    formats::{EventView, Format},
    queue::refill::EventBody,
    seal::Vault,
    signing::{POSTHASTE_ATTEMPT, Signer, WEBHOOK_ID},
    types::{EndpointId, EventId, LocationId, TenantId, Timestamp, hex, secret::SigningSecret},
    web::ApiError,
};

/// As fine as time is stored.
const MOMENT: Duration = Duration::from_micros(1);

/// Everything that an attempt needs but the event.
pub struct Target {
    pub endpoint_id: EndpointId,
    pub tenant_id: TenantId,
    pub location_id: LocationId,
    pub version: i32,
    /// `None` where the policy refuses the URL: it was stricter or looser when the endpoint was saved.
    pub url: Option<EndpointUrl>,
    pub held: bool,
    pub failing: bool,
    pub max_in_flight: u32,
    pub rate_per_s: Option<u32>,
    pub throttled_until: Option<Timestamp>,
    pub throttle_resets: i32,
    timeout_ms: Option<u32>,
    retry_schedule_s: Option<Vec<u32>>,
    headers: CustomHeaders,
    /// What the receiver is shown if it asks who is calling. `Unusable`: nothing is sent.
    pub identity: Result<Option<Arc<ClientIdentity>>, Unusable>,
    /// Live secrets, newest first, each until it ends.
    secrets: Vec<(SigningSecret, Option<Timestamp>)>,
    tenant_text: String,
    location_text: String,
}

/// It has a client certificate, which can't be used any more.
#[derive(Clone, Copy, Debug)]
pub struct Unusable;

impl Target {
    pub fn timeout(&self, format: &Format) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms.unwrap_or(format.timeout_ms)))
    }

    pub fn retry_schedule(&self, format: &Format) -> Vec<Duration> {
        let steps_s = self.retry_schedule_s.as_ref().unwrap_or(&format.retry_schedule_s);
        steps_s.iter().map(|seconds| Duration::from_secs(u64::from(*seconds))).collect()
    }

    /// The body, the same for every attempt.
    pub fn body(&self, format: &Format, event_id: EventId, event: &EventBody) -> Bytes {
        render(format, event_id, event, &self.tenant_text, &self.location_text)
    }

    /// Signs with the secrets that are live at `now`. `None` where the format can't be signed with them.
    pub fn signer(&self, format: &Format, now: Timestamp) -> Option<Signer> {
        let live = self.secrets.iter().filter(|(_, ends_at)| ends_at.is_none_or(|ends_at| ends_at > now));
        signer(format, &live.map(|(secret, _)| secret.clone()).collect::<Vec<_>>())
    }

    /// When the set of live secrets changes next.
    pub fn next_secret_end(&self, now: Timestamp) -> Option<Timestamp> {
        self.secrets.iter().filter_map(|(_, ends_at)| *ends_at).filter(|ends_at| *ends_at > now).min()
    }

    /// The headers of one attempt.
    pub fn headers(
        &self,
        signer: &Signer,
        event_id: EventId,
        number: i32,
        at: Timestamp,
        body: &[u8],
    ) -> HeaderMap {
        request_headers(&self.headers, signer, event_id, number, at, body)
    }
}

pub fn render(
    format: &Format,
    event_id: EventId,
    event: &EventBody,
    tenant_id: &str,
    location_id: &str,
) -> Bytes {
    let id = event_id.to_string();
    format.envelope.render(&EventView {
        id: &id,
        event_type: &event.event_type,
        occurred_at: event.occurred_at.datetime(),
        tenant_id,
        location_id,
        channel: event.channel.as_deref(),
        api_version: event.api_version.as_deref(),
        live_mode: event.live_mode,
        data: &event.data,
    })
}

/// An old secret that a format can't use must not keep the new one from signing.
fn signer(format: &Format, live: &[SigningSecret]) -> Option<Signer> {
    let newest = live.get(..1).unwrap_or_default();
    Signer::new(&format.signatures, live).or_else(|_| Signer::new(&format.signatures, newest)).ok()
}

pub fn request_headers(
    custom: &CustomHeaders,
    signer: &Signer,
    event_id: EventId,
    number: i32,
    at: Timestamp,
    body: &[u8],
) -> HeaderMap {
    let id = event_id.to_string();
    let mut headers = HeaderMap::with_capacity(8);
    custom.add_to(&mut headers);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(WEBHOOK_ID, value);
    }
    headers.insert(POSTHASTE_ATTEMPT, HeaderValue::from(number));
    for (name, value) in signer.sign(&id, at.unix_s(), body) {
        headers.insert(name, value);
    }
    headers
}

fn parse_custom(headers: &BTreeMap<String, String>) -> CustomHeaders {
    CustomHeaders::parse(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())), &[])
        .unwrap_or_default()
}

/// Everything that attempts to an endpoint were ever sent with: its versions, and its secrets with their lifetimes.
pub struct History {
    /// Newest first.
    versions: Vec<Version>,
    /// Newest first; made, and ended if it has an end.
    secrets: Vec<(SigningSecret, Timestamp, Option<Timestamp>)>,
    tenant_text: String,
    location_text: String,
}

/// What an attempt was sent with, besides its body.
pub struct AsSent {
    pub url: String,
    pub headers: HeaderMap,
    /// Of what the receiver was shown if it asked who is calling.
    pub client_certificate_sha256: Option<String>,
}

struct Version {
    number: i32,
    url: String,
    headers: CustomHeaders,
    client_certificate_sha256: Option<Vec<u8>>,
    made_at: Timestamp,
}

impl History {
    pub async fn load(
        db: &mut PgConnection,
        vault: &Vault,
        tenant: TenantId,
        endpoint: EndpointId,
    ) -> Result<Option<Self>, ApiError> {
        let rows = sqlx::query!(
            r#"SELECT e.location_id AS "location_id: LocationId", v.version, v.url, v.headers_sealed, v.client_certificate_sha256,
                   v.created_at AS "made_at: Timestamp"
               FROM endpoints e JOIN endpoint_versions v ON v.tenant_id = e.tenant_id AND v.endpoint_id = e.id
               WHERE e.tenant_id = $1 AND e.id = $2 AND e.deleted_at IS NULL ORDER BY v.version DESC"#,
            tenant.uuid(),
            endpoint.uuid()
        )
        .fetch_all(&mut *db)
        .await?;
        let Some(location) = rows.first().map(|row| row.location_id) else { return Ok(None) };
        let mut versions = Vec::with_capacity(rows.len());
        for row in rows {
            let headers = secrets::open_headers(vault, tenant, endpoint, row.headers_sealed.as_deref())
                .map_err(ApiError::internal)?;
            let headers = parse_custom(&headers);
            versions.push(Version {
                number: row.version,
                url: row.url,
                headers,
                client_certificate_sha256: row.client_certificate_sha256,
                made_at: row.made_at,
            });
        }
        let mut live = Vec::new();
        for one in secrets::all(&mut *db, tenant, endpoint).await? {
            let secret =
                secrets::open(vault, tenant, endpoint, one.id, &one.sealed).map_err(ApiError::internal)?;
            live.push((secret, one.created_at, one.expires_at));
        }
        let (tenant_text, location_text) = (tenant.to_string(), location.to_string());
        Ok(Some(Self { versions, secrets: live, tenant_text, location_text }))
    }

    pub fn body(&self, format: &Format, event_id: EventId, event: &EventBody) -> Bytes {
        render(format, event_id, event, &self.tenant_text, &self.location_text)
    }

    /// What the attempt was sent with that was made at `at` with the endpoint's version `version`.
    pub fn as_sent(
        &self,
        version: i32,
        format: &Format,
        event_id: EventId,
        number: i32,
        at: Timestamp,
        body: &[u8],
    ) -> Option<AsSent> {
        let place = self.versions.iter().position(|known| known.number <= version)?;
        let known = self.versions.get(place)?;
        // The owner signs with the secrets that it read with this version, until it has read the next one: an attempt from
        // in between lies after the rotation that it knew nothing of, or on an uneven clock before its own version.
        let next = place.checked_sub(1).and_then(|place| self.versions.get(place));
        let latest = next.map_or(at, |next| at.min(next.made_at.minus(MOMENT)));
        let read_at = latest.max(known.made_at);
        let live = self
            .secrets
            .iter()
            .filter(|(_, made_at, ends_at)| *made_at <= read_at && ends_at.is_none_or(|end| end > read_at));
        let signer = signer(format, &live.map(|(secret, ..)| secret.clone()).collect::<Vec<_>>())?;
        let headers = request_headers(&known.headers, &signer, event_id, number, at, body);
        let client_certificate_sha256 = known.client_certificate_sha256.as_deref().map(hex);
        Some(AsSent { url: known.url.clone(), headers, client_certificate_sha256 })
    }
}

fn usable(
    endpoint: EndpointId,
    identity: Option<Result<ClientIdentity, Vec<IdentityRefusal>>>,
) -> Result<Option<Arc<ClientIdentity>>, Unusable> {
    identity.transpose().map(|identity| identity.map(Arc::new)).map_err(|refusals| {
        tracing::error!(%endpoint, ?refusals, "the client certificate of an endpoint can't be used any more; its deliveries fail");
        Unusable
    })
}

/// The targets of these endpoints. One that can't be opened or no longer exists is missing.
pub async fn load(
    db: &mut PgConnection,
    formats: &FormatBook,
    vault: &Vault,
    policy: &Policy,
    endpoints: &[EndpointId],
) -> sqlx::Result<HashMap<EndpointId, Arc<Target>>> {
    let shards: Vec<i32> = endpoints.iter().map(|id| id.shard().column()).collect();
    let ids: Vec<Uuid> = endpoints.iter().map(|id| id.uuid()).collect();
    let rows = sqlx::query!(
        r#"
        SELECT e.tenant_id AS "tenant_id: TenantId", e.id AS "id: EndpointId", e.location_id AS "location_id: LocationId",
            e.version, e.url, e.format_version, e.rate_limit_per_s, e.max_in_flight, e.timeout_ms, e.retry_schedule_s, e.headers_sealed,
            e.client_certificate, e.client_key_sealed,
            (e.paused_at IS NOT NULL OR e.deleted_at IS NOT NULL OR h.disabled_at IS NOT NULL) AS "held!",
            (h.failing_since IS NOT NULL) AS "failing!", h.throttled_until AS "throttled_until: Timestamp", h.throttle_resets,
            s.ids AS "secret_ids!", s.sealed AS "secrets_sealed!", s.ends AS "secret_ends!: Vec<Option<Timestamp>>"
        FROM unnest($1::int[], $2::uuid[]) AS wanted(shard, id)
        JOIN endpoints e ON e.shard = wanted.shard AND e.id = wanted.id
        JOIN endpoint_health h ON h.shard = wanted.shard AND h.endpoint_id = wanted.id
        CROSS JOIN LATERAL (
            SELECT array_agg(x.id ORDER BY x.id DESC) AS ids, array_agg(x.sealed ORDER BY x.id DESC) AS sealed,
                array_agg(x.expires_at ORDER BY x.id DESC) AS ends
            FROM endpoint_secrets x
            WHERE x.tenant_id = e.tenant_id AND x.endpoint_id = e.id AND (x.expires_at IS NULL OR x.expires_at > now())
        ) s
        "#,
        &shards,
        &ids
    )
    .fetch_all(&mut *db)
    .await?;
    let formats = formats.of(db, rows.iter().map(|row| row.format_version)).await?;
    let mut targets = HashMap::with_capacity(rows.len());
    for row in rows {
        let positive = |column: Option<i32>| column.and_then(|value| u32::try_from(value).ok());
        let opened: Result<Vec<_>, _> = row
            .secret_ids
            .iter()
            .zip(&row.secrets_sealed)
            .zip(&row.secret_ends)
            .map(|((id, sealed), ends_at)| {
                secrets::open(vault, row.tenant_id, row.id, *id, sealed).map(|secret| (secret, *ends_at))
            })
            .collect();
        let custom = secrets::open_headers(vault, row.tenant_id, row.id, row.headers_sealed.as_deref());
        let identity = match (&row.client_certificate, &row.client_key_sealed) {
            (Some(chain_pem), Some(key_sealed)) => {
                client_certificate::open(vault, row.tenant_id, row.id, chain_pem, key_sealed).map(Some)
            }
            _ => Ok(None),
        };
        let (opened, custom, identity) = match (opened, custom, identity) {
            (Ok(opened), Ok(custom), Ok(identity)) => (opened, custom, identity),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                tracing::error!(endpoint = %row.id, %error, "the secrets of an endpoint can't be opened; its deliveries wait");
                continue;
            }
        };
        let allows_http = formats.get(&row.format_version).is_some_and(|format| format.allow_http);
        let target = Target {
            endpoint_id: row.id,
            tenant_id: row.tenant_id,
            location_id: row.location_id,
            version: row.version,
            url: policy.parse_url(&row.url, SchemeRule { format_allows_http: allows_http }).ok(),
            held: row.held,
            failing: row.failing,
            max_in_flight: positive(Some(row.max_in_flight)).unwrap_or(1),
            rate_per_s: positive(row.rate_limit_per_s),
            throttled_until: row.throttled_until,
            throttle_resets: row.throttle_resets,
            timeout_ms: positive(row.timeout_ms),
            retry_schedule_s: row
                .retry_schedule_s
                .map(|steps| steps.into_iter().filter_map(|step| u32::try_from(step).ok()).collect()),
            headers: parse_custom(&custom),
            identity: usable(row.id, identity),
            secrets: opened,
            tenant_text: row.tenant_id.to_string(),
            location_text: row.location_id.to_string(),
        };
        targets.insert(row.id, Arc::new(target));
    }
    Ok(targets)
}
