//! The reference as it is served: the document, and a page that shows it, with everything that it loads. Nothing comes from
//! elsewhere.

use std::sync::{Arc, LazyLock};

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Redirect, Response},
};
use bytes::Bytes;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, serve};

use super::document;
use crate::{
    auth::Context,
    web::{ApiError, Path},
};

/// The page runs its own scripts only, talks to this API only, and is shown in no other page. Its styles are partly inline.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));
static PAGE: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    // The validator is a service of others'.
    Arc::new(Config::from("/openapi.json").use_base_layout().validator_url("none").deep_linking(true))
});

type Typed = [(HeaderName, HeaderValue); 1];
const JSON: Typed = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];

/// Read this document
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "Service", responses(
    (status = 200, description = "The reference of this API, OpenAPI 3.1.", body = utoipa::openapi::Object)))]
async fn openapi() -> (Typed, Bytes) {
    (JSON, TEXT.clone())
}

/// Show this document
///
/// A page for people; it works without access to the Internet.
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "Service", responses(
    (status = 303, description = "To the page.", headers(("Location" = String, description = "`/docs/index.html`")))))]
async fn docs() -> Redirect {
    Redirect::to("/docs/index.html")
}

/// Read a file of the page that shows this document
#[utoipa::path(get, path = "/docs/{file}", operation_id = "docs_file", tag = "Service",
    params(("file" = String, Path, description = "Its name.", example = "index.html")), responses(
    (status = 200, description = "The file.", content((String = "text/html")))))]
async fn docs_file(Path(file): Path<String>) -> Result<Response, ApiError> {
    let file = serve(&file, Arc::clone(&PAGE)).map_err(ApiError::internal)?.ok_or(ApiError::NotFound)?;
    let kind = HeaderValue::try_from(file.content_type).map_err(ApiError::internal)?;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, CACHE),
    ];
    Ok((headers, Bytes::from(file.bytes.into_owned())).into_response())
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(openapi)).routes(routes!(docs)).routes(routes!(docs_file))
}
