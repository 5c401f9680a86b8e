//! A wire format that is edited: whether the endpoints that use it can take the new version.

use sqlx::PgConnection;

use super::{draft::secret_fits, queries, secrets};
use crate::{
    auth::Context,
    egress::{CustomHeaders, SchemeRule},
    formats::Format,
    types::TenantId,
    web::ApiError,
};

/// 409, naming the first endpoint, where one could not be sent to any more: the same checks as when it was made. The
/// endpoints must be locked.
pub async fn check_new_format(
    db: &mut PgConnection,
    context: &Context,
    tenant: TenantId,
    format: &Format,
) -> Result<(), ApiError> {
    let signature_headers = format.signature_headers();
    let rule = SchemeRule { format_allows_http: format.allow_http };
    for user in queries::users_of_format(&mut *db, tenant, &format.name).await? {
        let refuse = |why: String| {
            ApiError::Conflict(format!("The endpoint {} could not use this: {why}.", user.id).into())
        };
        // One that the policy refuses whatever the format is not the edit's fault.
        let any_scheme = SchemeRule { format_allows_http: true };
        if context.policy.parse_url(&user.url, any_scheme).is_ok() {
            context.policy.parse_url(&user.url, rule).map_err(|refusal| refuse(refusal.to_string()))?;
        }
        let headers = secrets::open_headers(&context.vault, tenant, user.id, user.headers_sealed.as_deref())
            .map_err(ApiError::internal)?;
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        if let Err(refusals) = CustomHeaders::parse(pairs, &signature_headers) {
            let name = refusals.into_iter().find_map(|refusal| refusal.name).unwrap_or_default();
            return Err(refuse(format!("its own header {name} is one that the format signs in")));
        }
        if format.uses_base64_key() {
            let secret = secrets::current(context, &mut *db, tenant, user.id).await?;
            secret_fits(format, &secret).map_err(|why| refuse(format!("its secret {why}")))?;
        }
    }
    Ok(())
}
