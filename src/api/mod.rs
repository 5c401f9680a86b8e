//! The HTTP API: the features' routers under one roof, and what says how the process is.

mod health;

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, Method},
    middleware,
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    compression::{CompressionLayer, predicate::SizeAbove},
    cors::{AllowOrigin, CorsLayer},
};

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
        json::BODY_MAX_BYTES,
        rate_limit::{self, RateLimit},
        request,
    },
    wire_formats,
};

/// How the API treats its callers.
pub struct Manners {
    /// Origins that browsers may call from; `*` is all of them.
    pub cors_origins: Vec<HeaderValue>,
    /// Of one key; 0 is no limit.
    pub rate_limit_per_s: u32,
}

/// Answers from this size on are compressed, for callers that take it.
const COMPRESS_FROM_BYTES: u64 = 1_024;
/// How long a browser may remember what a preflight told it.
const CORS_MAX_AGE: Duration = Duration::from_secs(3_600);

/// Every route there is.
pub fn router(context: &Context, events: EventsState, tester: &Tester, manners: &Manners) -> Router {
    Router::new()
        .merge(tenants::router(context.clone()))
        .merge(locations::router(context.clone()))
        .merge(endpoints::router(tester.clone()))
        .merge(event_types::router(context.clone()))
        .merge(events::router(events))
        .merge(wire_formats::router(context.clone()))
        .merge(deliveries::router(context))
        .merge(deliveries::test_router(tester.clone()))
        .merge(jobs::router(context.clone()))
        .merge(audit::router(context.clone()))
        .merge(health::router(context.clone()))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(middleware::from_fn_with_state(RateLimit::new(manners.rate_limit_per_s), rate_limit::layer))
        .layer(CatchPanicLayer::custom(|_| {
            use axum::response::IntoResponse;
            ApiError::internal("a handler panicked").into_response()
        }))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn(request::layer))
        .layer(CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM_BYTES)))
        .layer(cors(&manners.cors_origins))
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
