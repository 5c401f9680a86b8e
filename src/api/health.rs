//! Whether the process lives, and whether it can work.

use std::time::Duration;

use axum::extract::State;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::Context,
    web::{ApiError, Json},
};

/// All is well.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    #[schema(examples("ok"))]
    status: &'static str,
    /// Posthaste's own.
    #[schema(examples("0.1.0"))]
    version: &'static str,
}

/// How long Postgres may take to answer a process that calls itself ready.
const READY_WITHIN: Duration = Duration::from_secs(3);

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Tell whether the process runs
#[utoipa::path(get, path = "/healthz", operation_id = "healthz", tag = "Service",
    responses((status = 200, description = "It runs.", body = Health)))]
async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Tell whether the process can work
///
/// Postgres answers, and its schema is this program's (or a later one's).
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "Service", responses(
    (status = 200, description = "It can.", body = Health),
    (status = 503, description = "Postgres is away, or its migrations are missing.")))]
async fn readyz(State(context): State<Context>) -> Result<Json<Health>, ApiError> {
    let is_migrated = timeout(READY_WITHIN, context.is_migrated())
        .await
        .map_err(|_| ApiError::Unavailable("Postgres does not answer".into()))?
        .map_err(|error| ApiError::Unavailable(error.to_string().into()))?;
    if is_migrated { Ok(Json(OK)) } else { Err(ApiError::Unavailable("migrations are missing".into())) }
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz))
}
