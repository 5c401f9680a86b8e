//! Who gets an event: a location's routing table, in memory, by version.

use std::{cell::LazyCell, collections::HashMap, sync::Arc};

use moka::future::Cache;
use serde_json::Value;
use sqlx::PgConnection;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

use crate::{
    db::TenantPool,
    event_types::{self, Catalogue, PayloadSchema},
    filters::{Filter, Subject},
    format_book::FormatBook,
    formats::Format,
    locations::{Channel, LocationRef},
    types::{
        EndpointId, LocationId, TenantId,
        event_type::{EventType, Pattern},
    },
    web::ApiError,
};

/// Locations whose tables are remembered.
const CACHE_ENTRIES: u64 = 50_000;
/// Filters that are remembered compiled, whichever tables they are in.
const FILTERS_COMPILED: u64 = 20_000;

/// Everything that decides about a publish to one location, as of one version.
pub struct Routing {
    pub location_id: LocationId,
    pub version: i64,
    pub catalogue: Catalogue,
    pub allow_unknown_event_types: bool,
    /// By event type, where the tenant has payloads validated.
    validators: HashMap<String, Arc<PayloadSchema>>,
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
    wanted: Vec<Wanted>,
}

/// A pattern with its condition.
struct Wanted {
    pattern: Pattern,
    /// `Err`: it was stored, and is none any more.
    filter: Option<Result<Arc<Filter>, String>>,
}

impl Wanted {
    fn outcome(&self, subject: &Subject) -> Result<bool, String> {
        match &self.filter {
            None => Ok(true),
            Some(Ok(filter)) => filter.matches(subject),
            Some(Err(why)) => Err(why.clone()),
        }
    }
}

/// Work that may take milliseconds (many filters on a large event), without keeping other tasks from this thread.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

/// What kept an event from an endpoint.
pub enum WhyNot {
    /// No subscription is for its type.
    EventType,
    /// The conditions of those that are say no.
    Filter,
    /// One of them could not be evaluated.
    FilterFailed(String),
}

impl Routed {
    /// Its subscriptions that are for this type.
    fn asking(&self, event_type: &EventType) -> impl Iterator<Item = &Wanted> {
        self.wanted.iter().filter(move |wanted| wanted.pattern.matches(event_type))
    }

    /// Publishing data that is no object would break its receiver.
    pub fn requires_object(&self) -> bool {
        self.format.as_ref().is_some_and(|format| format.requires_data_object())
    }
}

impl Routing {
    /// Who gets an event. `subject` is made only where a filter asks for it.
    pub fn matching(&self, event_type: &EventType, subject: impl FnOnce() -> Subject) -> Vec<&Routed> {
        let subject = LazyCell::new(subject);
        let gets = |endpoint: &&Routed| {
            let mut asked = endpoint.asking(event_type).peekable();
            // Whoever gets it without a condition needs no look at the event.
            asked.peek().is_some()
                && (endpoint.asking(event_type).any(|wanted| wanted.filter.is_none())
                    || asked.any(|wanted| wanted.outcome(&subject) == Ok(true)))
        };
        let has_filter =
            |endpoint: &Routed| endpoint.asking(event_type).any(|wanted| wanted.filter.is_some());
        let choose = || self.endpoints.iter().filter(gets).collect();
        if self.endpoints.iter().any(has_filter) { aside(choose) } else { choose() }
    }

    /// Why an endpoint would not get an event, as its subscriptions are in this table; `None` where it would.
    pub fn why_not(&self, endpoint: &Routed, event_type: &EventType, subject: &Subject) -> Option<WhyNot> {
        let outcomes: Vec<_> = endpoint.asking(event_type).map(|wanted| wanted.outcome(subject)).collect();
        if outcomes.contains(&Ok(true)) {
            return None;
        }
        let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        Some(match (failed, outcomes.is_empty()) {
            (_, true) => WhyNot::EventType,
            (Some(why), false) => WhyNot::FilterFailed(why.clone()),
            (None, false) => WhyNot::Filter,
        })
    }

    pub fn endpoints(&self) -> &[Routed] {
        &self.endpoints
    }

