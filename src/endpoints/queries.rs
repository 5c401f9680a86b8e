//! SQL of the endpoints.

use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::draft::Checked;
use crate::{
    event_types::{self, Catalogue},
    formats::Format,
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
}

impl TenantSettings {
    /// The wire format of an endpoint that names none.
    pub fn default_format(&self) -> &str {
        &self.catalogue.preset.format.name
    }
}

pub async fn tenant_settings(
    db: &mut PgConnection,
    tenant: TenantId,
) -> sqlx::Result<Option<TenantSettings>> {
    let Some(catalogue) = event_types::load(&mut *db, tenant).await? else { return Ok(None) };
    let allow =
        sqlx::query_scalar!("SELECT allow_unknown_event_types FROM tenants WHERE id = $1", tenant.uuid())
            .fetch_optional(&mut *db)
            .await?;
    Ok(allow.map(|allow_unknown_event_types| TenantSettings { catalogue, allow_unknown_event_types }))
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
            p.format AS "format!", p.format_version AS "format_version!", p.headers_sealed, p.timeout_ms, p.retry_schedule_s, p.metadata AS "metadata!",
            p.version AS "version!", p.paused_at AS "paused_at: Timestamp", p.created_at AS "created_at!: Timestamp",
            p.updated_at AS "updated_at!: Timestamp", p.failing_since AS "failing_since: Timestamp",
            p.disabled_at AS "disabled_at: Timestamp", p.disabled_reason, p.last_success_at AS "last_success_at: Timestamp",
            p.last_failure_at AS "last_failure_at: Timestamp", p.last_error,
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

/// Keeps the tenant from getting more endpoints until the transaction ends. False where there is no such tenant.
pub async fn lock_tenant(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<bool> {
    let row = sqlx::query!("SELECT 1 AS one FROM tenants WHERE id = $1 FOR NO KEY UPDATE", tenant.uuid());
    Ok(row.fetch_optional(db).await?.is_some())
}

/// Locks every location of the tenant, and so its endpoints, against changes. The tenant must be locked: that keeps it from
/// getting more of either.
pub async fn lock_locations(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query!(
        "SELECT 1 AS one FROM locations WHERE tenant_id = $1 ORDER BY id FOR NO KEY UPDATE",
        tenant.uuid()
    )
    .fetch_all(db)
    .await?;
    Ok(())
}

/// What of an endpoint a wire format must fit.
pub struct FormatUser {
    pub id: EndpointId,
    pub url: String,
    pub headers_sealed: Option<Vec<u8>>,
}

/// The endpoints with a wire format of this name.
pub async fn users_of_format(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    name: &str,
) -> sqlx::Result<Vec<FormatUser>> {
    sqlx::query_as!(
        FormatUser,
        r#"SELECT id AS "id: EndpointId", url, headers_sealed FROM endpoints
           WHERE tenant_id = $1 AND format = $2 AND deleted_at IS NULL ORDER BY id"#,
        tenant.uuid(),
        name
    )
    .fetch_all(db)
    .await
}

/// One of them.
pub async fn user_of_format(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    name: &str,
) -> sqlx::Result<Option<EndpointId>> {
    sqlx::query_scalar!(
        r#"SELECT id AS "id: EndpointId" FROM endpoints
           WHERE tenant_id = $1 AND format = $2 AND deleted_at IS NULL ORDER BY id LIMIT 1"#,
        tenant.uuid(),
        name
    )
    .fetch_optional(db)
    .await
}

/// Has the endpoints with this format use its new version from the next publish on. Nothing that an endpoint shows of
/// itself changes, so its version stays.
pub async fn adopt_format(db: impl PgExecutor<'_>, tenant: TenantId, format: &Format) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET format_version = $3 WHERE tenant_id = $1 AND format = $2 AND deleted_at IS NULL",
        tenant.uuid(),
        format.name,
        format.version.0
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locks the endpoint's location against changes. An endpoint stays in the location that it was made in.
pub async fn lock_location(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<Option<LocationId>> {
    sqlx::query_scalar!(
        r#"SELECT l.id AS "id: LocationId" FROM locations l
           WHERE l.tenant_id = $1 AND l.id = (SELECT e.location_id FROM endpoints e WHERE e.tenant_id = $1 AND e.id = $2)
           FOR NO KEY UPDATE OF l"#,
        tenant.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Whether the endpoint is there; locks it against changes until the transaction ends.
pub async fn lock(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<Option<(LocationId, i32)>> {
    let row = sqlx::query!(
        r#"SELECT location_id AS "location_id: LocationId", version FROM endpoints
           WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE"#,
        tenant.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.location_id, row.version)))
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

fn columns(values: Option<&Vec<u32>>) -> Option<Vec<i32>> {
    values.map(|values| values.iter().map(|value| signed(*value)).collect())
}

fn signed(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub async fn insert(
    db: &mut PgConnection,
    tenant: TenantId,
    location: LocationId,
    id: EndpointId,
    endpoint: &Checked,
    headers_sealed: Option<&[u8]>,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO endpoints (tenant_id, id, shard, location_id, name, url, format, format_version, rate_limit_per_s,
             max_in_flight, timeout_ms, retry_schedule_s, headers_sealed, metadata, created_at, updated_at, webhook_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15,
             (SELECT nextval('webhook_ids') FROM tenants t WHERE t.id = $1 AND t.preset = 'whatsable'))",
        tenant.uuid(),
        id.uuid(),
        id.shard().column(),
        location.uuid(),
        endpoint.name.as_str(),
        endpoint.url.as_str(),
        endpoint.format.name,
        endpoint.format.version.0,
        endpoint.rate_limit_per_s.map(signed),
        signed(endpoint.max_in_flight),
        endpoint.timeout_ms.map(signed),
        columns(endpoint.retry_schedule_s.as_ref()) as _,
        headers_sealed,
        endpoint.metadata,
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "INSERT INTO endpoint_health (shard, endpoint_id, tenant_id) VALUES ($1, $2, $3)",
        id.shard().column(),
        id.uuid(),
        tenant.uuid()
    )
    .execute(&mut *db)
    .await?;
    insert_version(db, tenant, id, now).await
}

/// Keeps what attempts of the current version are sent with.
async fn insert_version(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO endpoint_versions AS t (tenant_id, endpoint_id, version, url, headers_sealed, created_at)
         SELECT e.tenant_id, e.id, e.version, e.url, e.headers_sealed, $3 FROM endpoints e WHERE e.tenant_id = $1 AND e.id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn update(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    endpoint: &Checked,
    headers_sealed: Option<&[u8]>,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET name = $3, url = $4, format = $5, format_version = $6, rate_limit_per_s = $7, max_in_flight = $8,
             timeout_ms = $9, retry_schedule_s = $10, headers_sealed = $11, metadata = $12, updated_at = $13,
             version = version + 1
         WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        endpoint.name.as_str(),
        endpoint.url.as_str(),
        endpoint.format.name,
        endpoint.format.version.0,
        endpoint.rate_limit_per_s.map(signed),
        signed(endpoint.max_in_flight),
        endpoint.timeout_ms.map(signed),
        columns(endpoint.retry_schedule_s.as_ref()) as _,
        headers_sealed,
        endpoint.metadata,
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    insert_version(db, tenant, id, now).await
}

/// Counts the version up for a change that is not in the endpoint's own row.
pub async fn touch(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET version = version + 1, updated_at = $3 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    insert_version(db, tenant, id, now).await
}

/// Replaces the whole set. What stays in it keeps its filter.
pub async fn set_patterns(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    patterns: &[Pattern],
    now: Timestamp,
) -> sqlx::Result<()> {
    let texts: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
    sqlx::query!(
        "DELETE FROM subscriptions WHERE tenant_id = $1 AND endpoint_id = $2 AND event_type <> ALL($3::text[])",
        tenant.uuid(),
        id.uuid(),
        &texts as _
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "INSERT INTO subscriptions (tenant_id, endpoint_id, event_type, created_at)
         SELECT $1, $2, p.event_type, $4 FROM unnest($3::text[]) AS p(event_type) ON CONFLICT DO NOTHING",
        tenant.uuid(),
        id.uuid(),
        &texts as _,
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A pattern, and its filter if it has one.
pub struct SubscriptionRow {
    pub event_type: String,
    pub filter: Option<String>,
}

pub async fn subscriptions(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
) -> sqlx::Result<Vec<SubscriptionRow>> {
    sqlx::query_as!(
        SubscriptionRow,
        "SELECT event_type, filter FROM subscriptions WHERE tenant_id = $1 AND endpoint_id = $2 ORDER BY event_type",
        tenant.uuid(),
        id.uuid()
    )
    .fetch_all(db)
    .await
}

/// Adds a subscription, or gives the one that is there this filter.
pub async fn put_subscription(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
    pattern: &Pattern,
    filter: Option<&str>,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO subscriptions (tenant_id, endpoint_id, event_type, filter, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant_id, endpoint_id, event_type) DO UPDATE SET filter = excluded.filter",
        tenant.uuid(),
        id.uuid(),
        pattern.as_str(),
        filter,
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

pub async fn delete_subscription(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
    pattern: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "DELETE FROM subscriptions WHERE tenant_id = $1 AND endpoint_id = $2 AND event_type = $3",
        tenant.uuid(),
        id.uuid(),
        pattern
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Filters of all endpoints of the location that this one is in.
pub async fn filters_beside(db: impl PgExecutor<'_>, tenant: TenantId, id: EndpointId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM endpoints e
           JOIN subscriptions s ON s.tenant_id = e.tenant_id AND s.endpoint_id = e.id
           WHERE e.tenant_id = $1 AND e.deleted_at IS NULL AND s.filter IS NOT NULL
               AND e.location_id = (SELECT o.location_id FROM endpoints o WHERE o.tenant_id = $1 AND o.id = $2)"#,
        tenant.uuid(),
        id.uuid()
    )
    .fetch_one(db)
    .await
}

pub async fn pause(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET paused_at = coalesce(paused_at, $3), updated_at = $3, version = version + 1
         WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Ends a pause, and enables what was disabled.
pub async fn resume(
    db: &mut PgConnection,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET paused_at = NULL, updated_at = $3, version = version + 1 WHERE tenant_id = $1 AND id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        "UPDATE endpoint_health SET failing_since = CASE WHEN disabled_at IS NULL THEN failing_since END,
             disabled_at = NULL, disabled_reason = NULL
         WHERE shard = $1 AND endpoint_id = $2 AND tenant_id = $3",
        id.shard().column(),
        id.uuid(),
        tenant.uuid()
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Leaves a tombstone; see `endpoints.deleted_xid`.
pub async fn tombstone(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: EndpointId,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE endpoints SET deleted_at = $3, deleted_xid = x.id, version = version + 1
         FROM (SELECT pg_current_xact_id()::text::bigint AS id) x
         WHERE tenant_id = $1 AND endpoints.id = $2",
        tenant.uuid(),
        id.uuid(),
        now.datetime()
    )
    .execute(db)
    .await?;
    Ok(())
}
