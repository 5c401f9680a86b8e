//! What Prometheus scrapes.

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    middleware,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    telemetry::metrics::metrics,
    web::{ApiError, request},
};

type Typed = [(HeaderName, HeaderValue); 1];
const PROMETHEUS_TEXT: Typed =
    [(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"))];

/// Read the metrics of this process
///
/// In the text format of Prometheus; their names are told in `docs/metrics.md`. Not here, but on an address of its own, where the
/// operator has set one (`POSTHASTE_METRICS_LISTEN`).
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "Service", responses(
    (status = 200, description = "All of them.", content((String = "text/plain"))),
    (status = 404, description = "They are on an address of their own.")))]
async fn scrape() -> (Typed, String) {
    (PROMETHEUS_TEXT, metrics().render())
}

pub fn router() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(scrape))
}

/// The same as a server of its own, which has nothing else.
pub fn alone() -> Router {
    let (router, _) = router().split_for_parts();
    router.fallback(async || ApiError::NotFound).layer(middleware::from_fn(request::layer))
}
