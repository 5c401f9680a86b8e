//! Waiting for what the database holds.

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Duration, MissedTickBehavior, interval, timeout};

use super::client::PATIENCE;

const LOOK_EVERY: Duration = Duration::from_millis(15);

/// Hours of endpoints whose statistics are not what is found by counting the rows.
pub const UNTRUE_STATS: &str = "
    WITH ended AS (
        SELECT s.endpoint_id, s.event_id, s.status FROM settled s
        UNION ALL
        SELECT DISTINCT a.endpoint_id, a.event_id, 'succeeded' FROM attempts a
        WHERE a.succeeded AND a.cause <> 3
            AND NOT EXISTS (SELECT 1 FROM queue q WHERE (q.shard, q.endpoint_id, q.event_id) = (a.shard, a.endpoint_id, a.event_id))
            AND NOT EXISTS (SELECT 1 FROM settled s WHERE (s.shard, s.endpoint_id, s.event_id) = (a.shard, a.endpoint_id, a.event_id))
    ), counted AS (
        SELECT e.endpoint_id, ('x' || left(replace(e.event_id::text, '-', ''), 12))::bit(48)::bigint / 3600000 AS hour,
            count(*) FILTER (WHERE e.status = 'succeeded') AS succeeded, count(*) FILTER (WHERE e.status = 'failed') AS failed,
            count(*) FILTER (WHERE e.status = 'canceled') AS canceled
        FROM ended e GROUP BY 1, 2
    ), told AS (
        SELECT s.endpoint_id, ('x' || left(replace(s.hour::text, '-', ''), 12))::bit(48)::bigint / 3600000 AS hour,
            s.succeeded, s.failed, s.canceled
        FROM endpoint_stats s WHERE (s.succeeded, s.failed, s.canceled) <> (0, 0, 0)
    )
    SELECT count(*) FROM counted c FULL JOIN told t USING (endpoint_id, hour)
    WHERE (c.succeeded, c.failed, c.canceled) IS DISTINCT FROM (t.succeeded::bigint, t.failed::bigint, t.canceled::bigint)";

/// A look into the database, aside from the program.
pub struct Sql(pub PgConnection);

impl Sql {
    pub async fn open(database: &PgConnectOptions) -> Self {
        Self(database.connect().await.expect("a connection"))
    }

    /// The one number that the query answers.
    pub async fn count(&mut self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut self.0).await.expect(query)
    }

    /// Waits until the query answers this number.
    pub async fn until(&mut self, query: &str, number: i64) {
        let mut last = None;
        let waiting = async {
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while last != Some(number) {
                looks.tick().await;
                last = Some(self.count(query).await);
            }
        };
        let done = timeout(PATIENCE, waiting).await;
        assert!(done.is_ok(), "{query} is {last:?}, not {number}");
    }

    pub async fn run(&mut self, statement: &str) {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut self.0).await.expect(statement);
    }
}
