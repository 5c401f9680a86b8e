//! What Postgres did for each statement of the program, as `auto_explain` tells it to the session that ran it.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
};

use super::sql::Sql;

/// Where sqlx tells what Postgres says besides its answers.
const NOTICES: &str = "sqlx::postgres::notice";

/// A statement and its plan.
pub struct Explained {
    pub statement: String,
    plan: Value,
}

/// Collects plans from the thread that made it, for as long as it lives.
pub struct Explainer {
    told: Arc<Mutex<Vec<String>>>,
    _guard: tracing::subscriber::DefaultGuard,
}

struct Listener(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Listener {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == NOTICES
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Message(&self.0));
    }
}

struct Message<'a>(&'a Mutex<Vec<String>>);

impl Visit for Message<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

impl Explainer {
    /// Every connection that is made to this database from now on explains what it runs.
    pub async fn on(sql: &mut Sql) -> Self {
        let database: String =
            sqlx::query_scalar("SELECT current_database()::text").fetch_one(&mut sql.0).await.unwrap();
        for setting in [
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_analyze = on",
            "auto_explain.log_buffers = on",
            "auto_explain.log_timing = off",
            "auto_explain.log_format = json",
            "client_min_messages = log",
        ] {
            sql.run(&format!("ALTER DATABASE {database} SET {setting}")).await;
        }
        let told = Arc::default();
        let subscriber = Registry::default().with(Listener(Arc::clone(&told)));
        Self { told, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// What was run since the last time.
    pub fn take(&self) -> Vec<Explained> {
        let explained = |text: String| {
            let plan: Value = serde_json::from_str(text.split_once("plan:")?.1).expect("a plan in JSON");
            Some(Explained {
                statement: plan["Query Text"].as_str().unwrap().to_owned(),
                plan: plan["Plan"].clone(),
            })
        };
        std::mem::take(&mut *self.told.lock().unwrap()).into_iter().filter_map(explained).collect()
    }
}

impl Explained {
    /// Pages of 8 KiB that it looked at, in memory or on disk.
    pub fn buffers(&self) -> i64 {
        ["Shared Hit Blocks", "Shared Read Blocks"]
            .iter()
            .map(|name| self.plan[name].as_i64().unwrap_or(0))
            .sum()
    }

    /// Rows of this table that its scans gave to the rest of the plan.
    pub fn rows_of(&self, table: &str) -> i64 {
        rows_of(&self.plan, table)
    }

    /// Tables that it read from end to end.
    pub fn scanned(&self) -> Vec<String> {
        let mut found = Vec::new();
        scans(&self.plan, &mut found);
        found
    }
}

fn scans(node: &Value, found: &mut Vec<String>) {
    let is_run = node["Actual Loops"].as_f64().unwrap_or(0.0) > 0.0;
    if is_run && matches!(node["Node Type"].as_str(), Some("Seq Scan" | "Bitmap Heap Scan")) {
        found.push(node["Relation Name"].as_str().unwrap_or_default().to_owned());
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        scans(child, found);
    }
}

fn rows_of(node: &Value, table: &str) -> i64 {
    // A change of the table names it too; only what reads it has a way to do so.
    let is_scan = node["Node Type"].as_str().is_some_and(|kind| kind.ends_with("Scan"));
    let own = if is_scan && node["Relation Name"] == table {
        // An average over the loops, rounded by some versions.
        let rows = node["Actual Rows"].as_f64().unwrap_or(0.0)
            + node["Rows Removed by Filter"].as_f64().unwrap_or(0.0);
        (rows * node["Actual Loops"].as_f64().unwrap_or(0.0)).round() as i64
    } else {
        0
    };
    own + node["Plans"].as_array().into_iter().flatten().map(|child| rows_of(child, table)).sum::<i64>()
}
