//! The three routes, and how their errors look.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    middleware,
    response::Response,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::queries;
use crate::{
    auth::{Context, Tenant, scope},
    egress::SchemeRule,
    endpoints::{self, CreateBody},
    idempotency::{Done, Once},
    locations::LocationRef,
    types::{TenantId, Timestamp},
    web::{Answer, ApiError, FieldError, Json, Query, error::Problem},
};

/// Tenants of this preset have these routes.
const PRESET: &str = "whatsable";

/// A webhook, as WhatsAble's page has it.
#[derive(Serialize, ToSchema)]
struct Webhook {
    /// From one sequence for all accounts.
    #[schema(examples(42))]
    id: i64,
    /// When it was made.
    created_at: Timestamp,
    /// Where events are POSTed to.
    #[schema(format = "uri", examples("https://api.example.com/whatsapp/events"))]
    webhook: String,
    /// The account: the tenant's `external_id` if that is a UUID, else the UUID in its id.
    #[schema(value_type = String, format = "uuid", examples("6fb11ff2-d9b2-4560-8437-0fe58ec9f4a6"))]
    user_id: Uuid,
}

/// The account's UUID; 404 where the tenant is of another preset.
async fn account(db: &mut PgConnection, tenant: TenantId) -> Result<Uuid, ApiError> {
    let account = queries::account(db, tenant).await?.ok_or(ApiError::NotFound)?;
    if account.preset != PRESET {
        return Err(ApiError::NotFound);
    }
    let external = account.external_id.and_then(|text| Uuid::try_parse(&text).ok());
    Ok(external.unwrap_or(tenant.uuid()))
}

/// List webhooks
///
/// All of the account's, newest first, as a bare array. For tenants of the preset `whatsable`.
#[utoipa::path(get, path = "/api/webhooks/get", operation_id = "whatsable_list_webhooks", tag = "WhatsAble",
    security(("key" = ["read"])), responses(
        (status = 200, description = "The webhooks.", body = Vec<Webhook>),
        (status = 404, description = "The tenant is of another preset."),
        (status = 500, description = "The database failed: try again after a short delay.")))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
) -> Result<Json<Vec<Webhook>>, ApiError> {
    let mut db = context.begin(tenant.id).await?;
    let user_id = account(&mut db, tenant.id).await?;
    let rows = queries::all(&mut *db, tenant.id).await?;
    let webhooks = rows.into_iter().map(|row| Webhook {
        id: row.id,
        created_at: row.created_at,
        webhook: row.url,
        user_id,
    });
    Ok(Json(webhooks.collect()))
}

/// What a webhook is made from.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// Where events are to be POSTed to: http or https, public.
    #[schema(format = "uri", examples("https://api.example.com/whatsapp/events"))]
    webhook: String,
}

/// A webhook that was made.
#[derive(Serialize, ToSchema)]
struct CreatedWebhook {
    /// The webhook.
    data: Webhook,
}

/// Create a webhook
///
/// An endpoint in the default location, named after its host, for every event type. For tenants of the preset `whatsable`.
#[utoipa::path(post, path = "/api/webhooks/create", operation_id = "whatsable_create_webhook", tag = "WhatsAble",
    security(("key" = ["write"])), request_body = NewWebhook, responses(
        (status = 200, description = "The webhook.", body = CreatedWebhook),
        (status = 404, description = "The tenant is of another preset."),
        (status = 409, description = "The account has as many webhooks as it may have."),
        (status = 500, description = "The database failed: try again after a short delay.")))]
async fn create(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Once { claim, body: Json(body) }: Once<Json<NewWebhook>>,
) -> Result<Done, ApiError> {
    let user_id = account(&mut *context.begin(tenant.id).await?, tenant.id).await?;
    let rule = SchemeRule { format_allows_http: true };
    let url = context.policy.parse_url(&body.webhook, rule);
    let url = url.map_err(|refusal| ApiError::invalid("/webhook", refusal.to_string()))?;
    let name = url.host().chars().take(crate::types::text::NAME_MAX_CHARS).collect();
    let mut work = claim.begin(&context, tenant.id).await?;
    let wanted = LocationRef::default_location();
    let plain = CreateBody::plain(name, body.webhook, vec!["*".to_owned()]);
    let endpoint =
        endpoints::add(&context, &mut work, tenant.id, &tenant.actor, &wanted, plain, || ApiError::NotFound)
            .await
            .map_err(at_the_webhook)?;
    let id = queries::number(&mut *work, tenant.id, endpoint.id).await?;
    let id = id.ok_or_else(|| ApiError::internal("a webhook without a number"))?;
    let data = Webhook { id, created_at: endpoint.created_at, webhook: endpoint.url, user_id };
    work.commit(&context, Answer::json(StatusCode::OK, &CreatedWebhook { data })?).await
}

/// What is wrong with the endpoint is wrong with the one field there is.
fn at_the_webhook(error: ApiError) -> ApiError {
    match error {
        ApiError::Invalid(errors) => ApiError::Invalid(
            errors.into_iter().map(|error| FieldError::new("/webhook", error.detail)).collect(),
        ),
        other => other,
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// Of the webhook.
    id: i64,
}

/// A webhook that was deleted.
#[derive(Serialize, ToSchema)]
struct DeletedWebhook {
    /// Always true.
    success: bool,
}

/// Delete a webhook
///
/// Nothing is sent to it from then on. For tenants of the preset `whatsable`.
#[utoipa::path(delete, path = "/api/webhooks/delete", operation_id = "whatsable_delete_webhook", tag = "WhatsAble",
    security(("key" = ["write"])), params(DeleteQuery), responses(
        (status = 200, description = "It is gone.", body = DeletedWebhook),
        (status = 202, description = "It is gone; a request that began before may still be under way.", body = DeletedWebhook),
        (status = 403, description = "The webhook belongs to a different account."),
        (status = 404, description = "There is no such webhook, or the tenant is of another preset."),
        (status = 500, description = "The database failed: try again after a short delay.")))]
async fn delete(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    headers: HeaderMap,
    Query(query): Query<DeleteQuery>,
) -> Result<Response, ApiError> {
    let mut db = context.begin(tenant.id).await?;
    account(&mut db, tenant.id).await?;
    let Some(endpoint) = queries::named(&mut *db, tenant.id, query.id).await? else {
        let elsewhere = queries::is_taken(&mut *db, query.id).await?;
        let told = || ApiError::Forbidden("The webhook belongs to a different account.".into());
        return Err(if elsewhere { told() } else { ApiError::NotFound });
    };
    drop(db);
    let answer = Answer::json(StatusCode::OK, &DeletedWebhook { success: true })?;
    endpoints::delete(&context, tenant.id, &tenant.actor, endpoint, &headers, answer).await
}

/// Statuses as on the page: 400 for whatever is wrong with a request, 500 when the database fails.
async fn as_on_the_page(mut response: Response) -> Response {
    let status = match response.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        StatusCode::SERVICE_UNAVAILABLE => StatusCode::INTERNAL_SERVER_ERROR,
        _ => return response,
    };
    *response.status_mut() = status;
    if let Some(problem) = response.extensions_mut().get_mut::<Problem>() {
        problem.status = status.as_u16();
    }
    response
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(create))
        .routes(routes!(delete))
        .layer(middleware::map_response(as_on_the_page))
}
