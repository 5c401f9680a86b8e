//! What is deleted goes in pieces. Nobody adds to it any more when these are called.

use sqlx::PgConnection;

use crate::types::{EndpointId, LocationId};

/// Rows of each table that one statement deletes.
const SOME: i64 = 5_000;

/// Deletes some of the history of an endpoint. False once nothing is left of it.
pub async fn history(db: &mut PgConnection, endpoint: EndpointId) -> sqlx::Result<bool> {
    let rows = sqlx::query_scalar!(
        r#"
        WITH q AS (DELETE FROM queue t WHERE t.shard = $1 AND t.endpoint_id = $2 AND t.event_id IN (
                SELECT event_id FROM queue WHERE shard = $1 AND endpoint_id = $2 LIMIT $3) RETURNING 1),
        s AS (DELETE FROM settled t WHERE t.shard = $1 AND t.endpoint_id = $2 AND t.event_id IN (
                SELECT event_id FROM settled WHERE shard = $1 AND endpoint_id = $2 LIMIT $3) RETURNING 1),
        a AS (DELETE FROM attempts t WHERE t.shard = $1 AND t.endpoint_id = $2 AND t.event_id IN (
                SELECT event_id FROM attempts WHERE shard = $1 AND endpoint_id = $2 LIMIT $3) RETURNING 1)
        SELECT (SELECT count(*) FROM q) + (SELECT count(*) FROM s) + (SELECT count(*) FROM a) AS "rows!"
        "#,
        endpoint.shard().column(),
        endpoint.uuid(),
        SOME
    )
    .fetch_one(&mut *db)
    .await?;
    if rows > 0 {
        return Ok(true);
    }
    let (shard, id) = (endpoint.shard().column(), endpoint.uuid());
    sqlx::query!("DELETE FROM endpoint_stats WHERE shard = $1 AND endpoint_id = $2", shard, id)
        .execute(&mut *db)
        .await?;
    sqlx::query!("DELETE FROM notices WHERE shard = $1 AND endpoint_id = $2", shard, id)
        .execute(&mut *db)
        .await?;
    sqlx::query!("DELETE FROM endpoint_health WHERE shard = $1 AND endpoint_id = $2", shard, id)
        .execute(db)
        .await?;
    Ok(false)
}

/// Deletes some of the events of a location. False once nothing is left of them.
pub async fn events(db: &mut PgConnection, location: LocationId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "DELETE FROM events t WHERE t.shard = $1 AND t.id IN (
             SELECT e.id FROM events e WHERE e.shard = $1 AND e.location_id = $2 LIMIT $3)",
        location.shard().column(),
        location.uuid(),
        SOME
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}
