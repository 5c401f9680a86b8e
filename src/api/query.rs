//! Query parameters where a route has none: a 400, rather than a wish that is silently not granted.
//!
//! What a route takes is in the reference; routes with parameters refuse unknown ones themselves.

use std::{collections::HashSet, sync::LazyLock};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::reference;
use crate::web::ApiError;

/// Method and path of what takes no query, in lower case.
static WITHOUT: LazyLock<HashSet<(String, String)>> = LazyLock::new(|| {
    let mut without = HashSet::new();
    let paths = reference::document()["paths"].as_object().into_iter().flatten();
    for (path, item) in paths.filter(|(path, _)| path.starts_with("/v1/") || path.starts_with("/api/")) {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let mut parameters = operation["parameters"].as_array().into_iter().flatten();
            if !parameters.any(|parameter| parameter["in"] == "query") {
                without.insert((method.clone(), path.clone()));
            }
        }
    }
    without
});

pub async fn refuse_unasked(request: Request, next: Next) -> Response {
    let has_query = request.uri().query().is_some_and(|query| !query.is_empty());
    if has_query && let Some(path) = request.extensions().get::<MatchedPath>() {
        let method = match request.method().as_str() {
            "HEAD" => "get".to_owned(),
            other => other.to_lowercase(),
        };
        if WITHOUT.contains(&(method, path.as_str().to_owned())) {
            return ApiError::Malformed("This route takes no query parameters.".into()).into_response();
        }
    }
    next.run(request).await
}
