//! Waiting for what the database holds.

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Duration, MissedTickBehavior, interval, timeout};

use super::client::PATIENCE;

const LOOK_EVERY: Duration = Duration::from_millis(15);

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
