//! Request headers: those that some routes take, as the API's reference shows them, and those that must be told once.

use axum::http::{HeaderMap, HeaderValue};
use utoipa::IntoParams;

use super::error::ApiError;

/// The header's value. Told twice, it is refused: which of them was meant decides who acts, or for whom.
pub fn only<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        _ => Err(ApiError::Malformed(format!("The header {name} is given twice.").into())),
    }
}

/// For changes that should be lost rather than undo another's.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IfMatch {
    /// The `ETag` of the version that the change is meant for, or `*`. Where the endpoint has changed since: 412, and nothing
    /// is changed.
    #[param(rename = "If-Match", required = false, example = "\"3\"")]
    pub if_match: String,
}
