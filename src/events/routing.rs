//! Who gets an event: a location's routing table, in memory, by version.

use std::{collections::HashMap, sync::Arc};

use jsonschema::Validator;
use moka::future::Cache;
use serde_json::Value;
use sqlx::PgPool;

use crate::{
    event_types::{self, Catalogue, compile_schema},
    format_book::FormatBook,
    formats::Format,
    locations::{Channel, LocationRef},
    types::{
        EndpointId, LocationId, TenantId,
        event_type::{EventType, Pattern},
    },
};

/// Locations whose tables are remembered.
const CACHE_ENTRIES: u64 = 50_000;
/// Errors told of one payload.
const BROKEN_RULES_MAX: usize = 20;

/// Everything that decides about a publish to one location, as of one version.
pub struct Routing {
    pub location_id: LocationId,
    pub version: i64,
    pub catalogue: Catalogue,
    pub allow_unknown_event_types: bool,
    /// By event type, where the tenant has payloads validated.
    validators: HashMap<String, Validator>,
    /// Empty: unchecked.
    channels: Value,
    endpoints: Vec<Routed>,
}

pub struct Routed {
    pub endpoint_id: EndpointId,
    pub format_version: i32,
    /// `None`: a number that this program doesn't know.
    pub format: Option<Arc<Format>>,
    pub held: bool,
    patterns: Vec<Pattern>,
}

impl Routed {
    /// Publishing data that is no object would break its receiver.
    pub fn requires_object(&self) -> bool {
        self.format.as_ref().is_some_and(|format| format.requires_data_object())
    }
}

impl Routing {
    pub fn matching(&self, event_type: &EventType) -> impl Iterator<Item = &Routed> {
        self.endpoints
            .iter()
            .filter(move |endpoint| endpoint.patterns.iter().any(|pattern| pattern.matches(event_type)))
    }

    /// What the type's schema says against this data: pointers into it, and why.
    pub fn broken_rules(&self, event_type: &str, data: &str) -> Vec<(String, String)> {
        let Some(validator) = self.validators.get(event_type) else { return Vec::new() };
        match serde_json::from_str::<Value>(data) {
            Ok(value) => {
                let errors = validator.iter_errors(&value).take(BROKEN_RULES_MAX);
                errors.map(|error| (error.instance_path().to_string(), error.to_string())).collect()
            }
            Err(error) => vec![(String::new(), format!("can't be validated: {error}"))],
        }
    }

    /// False where the location has channels listed and not this one.
    pub fn has_channel(&self, channel: Channel) -> bool {
        let known = self.channels.as_object().filter(|channels| !channels.is_empty());
        known.is_none_or(|channels| channels.get(channel.as_str()).is_some_and(|state| state == "connected"))
    }
}

/// The remembered tables.
#[derive(Clone)]
pub struct RoutingTable {
    pool: PgPool,
    formats: FormatBook,
    by_location: Cache<(TenantId, Key), Arc<Routing>>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Id(LocationId),
    External(String),
}

impl Key {
    fn of(location: &LocationRef) -> Self {
        match location {
            LocationRef::Id(id) => Self::Id(*id),
            LocationRef::External(text) => Self::External(text.clone()),
        }
    }
}

impl RoutingTable {
    pub fn new(pool: PgPool, formats: FormatBook) -> Self {
        Self { pool, formats, by_location: Cache::new(CACHE_ENTRIES) }
    }

    /// The table of a tenant's location, or `None` where it has no such location.
    pub async fn of(&self, tenant: TenantId, location: &LocationRef) -> sqlx::Result<Option<Arc<Routing>>> {
        let key = (tenant, Key::of(location));
        if let Some(known) = self.by_location.get(&key).await {
            return Ok(Some(known));
        }
        let loaded = load(&self.pool, &self.formats, tenant, location).await?.map(Arc::new);
        if let Some(routing) = &loaded {
            self.by_location.insert(key, Arc::clone(routing)).await;
        }
        Ok(loaded)
    }

    /// The statement found it outdated.
    pub async fn forget(&self, tenant: TenantId, location: &LocationRef) {
        self.by_location.invalidate(&(tenant, Key::of(location))).await;
    }
}

async fn load(
    pool: &PgPool,
    formats: &FormatBook,
    tenant: TenantId,
    location: &LocationRef,
) -> sqlx::Result<Option<Routing>> {
    let (id, external_id) = location.columns();
    // One statement: version and content are of one moment.
    let rows = sqlx::query!(
        r#"
        SELECT l.id AS "location_id: LocationId", l.routing_version, l.channels, t.validate_payloads, t.allow_unknown_event_types,
            e.id AS "endpoint_id?: EndpointId", e.format_version AS "format_version?",
            (e.paused_at IS NOT NULL OR h.disabled_at IS NOT NULL) AS "held!",
            coalesce(s.patterns, '{}') AS "patterns!"
        FROM locations l
        JOIN tenants t ON t.id = l.tenant_id
        LEFT JOIN endpoints e ON e.tenant_id = l.tenant_id AND e.location_id = l.id AND e.deleted_at IS NULL
        LEFT JOIN endpoint_health h ON h.shard = e.shard AND h.endpoint_id = e.id
        LEFT JOIN LATERAL (
            SELECT array_agg(s.event_type) AS patterns FROM subscriptions s
            WHERE s.tenant_id = e.tenant_id AND s.endpoint_id = e.id
        ) s ON true
        WHERE l.tenant_id = $1 AND l.deleted_at IS NULL
            AND (($2::uuid IS NOT NULL AND l.id = $2) OR ($3::text IS NOT NULL AND l.external_id = $3))
        ORDER BY e.id
        "#,
        tenant.uuid(),
        id,
        external_id
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    // Read after the version: what is newer than it is found out by the statement that stores.
    let Some(catalogue) = event_types::load(&mut *pool.acquire().await?, tenant).await? else {
        return Ok(None);
    };
    let mut validators = HashMap::new();
    if first.validate_payloads {
        let compiled = catalogue
            .schemas()
            .filter_map(|(name, schema)| Some((name.to_owned(), compile_schema(schema).ok()?)));
        validators = compiled.collect();
    }
    let mut routing = Routing {
        location_id: first.location_id,
        version: first.routing_version,
        catalogue,
        validators,
        allow_unknown_event_types: first.allow_unknown_event_types,
        channels: first.channels.clone(),
        endpoints: Vec::new(),
    };
    let formats = formats.of(pool, rows.iter().filter_map(|row| row.format_version)).await?;
    for row in &rows {
        if let (Some(endpoint_id), Some(format_version)) = (row.endpoint_id, row.format_version) {
            let patterns =
                row.patterns.iter().filter_map(|text| Pattern::parse(text.as_str()).ok()).collect();
            routing.endpoints.push(Routed {
                endpoint_id,
                format_version,
                format: formats.get(&format_version).cloned(),
                held: row.held,
                patterns,
            });
        }
    }
    Ok(Some(routing))
}
