//! SQL of the endpoints.

mod changes;
mod format_users;
mod locks;
mod subscriptions;

use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

pub use self::{
    changes::{insert, pause, resume, tombstone, touch, unthrottle, update},
    format_users::{FormatUser, adopt_format, user_of_format, users_of_format},
    locks::{lock, lock_location, lock_locations, lock_tenant},
    subscriptions::{
        SubscriptionRow, delete_subscription, filters_beside, put_subscription, set_patterns, subscriptions,
    },
};
use crate::{
    event_types::{self, Catalogue},
    types::{
        EndpointId, LocationId, TenantId, Timestamp,
        event_type::{OPERATIONAL_PREFIX, Pattern},
    },
    web::page::Keyset,
};

/// Most endpoints of a tenant.
pub const ENDPOINTS_MAX: i64 = 1_000;
/// Where the count of waiting deliveries stops: counting a backlog of millions would cost what reading it does.
pub const PENDING_COUNT_MAX: i64 = 10_000;

/// What decides about a tenant's endpoints.
pub struct TenantSettings {
    pub catalogue: Catalogue,
    pub allow_unknown_event_types: bool,
    /// The tenant's own choice.
    pub format: Option<String>,
}

impl TenantSettings {
    /// The wire format of an endpoint that names none.
    pub fn default_format(&self) -> &str {
        self.format.as_deref().unwrap_or(&self.catalogue.preset.format.name)
    }
}

