//! The HTTP API: the features' routers under one roof, and what says how the process is.

mod health;

use axum::{Router, extract::DefaultBodyLimit, middleware};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    audit,
    auth::Context,
    deliveries, endpoints, event_types,
    events::{self, EventsState},
    locations, tenants,
    web::{ApiError, json::BODY_MAX_BYTES, request},
};

/// Every route there is.
pub fn router(context: &Context, events: EventsState) -> Router {
    Router::new()
        .merge(tenants::router(context.clone()))
        .merge(locations::router(context.clone()))
        .merge(endpoints::router(context.clone()))
        .merge(event_types::router(context.clone()))
        .merge(events::router(events))
        .merge(deliveries::router(context.clone()))
        .merge(audit::router(context.clone()))
        .merge(health::router(context.clone()))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(CatchPanicLayer::custom(|_| {
            use axum::response::IntoResponse;
            ApiError::internal("a handler panicked").into_response()
        }))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn(request::layer))
}
