//! Statistics of an endpoint: what has ended as it was counted, what waits as it waits.

use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{endpoints::queries::PENDING_COUNT_MAX, types::EndpointId};

/// A part of what is in a bucket.
#[derive(Debug)]
pub struct Counted {
    /// Of the bucket, from 1.
    pub place: i32,
    pub succeeded: i32,
    pub failed: i32,
    pub canceled: i32,
    pub latency: Vec<i32>,
    pub pending: i64,
}

/// What there is from `first` to below `after_last`, by buckets that begin at `starts`. One statement sees each delivery once, on
/// whichever side of its end.
pub async fn counted(
    db: impl PgExecutor<'_>,
    endpoint: EndpointId,
    starts: &[Uuid],
    first: Uuid,
    after_last: Uuid,
) -> sqlx::Result<Vec<Counted>> {
    sqlx::query_as!(
        Counted,
        r#"
        SELECT width_bucket(s.hour, $3::uuid[]) AS "place!", s.succeeded AS "succeeded!", s.failed AS "failed!",
            s.canceled AS "canceled!", s.latency AS "latency!", 0::bigint AS "pending!"
        FROM endpoint_stats s WHERE s.shard = $1 AND s.endpoint_id = $2 AND s.hour >= $4 AND s.hour < $5
        UNION ALL
        SELECT width_bucket(w.event_id, $3::uuid[]), 0, 0, 0, '{}', count(*) FROM (
            SELECT q.event_id FROM queue q
            WHERE q.shard = $1 AND q.endpoint_id = $2 AND q.event_id >= $4 AND q.event_id < $5
            ORDER BY q.event_id DESC LIMIT $6
        ) w GROUP BY 1
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        starts,
        first,
        after_last,
        PENDING_COUNT_MAX
    )
    .fetch_all(db)
    .await
}
