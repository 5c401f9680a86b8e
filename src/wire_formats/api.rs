//! Routes of the wire formats.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::{Definition, Draft, FormatView},
    preview,
    queries::{self, Stored},
};
use crate::{
    audit,
    auth::{Actor, Context, Tenant, scope},
    endpoints,
    formats::{Format, presets},
    idempotency::{Done, Once},
    queue::control,
    types::TenantId,
    web::{
        Answer, ApiError, Json, Path, Query,
        fields::Fields,
        page::{Page, PageQuery, Scope},
    },
};

/// Most formats of a tenant's own, and most versions that it can ever make of them.
const FORMATS_MAX: i64 = 100;
const VERSIONS_MAX: i64 = 5_000;

/// What stands where a format's name would: none can have it.
const PREVIEW: &str = "preview";

fn is_built_in(name: &str) -> bool {
    presets::format_by_name(name).is_some()
}

fn built_in_is_fixed() -> ApiError {
    ApiError::Conflict("The wire format is built in, and can't be changed.".into())
}

/// List wire formats
///
/// Those that an endpoint of the tenant may have: the built-in ones (of the presets, and in the style of `stripe`, `github`,
/// `shopify` and `slack`), then the tenant's own by name.
#[utoipa::path(get, path = "/v1/formats", operation_id = "list_formats", tag = "Wire formats",
    security(("key" = ["read"])), params(PageQuery), responses(
        (status = 200, description = "One page of wire formats.", body = Page<FormatView>)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<FormatView>>, ApiError> {
    let mut db = context.begin(tenant.id).await?;
    let own = queries::all(&mut *db, tenant.id).await?;
    let formats = context.formats.of(&mut *db, own.iter().map(|stored| stored.version)).await?;
    let built_in = |(at, format): (usize, &Arc<Format>)| (format!("0 {at:03}"), FormatView::built_in(format));
    let own = own.iter().filter_map(|stored| {
        let format = Arc::clone(formats.get(&stored.version)?);
        Some((format!("1 {}", format.name), FormatView::own(format, stored)))
    });
    let in_order = presets::formats().iter().enumerate().map(built_in).chain(own).collect();
    Scope::new(&["formats", &tenant.id.to_string()]).page_of_all(&query, in_order).map(Json)
}

/// Read a wire format
#[utoipa::path(get, path = "/v1/formats/{format}", operation_id = "read_format", tag = "Wire formats",
    security(("key" = ["read"])), responses(
        (status = 200, description = "The wire format, in its current version.", body = FormatView)))]
async fn read(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(name): Path<String>,
) -> Result<Json<FormatView>, ApiError> {
    if let Some(format) = presets::format_by_name(&name) {
        return Ok(Json(FormatView::built_in(format)));
    }
    if !Format::is_name(&name) {
        return Err(ApiError::NotFound);
    }
    let mut db = context.begin(tenant.id).await?;
    let stored = queries::find(&mut *db, tenant.id, &name).await?.ok_or(ApiError::NotFound)?;
    let format = context.formats.one(&mut *db, stored.version).await?;
    let format = format.ok_or_else(|| ApiError::internal("a wire format without its version"))?;
    Ok(Json(FormatView::own(format, &stored)))
}

/// Plain http carries payloads and signatures for anybody to read: only the operator opens that door. One that is open may
/// stay so.
fn check_http(fields: &mut Fields, draft: &Draft, before: Option<&Format>, actor: &Actor) {
    let was_allowed = before.is_some_and(|format| format.allow_http);
    let is_operator = actor.key_id.is_none();
    if draft.allow_http && !was_allowed && !is_operator {
        fields.wrong("/allow_http", "can be turned on by the operator only");
    }
}

async fn store(
    context: &Context,
    db: &mut sqlx::PgConnection,
    tenant: TenantId,
    name: String,
    draft: Draft,
) -> Result<FormatView, ApiError> {
    let version = queries::next_version(&mut *db).await?;
    let format = draft.into_format(name, version);
    let definition = serde_json::to_string(&format).map_err(ApiError::internal)?;
    let stored = queries::store(db, tenant, &format, &definition, context.clock.now()).await?;
    Ok(FormatView::own(Arc::new(format), &stored))
}

/// Make a wire format
///
/// One of the tenant's own. What is left out is at its default.
#[utoipa::path(post, path = "/v1/formats", operation_id = "create_format", tag = "Wire formats",
    security(("key" = ["write"])), request_body = Definition, responses(
        (status = 201, description = "The wire format as it was made.", body = FormatView),
        (status = 409, description = "The name is taken, or the tenant has as many formats as it can.")))]
