//! Request headers that some routes take, as the API's reference shows them.

use utoipa::IntoParams;

/// For changes that should be lost rather than undo another's.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IfMatch {
    /// The `ETag` of the version that the change is meant for, or `*`. Where the endpoint has changed since: 412, and nothing
    /// is changed.
    #[param(rename = "If-Match", required = false, example = "\"3\"")]
    pub if_match: String,
}
