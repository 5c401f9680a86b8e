//! SQL of the subscriptions.

use sqlx::{PgConnection, PgExecutor};

use crate::types::{EndpointId, TenantId, Timestamp, event_type::Pattern};

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