    /// What the type's schema says against this data: pointers into it, and why.
    pub async fn broken_rules(
        &self,
        event_type: &str,
        data: &str,
    ) -> Result<Vec<(String, String)>, ApiError> {
        let Some(schema) = self.validators.get(event_type).cloned() else { return Ok(Vec::new()) };
        let data = data.to_owned();
        let told = event_types::aside(move || match serde_json::from_str::<Value>(&data) {
            Ok(value) => schema.broken_rules(&value),
            Err(error) => vec![(String::new(), format!("can't be validated: {error}"))],
        });
        told.await.map_err(ApiError::internal)
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
    tenants: TenantPool,
    formats: FormatBook,
    by_location: Cache<(TenantId, Key), Arc<Routing>>,
    filters: Filters,
}

/// Compiled filters by their text: a table that is read anew has mostly the ones it had.
type Filters = moka::sync::Cache<String, Arc<Filter>>;

fn compiled(filters: &Filters, text: &str) -> Result<Arc<Filter>, String> {
    if let Some(filter) = filters.get(text) {
        return Ok(filter);
    }
    let filter = Arc::new(Filter::compile(text).map_err(|error| error.detail)?);
    filters.insert(text.to_owned(), Arc::clone(&filter));
    Ok(filter)
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
    pub fn new(tenants: TenantPool, formats: FormatBook) -> Self {
        Self {
            tenants,
            formats,
            by_location: Cache::new(CACHE_ENTRIES),
            filters: Filters::new(FILTERS_COMPILED),
        }
    }

    /// The table of a tenant's location, or `None` where it has no such location.
    pub async fn of(&self, tenant: TenantId, location: &LocationRef) -> sqlx::Result<Option<Arc<Routing>>> {
        let key = (tenant, Key::of(location));
        if let Some(known) = self.by_location.get(&key).await {
            return Ok(Some(known));
        }
        let mut db = self.tenants.begin(tenant).await?;
        let loaded = load(&mut db, &self.formats, &self.filters, tenant, location).await?.map(Arc::new);
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
    db: &mut PgConnection,
    formats: &FormatBook,
    filters: &Filters,
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
            coalesce(s.patterns, '{}') AS "patterns!", coalesce(s.filters, '{}') AS "filters!: Vec<Option<String>>"
        FROM locations l
        JOIN tenants t ON t.id = l.tenant_id
        LEFT JOIN endpoints e ON e.tenant_id = l.tenant_id AND e.location_id = l.id AND e.deleted_at IS NULL
        LEFT JOIN endpoint_health h ON h.shard = e.shard AND h.endpoint_id = e.id
        LEFT JOIN LATERAL (
            SELECT array_agg(s.event_type) AS patterns, array_agg(s.filter) AS filters FROM subscriptions s
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
    .fetch_all(&mut *db)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    // Read after the version: what is newer than it is found out by the statement that stores.
    let Some(catalogue) = event_types::load(&mut *db, tenant).await? else {
        return Ok(None);
    };
    let mut validators = HashMap::new();
    if first.validate_payloads {
        let schemas: Vec<_> =
            catalogue.schemas().map(|(name, schema)| (name.to_owned(), schema.clone())).collect();
        let compiled = move || {
            let compiled = |(name, schema)| Some((name, Arc::new(PayloadSchema::compile(&schema).ok()?)));
            schemas.into_iter().filter_map(compiled).collect()
        };
        validators = event_types::aside(compiled).await.map_err(|_| sqlx::Error::WorkerCrashed)?;
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
    let formats = formats.of(db, rows.iter().filter_map(|row| row.format_version)).await?;
    for row in &rows {
        if let (Some(endpoint_id), Some(format_version)) = (row.endpoint_id, row.format_version) {
            let subscriptions = row.patterns.iter().zip(&row.filters);
            let wanted = subscriptions.filter_map(|(pattern, filter)| {
                let pattern = Pattern::parse(pattern.as_str()).ok()?;
                Some(Wanted { pattern, filter: filter.as_deref().map(|text| compiled(filters, text)) })
            });
            let wanted = wanted.collect();
            routing.endpoints.push(Routed {
                endpoint_id,
                format_version,
                format: formats.get(&format_version).cloned(),
                held: row.held,
                wanted,
            });
        }
    }
    Ok(Some(routing))
}
