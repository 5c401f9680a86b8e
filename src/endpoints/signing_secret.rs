//! Showing and rotating the signing secret.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    change::Change,
    draft::secret_fits,
    queries::{self, Stored},
    secrets::{self, GRACE_PERIOD_MAX},
};
use crate::{
    audit,
    auth::{Context, Tenant, scope},
    formats::Format,
    idempotency::Once,
    signing::{MAX_LIVE_SECRETS, PublicKey},
    types::{EndpointId, secret::SigningSecret},
    web::{Answer, ApiError, Json, Path, fields::Fields, headers::IfMatch, json::OptionalJson},
};

/// An endpoint's signing secret.
#[derive(Serialize, ToSchema)]
#[schema(as = Secret)]
pub struct SecretView {
    #[schema(value_type = SigningSecret)]
    secret: String,
    /// Verifies the ed25519 signatures that are made with the secret; `null` where the endpoint's format has none.
    #[schema(value_type = Option<PublicKey>)]
    public_key: Option<String>,
}

impl SecretView {
    fn new(secret: &SigningSecret, format: &Format) -> Self {
        Self { secret: secret.reveal().to_owned(), public_key: format.public_key(secret) }
    }
}

/// Show the signing secret
///
/// The current one. The audit log says who saw it.
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}/secret", operation_id = "read_secret", tag = "Endpoints",
    security(("key" = ["secrets"])), responses(
        (status = 200, description = "The secret.", body = SecretView)))]
pub async fn reveal(
    State(context): State<Context>,
    tenant: Tenant<scope::Secrets>,
    Path(id): Path<EndpointId>,
) -> Result<Json<SecretView>, ApiError> {
    let mut db = context.begin(tenant.id).await?;
    let stored = queries::find(&mut *db, tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let format = format_of(&context, &mut db, &stored).await?;
    let secret = secrets::current(&context, &mut *db, tenant.id, id).await?;
    let act = audit::Act { action: "endpoint.secret.reveal", resource: &id.to_string(), fields: &[] };
    audit::record(&mut *db, tenant.id, &context.clock, &tenant.actor, act).await?;
    db.commit().await?;
    Ok(Json(SecretView::new(&secret, &format)))
}

async fn format_of(
    context: &Context,
    db: &mut PgConnection,
    endpoint: &Stored,
) -> Result<Arc<Format>, ApiError> {
    let format = context.formats.one(db, endpoint.format_version).await?;
    format.ok_or_else(|| ApiError::internal("an endpoint without format"))
}

/// How to rotate a signing secret.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateSecret)]
pub struct RotateBody {
    /// For how many seconds requests are signed with the old secret as well; 0: it ends at once. Without it: a day, or 0 where
    /// the format's headers hold one signature only.
    #[schema(minimum = 0, maximum = 604800, examples(86400))]
    grace_period_s: Option<u64>,
    /// The new secret. Without it: one is made.
    #[schema(value_type = Option<SigningSecret>)]
    secret: Option<String>,
}

/// Rotate the signing secret
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/secret/rotate", operation_id = "rotate_secret", tag = "Endpoints",
    security(("key" = ["secrets"])), params(IfMatch), request_body = Option<RotateBody>, responses(
        (status = 200, description = "The new secret.", body = SecretView),
        (status = 202, description = "The new secret. A request that began before may still be under way.", body = SecretView),
        (status = 409, description = "As many secrets as may live at a time do.")))]
pub async fn rotate(
    State(context): State<Context>,
    tenant: Tenant<scope::Secrets>,
    Path(id): Path<EndpointId>,
    headers: HeaderMap,
    Once { claim, body: OptionalJson(body) }: Once<OptionalJson<RotateBody>>,
) -> Result<Response, ApiError> {
    let work = claim.begin(&context, tenant.id).await?;
    let mut change = Change::begin(&context, tenant.id, id, &headers, work).await?;
    let stored = queries::find(change.db(), tenant.id, id).await?.ok_or(ApiError::NotFound)?;
    let format = format_of(&context, change.db(), &stored).await?;
    let mut fields = Fields::default();
    let most_s = GRACE_PERIOD_MAX.as_secs();
    let grace_s = body.grace_period_s.unwrap_or(u64::from(format.default_rotation_grace_s()));
    if grace_s > most_s {
        fields.wrong("/grace_period_s", format!("must be 0 to {most_s}"));
    }
    let secret = match body.secret {
        None => Some(SigningSecret::generate()),
        Some(text) => {
            let parsed = SigningSecret::parse(&text).map_err(|error| error.to_string());
            fields.take("/secret", parsed.and_then(|secret| secret_fits(&format, &secret).map(|()| secret)))
        }
    };
    let secret = fields.done(|| secret)?;
    let now = context.clock.now();
    let live = secrets::all(change.db(), tenant.id, id).await?;
    if live.iter().filter(|one| one.expires_at.is_none_or(|at| at > now)).count() >= MAX_LIVE_SECRETS
        && grace_s > 0
    {
        return Err(ApiError::Conflict(
            format!("{MAX_LIVE_SECRETS} secrets are live already: rotate with grace_period_s 0, or wait for one to end.").into(),
        ));
    }
    let grace = Duration::from_secs(grace_s);
    secrets::make_current(change.db(), &context, tenant.id, id, &secret, now, grace).await?;
    queries::touch(change.db(), tenant.id, id, now).await?;
    let answer = Answer::json(StatusCode::OK, &SecretView::new(&secret, &format))?;
    change.commit(&tenant.actor, "endpoint.secret.rotate", &[], answer).await
}
