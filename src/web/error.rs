//! What a caller is told when something can't be done: RFC 9457 problems.
//!
//! An [`ApiError`] becomes a response that carries its [`Problem`] as an extension; the outermost layer
//! ([`super::request`]) writes the body, since only it knows the request's id. Nothing of SQL or of our insides ever
//! reaches a caller: a 5xx is logged once, there, and answered with a fixed sentence.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::Answer;

/// One thing that is wrong with a request's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where it is: a JSON pointer (RFC 6901); the empty text is the whole body.
    #[schema(examples("/url"))]
    pub pointer: String,
    /// What is wrong with it, for people.
    #[schema(examples("must not be empty"))]
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Everything that can go wrong on the way to an answer.
#[derive(Clone, Debug)]
pub enum ApiError {
    /// 400: not JSON, or a bad query parameter, header or cursor.
    Malformed(Cow<'static, str>),
    /// 401
    Unauthorized(&'static str),
    /// 403
    Forbidden(String),
    /// 404: no such thing, or another tenant's.
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 409
    Conflict(Cow<'static, str>),
    /// 409: the same Idempotency-Key is being worked on.
    InFlight,
    /// 408: the body came too slowly.
    TooSlow { limit_s: u64 },
    /// 412
    PreconditionFailed,
    /// 413
    TooLarge { limit_bytes: usize },
    /// 415
    UnsupportedMediaType,
    /// 422 with pointers
    Invalid(Vec<FieldError>),
    /// 422: the same Idempotency-Key came with another body.
    KeyReused,
    /// 429: one key asks too often.
    TooManyRequests { retry_after_s: u64 },
    /// 429: too many requests without a good key came from one address.
    TooManyFailures { retry_after_s: u64 },
    /// 503: more is being published than there is memory for.
    Overloaded,
    /// 503: no answer in time, and so nobody knows what became of it.
    Unanswered,
    /// 503: Postgres or the pool is away; trying again helps.
    Unavailable(Arc<str>),
    /// No error at all: the request was answered before, and this is the answer. It ends a handler as errors do.
    Answered(Box<Answer>),
    /// 500: a fault of ours. The text goes to the log alone.
    Internal(Arc<str>),
}

/// How long a caller should wait when we are unavailable.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(1);

impl ApiError {
    /// One field is wrong.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }

    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self::Internal(error.to_string().into())
    }

    /// Stable word of the problem's type, status and title.
    fn kind(&self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Malformed(_) => ("malformed-request", StatusCode::BAD_REQUEST, "The request is malformed"),
            Self::Unauthorized(_) => {
                ("unauthorized", StatusCode::UNAUTHORIZED, "The request is not authenticated")
            }
            Self::Forbidden(_) => ("forbidden", StatusCode::FORBIDDEN, "The key may not do this"),
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is no such resource"),
            Self::MethodNotAllowed => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The resource has no such method")
            }
            Self::Conflict(_) => {
                ("conflict", StatusCode::CONFLICT, "The request conflicts with the resource's state")
            }
            Self::InFlight => (
                "idempotency-in-flight",
                StatusCode::CONFLICT,
                "A request with this Idempotency-Key is in flight",
            ),
            Self::PreconditionFailed => {
                ("precondition-failed", StatusCode::PRECONDITION_FAILED, "The resource has changed meanwhile")
            }
            Self::TooSlow { .. } => ("too-slow", StatusCode::REQUEST_TIMEOUT, "The request came too slowly"),
            Self::TooLarge { .. } => ("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The request is too large"),
            Self::UnsupportedMediaType => (
                "unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "The request body must be application/json, plain or gzip",
            ),
            Self::Invalid(_) => ("validation", StatusCode::UNPROCESSABLE_ENTITY, "The request is not valid"),
            Self::KeyReused => (
                "idempotency-key-reused",
                StatusCode::UNPROCESSABLE_ENTITY,
                "The Idempotency-Key was used with another request",
            ),
            Self::TooManyRequests { .. } => {
                ("too-many-requests", StatusCode::TOO_MANY_REQUESTS, "The key asks too often")
            }
            Self::TooManyFailures { .. } => (
                "too-many-failures",
                StatusCode::TOO_MANY_REQUESTS,
                "Too many requests from this address had no good key",
            ),
            Self::Overloaded => {
                ("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Too much is being published at once")
            }
            Self::Unavailable(_) | Self::Unanswered => {
                ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "Posthaste can't answer right now")
            }
            Self::Answered(_) | Self::Internal(_) => {
                ("internal", StatusCode::INTERNAL_SERVER_ERROR, "Posthaste failed")
            }
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed(detail) | Self::Conflict(detail) => detail.clone(),
            Self::Unauthorized(detail) => Cow::Borrowed(detail),
            Self::Forbidden(detail) => detail.clone().into(),
            Self::NotFound => "Nothing is known by this path and id, or it belongs to somebody else.".into(),
            Self::MethodNotAllowed => "See the API reference for the methods of this path.".into(),
            Self::InFlight => "Repeat the request when the first one has been answered.".into(),
            Self::PreconditionFailed => {
                "Read the resource again and repeat the change with its new ETag.".into()
            }
            Self::TooSlow { limit_s } => format!("The whole body must arrive within {limit_s} s.").into(),
            Self::TooLarge { limit_bytes } => {
                format!("The body may have at most {limit_bytes} bytes.").into()
            }
            Self::UnsupportedMediaType => "Send Content-Type: application/json, and no Content-Encoding but gzip.".into(),
            Self::Invalid(errors) => match errors.as_slice() {
                [one] if one.pointer.is_empty() => format!("The body {}.", one.detail).into(),
                [one] => format!("{} {}.", one.pointer, one.detail).into(),
                many => format!("{} fields are not valid.", many.len()).into(),
            },
            Self::KeyReused => "Use a new key for a new request.".into(),
            Self::TooManyRequests { retry_after_s } => format!("Ask again in {retry_after_s} s.").into(),
            Self::TooManyFailures { retry_after_s } => {
                format!("The API key is missing, unknown, revoked or expired. Ask again in {retry_after_s} s, or with a good key.").into()
            }
            Self::Overloaded | Self::Unavailable(_) => "Nothing was changed. Try again in a moment.".into(),
            Self::Unanswered => {
                "The database does not answer. Whether this was done is not known: repeat it with the same Idempotency-Key.".into()
            }
            Self::Answered(_) | Self::Internal(_) => {
                "This is our fault. Give the request_id to whoever runs Posthaste.".into()
            }
        }
    }
}

