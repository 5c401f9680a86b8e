//! Request headers that several routes take, as the API's reference shows them.

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

/// For requests that may be sent again when their answer was lost.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// A key of your own that makes a repeat safe: the same request with the same key does nothing and gets the first answer
    /// again, for at least 24 hours. 1 to 255 visible ASCII characters.
    #[param(
        rename = "Idempotency-Key",
        required = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        example = "order-4821-paid"
    )]
    pub idempotency_key: String,
}
