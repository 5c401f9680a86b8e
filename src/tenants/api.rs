//! Routes of the tenants; the operator's.

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{delete, get, post},
};

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
    types::TenantId,
    web::{
        Answer, ApiError, Json, OnConstraint, Path, Query,
        page::{Page, PageQuery, Scope},
    },
};

const EXTERNAL_ID_KEY: &str = "tenants_external_id_key";

async fn create(
    State(context): State<Context>,
    operator: Operator,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let new = body.parse()?;
    let id = context.clock.mint();
    let mut work = claim.begin(&context, None).await?;
    let tenant = queries::insert(&mut *work, id, &new, context.clock.now())
        .await
        .on_constraint(EXTERNAL_ID_KEY, external_id_taken)?;
    locations::make_default(&mut work, id, &context.clock).await?;
    let act = audit::Act { action: "tenant.create", resource: &id.to_string(), fields: &[] };
    audit::record(&mut *work, id, &context.clock, &operator.actor, act).await?;
    work.commit(&context, Answer::json(StatusCode::CREATED, &tenant)?).await
}

async fn list(
    State(context): State<Context>,
    _: Operator,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Tenant>>, ApiError> {
    let scope = Scope::new(&["tenants"]);
    let keyset = scope.keyset(&query)?;
    let rows = queries::page(&context.pool, keyset).await?;
    Ok(Json(scope.page(&query, keyset, rows, |tenant| tenant.id.uuid())))
}

async fn read(
    State(context): State<Context>,
    _: Operator,
    Path(id): Path<TenantId>,
) -> Result<Json<Tenant>, ApiError> {
    queries::find(&context.pool, id).await?.map(Json).ok_or(ApiError::NotFound)
}

async fn update(
    State(context): State<Context>,
    operator: Operator,
    Path(id): Path<TenantId>,
    Json(body): Json<UpdateBody>,
) -> Result<Json<Tenant>, ApiError> {
    let mut transaction = context.pool.begin().await?;
    let mut tenant = queries::lock(&mut transaction, id).await?.ok_or(ApiError::NotFound)?;
    let fields = body.apply(&mut tenant)?;
    tenant.updated_at = context.clock.now();
    queries::update(&mut transaction, &tenant).await.on_constraint(EXTERNAL_ID_KEY, external_id_taken)?;
    let act = audit::Act { action: "tenant.update", resource: &id.to_string(), fields: &fields };
    audit::record(&mut *transaction, id, &context.clock, &operator.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(tenant))
}

/// From the answer on its keys are dead and nothing of it is published or sent; the job removes what is left. The audit log
/// goes with the tenant, so it is the program's log that says so.
async fn remove(
    State(context): State<Context>,
    operator: Operator,
    Path(id): Path<TenantId>,
) -> Result<(StatusCode, Json<Job>), ApiError> {
    let mut transaction = context.pool.begin().await?;
    queries::close(&mut *transaction, id).await?;
    jobs::purge::end_others(&mut transaction, id).await?;
    let shards =
        queries::tombstone(&mut transaction, id, context.clock.now()).await?.ok_or(ApiError::NotFound)?;
    let commands = control::command_all(&mut transaction, &shards).await?;
    let job = jobs::purge::enter(&mut transaction, id, context.clock.mint(), commands.clone()).await?;
    transaction.commit().await?;
    tracing::info!(tenant = %id, job = %job.id, request = operator.actor.request_id, "a tenant was deleted");
    control::all_obeyed(&context.pool, &commands).await?;
    Ok((StatusCode::ACCEPTED, Json(job)))
}

pub fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/tenants", post(create).get(list))
        .route("/v1/tenants/{tenant_id}", get(read).patch(update).delete(remove))
        .route("/v1/tenants/{tenant_id}/keys", post(keys::create_for).get(keys::list_for))
        .route("/v1/tenants/{tenant_id}/keys/{key_id}", delete(keys::revoke_for))
        .route("/v1/keys", post(keys::create).get(keys::list))
        .route("/v1/keys/{key_id}", delete(keys::revoke))
        .route("/v1/me", get(keys::me))
        .with_state(context)
}
