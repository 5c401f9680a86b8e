//! The outermost layer: gives every request an id, writes the body of every error, logs each request once.
//!
//! Never logs a body, a header or a query: they hold secrets and other people's messages.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use uuid::Uuid;

use super::error::{ApiError, Problem};
use crate::telemetry::metrics::metrics;

/// Longest `X-Request-Id` that is taken over from a caller.
const REQUEST_ID_MAX_BYTES: usize = 128;
/// Longest that a caller waits, a test event's time-out and slow uploads included. A database that hangs ends here: one that is away
/// is told at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const REQUEST_ID: &str = "x-request-id";
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The id under which a request is found in answers, logs and the audit log.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    fn of(request: &Request) -> Self {
        let given = request.headers().get(REQUEST_ID);
        let usable = |value: &&HeaderValue| {
            (1..=REQUEST_ID_MAX_BYTES).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let made = || HeaderValue::try_from(format!("req_{}", Uuid::now_v7())).ok();
        Self(given.filter(usable).cloned().or_else(made).unwrap_or(HeaderValue::from_static("req_unknown")))
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::internal("the request layer is missing"))
    }
}

/// Wraps the whole API; see the module.
pub async fn layer(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(&request);
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    request.extensions_mut().insert(id.clone());
    let mut response = match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%method, route, request_id = id.as_str(), "no answer in time");
            ApiError::Unanswered.into_response()
        }
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        response = write_problem(response, &id, &method, &route);
    }
    let took = started.elapsed();
    // Any word can be a method; those that routes have are few.
    let known = if METHODS.contains(&method) { method.as_str() } else { "other" };
    metrics().request(known, &route, response.status().as_u16(), took);
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(%method, route, status = response.status().as_u16(), duration_us, request_id = id.as_str(), "request");
    response.headers_mut().insert(REQUEST_ID, id.0);
    response
}

/// Errors of ours carry their problem; what axum or a layer refused is put into the same form.
fn write_problem(response: Response, id: &RequestId, method: &Method, route: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut problem = match parts.extensions.remove::<Problem>() {
        Some(problem) => problem,
        None if parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_JSON) => {
            return Response::from_parts(parts, body);
        }
        None => match foreign(parts.status).into_response().extensions_mut().remove::<Problem>() {
            Some(problem) => problem,
            None => return Response::from_parts(parts, body),
        },
    };
    if let Some(cause) = &problem.cause {
        tracing::error!(%method, route, request_id = id.as_str(), status = problem.status, cause = &**cause, "request failed");
    }
    problem.request_id = id.as_str().to_owned();
    let text = serde_json::to_vec(&problem).unwrap_or_default();
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(text))
}

const PROBLEM_JSON: &str = "application/problem+json";

fn foreign(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ApiError::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::TooLarge { limit_bytes: super::json::BODY_MAX_BYTES },
        status if status.is_client_error() => ApiError::Malformed("The request can't be read.".into()),
        status => ApiError::internal(format!("a layer answered {status}")),
    }
}
