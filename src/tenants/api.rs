//! Routes of the tenants; the operator's.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    keys,
    model::{CreateBody, Tenant, UpdateBody, external_id_taken},
    queries,
};
use crate::{
    audit,
    auth::{Context, Operator},
    idempotency::{Done, Once},
    jobs::{self, Job},
    locations,
    queue::control,
    types::{TenantId, text::ExternalId},
    web::{
        Answer, ApiError, Json, OnConstraint, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

const EXTERNAL_ID_KEY: &str = "tenants_external_id_key";

/// Make a tenant
///
/// It is born with one location, whose `external_id` is `default`, and without keys: make one next.
#[utoipa::path(post, path = "/v1/tenants", operation_id = "create_tenant", tag = "Tenants",
    security(("operator" = [])), request_body = CreateBody, responses(
        (status = 201, description = "The tenant as it was made.", body = Tenant),
        (status = 409, description = "The `external_id` is another tenant's.")))]
async fn create(
    State(context): State<Context>,
    operator: Operator,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let new = body.parse()?;
    let id = context.clock.mint();
    let mut work = claim.begin_unwalled(&context, &operator).await?;
    let tenant = queries::insert(&mut *work, id, &new, context.clock.now())
        .await
        .on_constraint(EXTERNAL_ID_KEY, external_id_taken)?;
    locations::make_default(&mut work, id, &context.clock).await?;
    let act = audit::Act { action: "tenant.create", resource: &id.to_string(), fields: &[] };
    audit::record(&mut *work, id, &context.clock, &operator.actor, act).await?;
    work.commit(&context, Answer::json(StatusCode::CREATED, &tenant)?).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Entries of one page.
    #[param(required = false, minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters. Without it: the first page.
    #[param(required = false)]
    cursor: Option<String>,
    /// The one with this id of yours.
    #[param(required = false, value_type = ExternalId, inline)]
    external_id: Option<String>,
}

/// List tenants
#[utoipa::path(get, path = "/v1/tenants", operation_id = "list_tenants", tag = "Tenants",
    security(("operator" = [])), params(ListQuery), responses(
        (status = 200, description = "One page of tenants.", body = Page<Tenant>)))]
async fn list(operator: Operator, Query(query): Query<ListQuery>) -> Result<Json<Page<Tenant>>, ApiError> {
    let ListQuery { limit, cursor, external_id } = query;
    let query = PageQuery { limit, cursor };
    let filter = external_id.as_ref().map(|id| format!("external_id={id}"));
    let scope = Scope::new(&["tenants", filter.as_deref().unwrap_or_default()]);
    let keyset = scope.keyset(&query)?;
    let external_id = external_id.map(ExternalId::parse).transpose();
    let external_id =
        external_id.map_err(|wrong| ApiError::Malformed(format!("external_id {wrong}.").into()))?;
    let rows = queries::page(
        &mut *operator.pool.lease().await?,
        external_id.as_ref().map(ExternalId::as_str),
        keyset,
    )
    .await?;
    Ok(Json(scope.page(&query, keyset, rows, |tenant| tenant.id.uuid())))
}

/// Read a tenant
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}", operation_id = "read_tenant", tag = "Tenants",
    security(("operator" = [])), responses((status = 200, description = "The tenant.", body = Tenant)))]
async fn read(operator: Operator, Path(id): Path<TenantId>) -> Result<Json<Tenant>, ApiError> {
    queries::find(&mut *operator.pool.lease().await?, id).await?.map(Json).ok_or(ApiError::NotFound)
}

/// Change a tenant
///
/// A patch that changes nothing leaves no trace.
#[utoipa::path(patch, path = "/v1/tenants/{tenant_id}", operation_id = "update_tenant", tag = "Tenants",
    security(("operator" = [])), request_body = UpdateBody, responses(
        (status = 200, description = "The tenant as it is now.", body = Tenant),
        (status = 409, description = "The `external_id` is another tenant's.")))]
async fn update(
    State(context): State<Context>,
    operator: Operator,
    Path(id): Path<TenantId>,
    Json(body): Json<UpdateBody>,
) -> Result<Json<Tenant>, ApiError> {
    let mut transaction = operator.pool.begin().await?;
    let mut tenant = queries::lock(&mut transaction, id).await?.ok_or(ApiError::NotFound)?;
    let before = tenant.clone();
    let format = match body.format() {
        Some(name) => context.formats.named(&mut transaction, id, name).await?,
        None => None,
    };
    let fields = body.apply(&mut tenant, format.as_deref())?;
    if tenant == before {
        return Ok(Json(tenant));
    }
    tenant.updated_at = context.clock.now();
    queries::update(&mut transaction, &tenant).await.on_constraint(EXTERNAL_ID_KEY, external_id_taken)?;
    let act = audit::Act { action: "tenant.update", resource: &id.to_string(), fields: &fields };
    audit::record(&mut *transaction, id, &context.clock, &operator.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(tenant))
}

/// Delete a tenant
///
/// From the answer on its keys are dead and nothing of it is published or sent; its resources are gone. The job removes what is left, and
/// can be read afterwards with `Posthaste-Tenant`. It can't be canceled.
#[utoipa::path(delete, path = "/v1/tenants/{tenant_id}", operation_id = "delete_tenant", tag = "Tenants",
    security(("operator" = [])), responses((status = 202, description = "The job that removes everything.", body = Job)))]
async fn remove(
    State(context): State<Context>,
    operator: Operator,
    Path(id): Path<TenantId>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let mut transaction = operator.pool.begin().await?;
    queries::close(&mut *transaction, id).await?;
    jobs::purge::end_others(&mut transaction, id).await?;
    let shards =
        queries::tombstone(&mut transaction, id, context.clock.now()).await?.ok_or(ApiError::NotFound)?;
    let commands = control::command_all(&mut transaction, &shards).await?;
    let job = jobs::purge::enter(&mut transaction, id, context.clock.mint(), commands.clone()).await?;
    let act = audit::Act { action: "tenant.delete", resource: &id.to_string(), fields: &[] };
    audit::record(&mut *transaction, id, &context.clock, &operator.actor, act).await?;
    transaction.commit().await?;
    tracing::info!(tenant = %id, job = %job.id, request = operator.actor.request_id, "a tenant was deleted");
    context.owners.all_obeyed(&commands).await?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(read, update, remove))
        .routes(routes!(keys::create_for, keys::list_for))
        .routes(routes!(keys::revoke_for))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::me))
}
