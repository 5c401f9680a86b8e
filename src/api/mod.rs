//! The HTTP API: the features' routers under one roof, and what says how the process is.

mod health;
pub mod metrics;
mod query;
pub mod reference;
pub mod serve;

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method},
    middleware,
    response::IntoResponse,
};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::{AllowOrigin, CorsLayer},
    decompression::RequestDecompressionLayer,
};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    audit,
    auth::Context,
    deliveries,
    endpoints::{self, Tester},
    event_types,
    events::{self, EventsState},
    jobs, locations, tenants,
    web::{
        ApiError,
        failed_auth::{self, FailedAuth},
        json::BODY_MAX_BYTES,
        rate_limit::{self, RateLimit},
        request,
    },
    whatsable, wire_formats,
};

/// How the API treats its callers.
pub struct Manners {
    /// Origins that browsers may call from; `*` is all of them.
    pub cors_origins: Vec<HeaderValue>,
    /// Of one key; 0 is no limit.
    pub rate_limit_per_s: u32,
    /// `/metrics` has a listener of its own.
    pub metrics_elsewhere: bool,
}

/// Answers from this size on are compressed, for callers that take it.
const COMPRESS_FROM_BYTES: u64 = 1_024;
/// How long a browser may remember what a preflight told it.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// What the handlers are given, by what they need.
struct Routers {
    of_context: Router<Context>,
    of_events: Router<EventsState>,
    of_tester: Router<Tester>,
    of_nothing: Router,
}

/// Every route there is, with what the reference says of it. `routes!` is the one way to add one.
fn routes() -> (Routers, OpenApi) {
    let (of_context, mut document) = OpenApiRouter::default()
        .merge(tenants::router())
        .merge(locations::router())
        .merge(event_types::router())
        .merge(wire_formats::router())
        .merge(deliveries::router())
        .merge(jobs::router())
        .merge(audit::router())
        .merge(whatsable::router())
        .merge(health::router())
        .merge(reference::router())
        .split_for_parts();
    let (of_events, of_them) = events::router().split_for_parts();
    document.merge(of_them);
    let (of_tester, of_them) = OpenApiRouter::default()
        .merge(endpoints::router())
        .merge(deliveries::test_router())
        .split_for_parts();
    document.merge(of_them);
    let (of_nothing, of_them) = metrics::router().split_for_parts();
    document.merge(of_them);
    (Routers { of_context, of_events, of_tester, of_nothing }, document)
}

/// The API as it is served.
pub fn router(context: &Context, events: EventsState, tester: &Tester, manners: &Manners) -> Router {
    let (Routers { of_context, of_events, of_tester, of_nothing }, _) = routes();
    let metrics = if manners.metrics_elsewhere { Router::new() } else { of_nothing };
    // The outermost first. All are one layer of the router, which boxes every request's future once a layer.
    let layers = ServiceBuilder::new()
        .layer(cors(&manners.cors_origins))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM_BYTES)))
        .layer(middleware::from_fn(request::layer))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(CatchPanicLayer::custom(|_| ApiError::internal("a handler panicked").into_response()))
        .layer(middleware::from_fn_with_state(RateLimit::new(manners.rate_limit_per_s), rate_limit::layer))
        .layer(middleware::from_fn_with_state(FailedAuth::default(), failed_auth::layer))
        .layer(middleware::from_fn(query::refuse_unasked))
        // Limits of bodies count what comes out of it. Other encodings are refused where bodies are read.
        .layer(RequestDecompressionLayer::new().pass_through_unaccepted(true));
    of_context
        .with_state(context.clone())
        .merge(of_events.with_state(events))
        .merge(of_tester.with_state(tester.clone()))
        .merge(metrics)
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(layers)
}

/// Keys travel in a header, never in a cookie, so no credentials are allowed for.
fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let origins = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.to_vec())
    };
    let exposed =
        ["etag", "x-request-id", "idempotent-replayed", "retry-after", "ratelimit", "ratelimit-policy"];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(
            [
                "authorization",
                "content-type",
                "idempotency-key",
                "if-match",
                "posthaste-tenant",
                "x-request-id",
            ]
            .map(HeaderName::from_static),
        )
        .expose_headers(exposed.map(HeaderName::from_static))
        .max_age(CORS_MAX_AGE)
}