pub async fn tenant_settings(
    db: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Option<TenantSettings>> {
    let Some(catalogue) = event_types::load(&mut *db, tenant).await? else { return Ok(None) };
    let row =
        sqlx::query!("SELECT allow_unknown_event_types, format FROM tenants WHERE id = $1", tenant.uuid())
            .fetch_optional(&mut *db)
            .await?;
    Ok(row.map(|row| {
        let (allow_unknown_event_types, format) = (row.allow_unknown_event_types, row.format);
        TenantSettings { catalogue, allow_unknown_event_types, format }
    }))
}

/// An endpoint as it is stored.
#[derive(Debug)]
pub struct Stored {
    pub id: EndpointId,
    pub location_id: LocationId,
    pub name: String,
    pub url: String,
    pub event_types: Vec<String>,
    pub rate_limit_per_s: Option<i32>,
    pub max_in_flight: i32,
    pub format: String,
    pub format_version: i32,
    pub headers_sealed: Option<Vec<u8>>,
    pub client_certificate: Option<String>,
    pub timeout_ms: Option<i32>,
    pub retry_schedule_s: Option<Vec<i32>>,
    pub metadata: Value,
    pub version: i32,
    pub paused_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub failing_since: Option<Timestamp>,
    pub disabled_at: Option<Timestamp>,
    pub disabled_reason: Option<String>,
    pub last_success_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub throttled_until: Option<Timestamp>,
    pub pending_count: i64,
}

/// Which endpoints a list shows.
#[derive(Default)]
pub struct Filter {
    pub location: Option<LocationId>,
    /// In the URL or the name, whatever the case.
    pub text: Option<String>,
    pub status: Option<&'static str>,
    /// Those that get all of it: a pattern covers itself and what is narrower.
    pub event_type: Option<Pattern>,
}

/// One endpoint, or a page of them. Endpoints of a tenant are few: they are filtered while they are read in order.
async fn select(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: Option<EndpointId>,
    filter: &Filter,
    page: Option<Keyset>,
) -> sqlx::Result<Vec<Stored>> {
    let (backwards, edge, fetch) =
        page.map_or((false, Uuid::max(), 1), |page| (page.backwards, page.edge, page.fetch()));
    sqlx::query_as!(
        Stored,
        r#"
        WITH matching AS (
            SELECT e.*, h.failing_since, h.disabled_at, h.disabled_reason, h.last_success_at, h.last_failure_at, h.last_error,
                h.throttled_until,
                (SELECT array_agg(s.event_type ORDER BY s.event_type) FROM subscriptions s
                 WHERE s.tenant_id = e.tenant_id AND s.endpoint_id = e.id) AS event_types
            FROM endpoints e
            JOIN endpoint_health h ON h.shard = e.shard AND h.endpoint_id = e.id
            WHERE e.tenant_id = $1 AND e.deleted_at IS NULL
                AND ($2::uuid IS NULL OR e.id = $2)
                AND ($3::uuid IS NULL OR e.location_id = $3)
                AND ($4::text IS NULL OR strpos(lower(e.url), lower($4)) > 0 OR strpos(lower(e.name), lower($4)) > 0)
                AND ($5::text IS NULL OR $5 = CASE WHEN e.paused_at IS NOT NULL THEN 'paused'
                    WHEN h.disabled_at IS NOT NULL THEN 'disabled' WHEN h.failing_since IS NOT NULL THEN 'failing' ELSE 'active' END)
                AND ($6::text IS NULL OR EXISTS (SELECT 1 FROM subscriptions s
                    WHERE s.tenant_id = e.tenant_id AND s.endpoint_id = e.id AND (s.event_type = $6
                        OR s.event_type = '*' AND NOT starts_with($6, $11)
                        OR s.event_type LIKE '%.*' AND starts_with($6, left(s.event_type, -1)))))
        ), page AS (
            (SELECT * FROM matching m WHERE NOT $7 AND m.id < $8 ORDER BY m.id DESC LIMIT $9)
            UNION ALL
            (SELECT * FROM matching m WHERE $7 AND m.id > $8 ORDER BY m.id LIMIT $9)
        )
        SELECT p.id AS "id!: EndpointId", p.location_id AS "location_id!: LocationId", p.name AS "name!", p.url AS "url!",
            coalesce(p.event_types, '{}') AS "event_types!", p.rate_limit_per_s, p.max_in_flight AS "max_in_flight!",
            p.format AS "format!", p.format_version AS "format_version!", p.headers_sealed, p.client_certificate, p.timeout_ms, p.retry_schedule_s, p.metadata AS "metadata!",
            p.version AS "version!", p.paused_at AS "paused_at: Timestamp", p.created_at AS "created_at!: Timestamp",
            p.updated_at AS "updated_at!: Timestamp", p.failing_since AS "failing_since: Timestamp",
            p.disabled_at AS "disabled_at: Timestamp", p.disabled_reason, p.last_success_at AS "last_success_at: Timestamp",
            p.last_failure_at AS "last_failure_at: Timestamp", p.last_error,
            p.throttled_until AS "throttled_until: Timestamp",
            (SELECT count(*) FROM (SELECT 1 FROM queue q WHERE q.shard = p.shard AND q.endpoint_id = p.id LIMIT $10) waiting)
                AS "pending_count!"
        FROM page p ORDER BY p.id DESC
        "#,
        tenant.uuid(),
        id.map(EndpointId::uuid),
        filter.location.map(LocationId::uuid),
        filter.text,
        filter.status,
        filter.event_type.as_ref().map(Pattern::as_str),
        backwards,
        edge,
        fetch,
        PENDING_COUNT_MAX,
        OPERATIONAL_PREFIX
    )
    .fetch_all(db)
    .await
}

pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: EndpointId) -> sqlx::Result<Option<Stored>> {
    Ok(select(db, tenant, Some(id), &Filter::default(), None).await?.pop())
}

pub async fn page(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    filter: &Filter,
    page: Keyset,
) -> sqlx::Result<Vec<Stored>> {
    select(db, tenant, None, filter, Some(page)).await
}

/// Endpoints of the tenant: those active or failing, and all.
pub async fn counts(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<(i64, i64)> {
    let row = sqlx::query!(
        r#"SELECT count(*) FILTER (WHERE e.paused_at IS NULL AND h.disabled_at IS NULL) AS "active!", count(*) AS "total!"
           FROM endpoints e JOIN endpoint_health h ON h.shard = e.shard AND h.endpoint_id = e.id
           WHERE e.tenant_id = $1 AND e.deleted_at IS NULL"#,
        tenant.uuid()
    )
    .fetch_one(db)
    .await?;
    Ok((row.active, row.total))
}

/// The wire format that new deliveries to the endpoint get.
pub async fn format_version(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<Option<i32>> {
    sqlx::query_scalar!(
        "SELECT format_version FROM endpoints WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL",
        tenant.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}