/// An error (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of error it is. Stable: programs can rely on it.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:posthaste:problem:[a-z-]+$", examples("urn:posthaste:problem:validation"))]
    pub kind: String,
    /// The kind, for people.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong this time, for people.
    pub detail: Cow<'static, str>,
    /// The fields that are wrong, all of them at once. Left out where it is not about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Names this request in the logs; the same as the header `X-Request-Id`. Written by the outermost layer.
    #[schema(examples("req_0193a1b2-c3d4-7e5f-8a6b-0123456789ab"))]
    pub request_id: String,
    /// For the log, never for the caller.
    #[serde(skip)]
    pub cause: Option<Arc<str>>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Answered(answer) = self {
            return answer.into_response();
        }
        let (word, status, title) = self.kind();
        let detail = self.detail();
        let (errors, cause) = match &self {
            Self::Invalid(errors) => (errors.clone(), None),
            Self::Unavailable(cause) | Self::Internal(cause) => (Vec::new(), Some(Arc::clone(cause))),
            _ => (Vec::new(), None),
        };
        let kind = format!("urn:posthaste:problem:{word}");
        let mut response = status.into_response();
        match self {
            Self::Unauthorized(_) => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::TooManyRequests { retry_after_s } | Self::TooManyFailures { retry_after_s } => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            Self::Overloaded | Self::Unavailable(_) | Self::Unanswered => {
                let seconds = HeaderValue::from(UNAVAILABLE_RETRY_AFTER.as_secs());
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
            _ => {}
        }
        response.extensions_mut().insert(Problem {
            kind,
            title,
            status: status.as_u16(),
            detail,
            errors,
            request_id: String::new(),
            cause,
        });
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if is_away(&error) { Self::Unavailable(error.to_string().into()) } else { Self::internal(error) }
    }
}

/// Whether trying again later can help: Postgres is away, starting, stopping, full, or a lock was not to be had.
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // Connection, resources, operator intervention, system error, rollback (deadlock), lock not available.
            ["08", "53", "57", "58", "40", "55P03", "3D000"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// Tells a broken constraint in the caller's terms.
pub trait OnConstraint<T> {
    fn on_constraint(self, name: &str, to: impl FnOnce() -> ApiError) -> Result<T, ApiError>;
}

impl<T> OnConstraint<T> for Result<T, sqlx::Error> {
    fn on_constraint(self, name: &str, to: impl FnOnce() -> ApiError) -> Result<T, ApiError> {
        self.map_err(|error| match &error {
            sqlx::Error::Database(database) if database.constraint() == Some(name) => to(),
            _ => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_ours_tells_the_caller_nothing_of_it() {
        let response = ApiError::internal("SELECT secret FROM vault").into_response();
        let problem = response.extensions().get::<Problem>().unwrap();
        assert!(!serde_json::to_string(problem).unwrap().contains("SELECT"));
        assert_eq!(response.status(), 500);
    }
}