async fn create(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Once { claim, body: Json(mut body) }: Once<Json<Definition>>,
) -> Result<Done, ApiError> {
    let mut fields = Fields::default();
    let name = match body.name.take() {
        Some(name) if name == PREVIEW => {
            fields.wrong("/name", "is the name of a route");
            None
        }
        Some(name) if Format::is_name(&name) => Some(name),
        Some(_) => {
            fields.wrong("/name", "must have 1 to 64 of a-z, 0-9 and underscore");
            None
        }
        None => {
            fields.wrong("/name", "is required");
            None
        }
    };
    let draft = body.parse(&mut fields, "");
    if let Some(draft) = &draft {
        check_http(&mut fields, draft, None, &tenant.actor);
    }
    let (name, draft) = fields.done(|| Some((name?, draft?)))?;
    let mut work = claim.begin(&context, tenant.id).await?;
    if !endpoints::queries::lock_tenant(&mut *work, tenant.id).await? {
        return Err(ApiError::NotFound);
    }
    if is_built_in(&name) || queries::find(&mut *work, tenant.id, &name).await?.is_some() {
        return Err(ApiError::Conflict("A wire format of this name exists.".into()));
    }
    let counts = queries::counts(&mut *work, tenant.id).await?;
    if counts.formats >= FORMATS_MAX {
        return Err(ApiError::Conflict(
            format!("A tenant has at most {FORMATS_MAX} wire formats of its own.").into(),
        ));
    }
    check_versions(counts.versions)?;
    let view = store(&context, &mut work, tenant.id, name, draft).await?;
    let act = audit::Act { action: "format.create", resource: &view.format.name, fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    work.commit(&context, Answer::json(StatusCode::CREATED, &view)?).await
}

fn check_versions(made: i64) -> Result<(), ApiError> {
    if made < VERSIONS_MAX {
        return Ok(());
    }
    let told = format!("A tenant can make {VERSIONS_MAX} versions of wire formats, and all are kept.");
    Err(ApiError::Conflict(told.into()))
}

/// Replace a wire format
///
/// Everything of one of the tenant's own: what is left out is at its default. Endpoints that use it go on with the new version;
/// a delivery keeps the version that it was made with.
#[utoipa::path(put, path = "/v1/formats/{format}", operation_id = "replace_format", tag = "Wire formats",
    security(("key" = ["write"])), request_body = Definition, responses(
        (status = 200, description = "The wire format in its new version.", body = FormatView),
        (status = 409, description = "The format is built in, or an endpoint that uses it could not use the new version.")))]
async fn replace(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(name): Path<String>,
    Json(mut body): Json<Definition>,
) -> Result<Json<FormatView>, ApiError> {
    if is_built_in(&name) {
        return Err(built_in_is_fixed());
    }
    if !Format::is_name(&name) {
        return Err(ApiError::NotFound);
    }
    let mut fields = Fields::default();
    if body.name.take().is_some_and(|other| other != name) {
        fields.wrong("/name", "must be the name in the path, or be left out");
    }
    let draft = body.parse(&mut fields, "");
    let mut transaction = context.begin(tenant.id).await?;
    let stored = lock(&mut transaction, tenant.id, &name).await?;
    let before = context.formats.one(&mut *transaction, stored.version).await?;
    if let Some(draft) = &draft {
        check_http(&mut fields, draft, before.as_deref(), &tenant.actor);
    }
    let draft = fields.done(|| draft)?;
    check_versions(queries::counts(&mut *transaction, tenant.id).await?.versions)?;
    let view = store(&context, &mut transaction, tenant.id, name, draft).await?;
    endpoints::check_new_format(&mut transaction, &context, tenant.id, &view.format).await?;
    endpoints::queries::adopt_format(&mut *transaction, tenant.id, &view.format).await?;
    control::reroute_all(&mut *transaction, tenant.id).await?;
    let act = audit::Act { action: "format.update", resource: &view.format.name, fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(Json(view))
}

/// The tenant's format, with its endpoints locked: none begins to use it, or stops, until the transaction ends.
async fn lock(db: &mut sqlx::PgConnection, tenant: TenantId, name: &str) -> Result<Stored, ApiError> {
    if !endpoints::queries::lock_tenant(&mut *db, tenant).await? {
        return Err(ApiError::NotFound);
    }
    endpoints::queries::lock_locations(&mut *db, tenant).await?;
    queries::find(db, tenant, name).await?.ok_or(ApiError::NotFound)
}

/// Delete a wire format
///
/// One of the tenant's own that no endpoint uses, and that is not the tenant's for those that name none. Deliveries that were made with it keep it.
#[utoipa::path(delete, path = "/v1/formats/{format}", operation_id = "delete_format", tag = "Wire formats",
    security(("key" = ["write"])), responses(
        (status = 204, description = "The name is free."),
        (status = 409, description = "The format is built in, an endpoint uses it, or it is the tenant's for endpoints that name none.")))]
async fn remove(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    if is_built_in(&name) {
        return Err(built_in_is_fixed());
    }
    if !Format::is_name(&name) {
        return Err(ApiError::NotFound);
    }
    let mut transaction = context.begin(tenant.id).await?;
    lock(&mut transaction, tenant.id, &name).await?;
    if let Some(user) = endpoints::queries::user_of_format(&mut *transaction, tenant.id, &name).await? {
        return Err(ApiError::Conflict(format!("The endpoint {user} uses this wire format.").into()));
    }
    if queries::is_default(&mut *transaction, tenant.id, &name).await? {
        return Err(ApiError::Conflict(
            "It is the tenant's wire format for endpoints that name none.".into(),
        ));
    }
    queries::delete(&mut *transaction, tenant.id, &name).await?;
    let act = audit::Act { action: "format.delete", resource: &name, fields: &[] };
    audit::record(&mut *transaction, tenant.id, &context.clock, &tenant.actor, act).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(preview::preview))
        .routes(routes!(read, replace, remove))
}
