//! Notices: what tenants are to be told about their endpoints, between what happened and its operational events.
//!
//! The finish writes them with what they are about; see `finish.rs`.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::types::{EndpointId, EventId, LocationId, TenantId, Timestamp};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    Failing,
    Recovered,
    Disabled,
    Exhausted,
}

impl NoticeKind {
    const ALL: [(&'static str, Self); 4] = [
        ("failing", Self::Failing),
        ("recovered", Self::Recovered),
        ("disabled", Self::Disabled),
        ("exhausted", Self::Exhausted),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Notice {
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    /// `None`: about the endpoint.
    pub event_id: Option<EventId>,
    pub kind: NoticeKind,
    pub at: Timestamp,
}

/// Takes some out, for good if the transaction commits. Nobody else gets them meanwhile.
pub async fn take(db: &mut PgConnection, some: i64) -> sqlx::Result<Vec<Notice>> {
    let rows = sqlx::query!(
        r#"
        DELETE FROM notices n USING (
            SELECT s.shard, s.endpoint_id, s.event_id, s.kind, s.at FROM notices s LIMIT $1 FOR UPDATE SKIP LOCKED
        ) t
        WHERE n.shard = t.shard AND n.endpoint_id = t.endpoint_id AND n.event_id = t.event_id AND n.kind = t.kind AND n.at = t.at
        RETURNING n.tenant_id AS "tenant_id: TenantId", n.endpoint_id AS "endpoint_id: EndpointId", n.event_id, n.kind,
            n.at AS "at: Timestamp"
        "#,
        some
    )
    .fetch_all(db)
    .await?;
    let mut notices: Vec<Notice> = rows
        .into_iter()
        .filter_map(|row| {
            Some(Notice {
                tenant_id: row.tenant_id,
                endpoint_id: row.endpoint_id,
                event_id: Some(row.event_id).filter(|id| !id.is_nil()).map(EventId::from_uuid),
                kind: NoticeKind::parse(&row.kind)?,
                at: row.at,
            })
        })
        .collect();
    notices.sort_unstable_by_key(|notice| notice.at);
    Ok(notices)
}

/// An endpoint was disabled, by something else than a finish.
pub async fn disabled(db: impl PgExecutor<'_>, endpoints: &[EndpointId]) -> sqlx::Result<()> {
    let shards: Vec<i32> = endpoints.iter().map(|id| id.shard().column()).collect();
    let ids: Vec<Uuid> = endpoints.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        r#"
        INSERT INTO notices AS t (shard, endpoint_id, event_id, kind, tenant_id, at)
        SELECT h.shard, h.endpoint_id, '00000000-0000-0000-0000-000000000000'::uuid, 'disabled', h.tenant_id, h.disabled_at
        FROM unnest($1::int[], $2::uuid[]) AS d(shard, endpoint_id)
        JOIN endpoint_health h ON h.shard = d.shard AND h.endpoint_id = d.endpoint_id
        WHERE EXISTS (SELECT 1 FROM subscriptions s WHERE s.tenant_id = h.tenant_id AND starts_with(s.event_type, 'posthaste.'))
        ON CONFLICT DO NOTHING
        "#,
        &shards,
        &ids
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Locations of the tenant with an endpoint that subscribes to anything operational.
pub async fn audience(db: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<Vec<LocationId>> {
    sqlx::query_scalar!(
        r#"SELECT DISTINCT e.location_id AS "location_id!: LocationId"
           FROM subscriptions s JOIN endpoints e ON e.tenant_id = s.tenant_id AND e.id = s.endpoint_id AND e.deleted_at IS NULL
           WHERE s.tenant_id = $1 AND starts_with(s.event_type, 'posthaste.')"#,
        tenant.uuid()
    )
    .fetch_all(db)
    .await
}
