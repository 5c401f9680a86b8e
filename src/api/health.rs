//! Whether the process lives, and whether it can work.

use axum::{Router, extract::State, routing::get};
use serde::Serialize;

use crate::{
    auth::Context,
    db::MIGRATOR,
    web::{ApiError, Json},
};

#[derive(Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// The process runs.
async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Postgres answers, and its schema is this program's (or a later one's).
async fn readyz(State(context): State<Context>) -> Result<Json<Health>, ApiError> {
    let applied = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM _sqlx_migrations WHERE success"#)
        .fetch_one(&context.pool)
        .await
        .map_err(|error| ApiError::Unavailable(error.to_string().into()))?;
    let known = i64::try_from(MIGRATOR.iter().count()).unwrap_or(i64::MAX);
    if applied >= known { Ok(Json(OK)) } else { Err(ApiError::Unavailable("migrations are missing".into())) }
}

pub fn router(context: Context) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(context)
}
