//! API keys of a tenant: made and revoked by the operator, or by the tenant itself.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, Object},
};

use crate::{
    audit,
    auth::{
        Actor, ApiKey, Caller, Context, Operator, Tenant,
        extract::SCOPES,
        queries::{self, NewKey, StoredKey},
        scope,
    },
    idempotency::{Done, Once},
    types::{
        KeyId, TenantId, Timestamp,
        schema::{GivenTime, words},
        text::Name,
    },
    web::{
        Answer, ApiError, Json, Path, Query,
        fields::Fields,
        page::{self, Page, PageQuery},
    },
};

/// An API key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CreateKey)]
pub struct CreateBody {
    #[schema(value_type = Name)]
    name: String,
    #[schema(schema_with = scopes_schema)]
    scopes: Vec<String>,
    /// When it stops working, a time in the future. Without it: when it is revoked.
    #[schema(value_type = Option<GivenTime>)]
    expires_at: Option<String>,
}

fn scope_schema() -> Object {
    words(
        "`read`: look at everything but secrets. `write`: change things. `publish`: publish events. `secrets`: see and rotate \
         signing secrets.",
        SCOPES,
    )
}

fn scopes_schema() -> ArrayBuilder {
    ArrayBuilder::new()
        .description(Some("What it may do."))
        .items(scope_schema())
        .min_items(Some(1))
        .unique_items(true)
}

/// An API key, but for the key itself.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    id: KeyId,
    tenant_id: TenantId,
    #[schema(value_type = Name)]
    name: String,
    #[schema(schema_with = scopes_schema)]
    scopes: Vec<String>,
    /// When it stops working; `null`: when it is revoked.
    expires_at: Option<Timestamp>,
    /// To the minute; `null`: never yet.
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    /// The key itself: in the answer that made it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^ph_[0-9A-Za-z]{38}$",
        examples("ph_0123456789abcdefghijABCDEFGHIJ01234567"))]
    key: Option<String>,
}

impl From<StoredKey> for KeyView {
    fn from(stored: StoredKey) -> Self {
        let StoredKey { tenant_id, id, name, scopes, expires_at, last_used_at, created_at } = stored;
        Self { id, tenant_id, name, scopes, expires_at, last_used_at, created_at, key: None }
    }
}

async fn make(
    context: &Context,
    tenant_id: TenantId,
    actor: &Actor,
    Once { claim, body: Json(body) }: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    let now = context.clock.now();
    let mut fields = Fields::default();
    let name = fields.take("/name", Name::parse(body.name));
    if body.scopes.is_empty() {
        fields.wrong("/scopes", "must name at least one scope");
    }
    for (at, scope) in body.scopes.iter().enumerate() {
        if !SCOPES.contains(&scope.as_str()) {
            fields.wrong(format!("/scopes/{at}"), format!("is not a scope; there are {}", SCOPES.join(", ")));
        } else if body.scopes[..at].contains(scope) {
            fields.wrong(format!("/scopes/{at}"), "is given twice");
        }
    }
    let expires_at = fields.take("/expires_at", body.expires_at.map(|text| expiry(&text, now)).transpose());
    let (name, expires_at) = fields.done(|| Some((name?, expires_at?)))?;

    let key = ApiKey::generate();
    let view = KeyView {
        id: context.clock.mint(),
        tenant_id,
        name: name.as_str().to_owned(),
        scopes: body.scopes,
        expires_at,
        last_used_at: None,
        created_at: now,
        key: Some(key.reveal().to_owned()),
    };
    let new = NewKey {
        id: view.id,
        name: &view.name,
        hash: &key.hash(),
        scopes: &view.scopes,
        expires_at,
        created_at: now,
    };
    let mut work = claim.begin(context, tenant_id).await?;
    if !queries::insert(&mut *work, tenant_id, new).await? {
        return Err(ApiError::NotFound);
    }
    let act = audit::Act { action: "key.create", resource: &view.id.to_string(), fields: &[] };
    audit::record(&mut *work, tenant_id, &context.clock, actor, act).await?;
    work.commit(context, Answer::json(StatusCode::CREATED, &view)?).await
}

fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let at = Timestamp::parse(text).ok_or("must be a time in RFC 3339, such as 2027-01-31T00:00:00Z")?;
    if at > now { Ok(at) } else { Err("must be in the future".into()) }
}

async fn end(context: &Context, tenant: TenantId, actor: &Actor, key: KeyId) -> Result<StatusCode, ApiError> {
    let mut transaction = context.begin(tenant).await?;
    if !queries::revoke(&mut *transaction, tenant, key).await? {
        return Err(ApiError::NotFound);
    }
    let act = audit::Act { action: "key.revoke", resource: &key.to_string(), fields: &[] };
    audit::record(&mut *transaction, tenant, &context.clock, actor, act).await?;
    transaction.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn live(
    context: &Context,
    tenant: TenantId,
    query: &PageQuery,
) -> Result<Json<Page<KeyView>>, ApiError> {
    let scope = page::Scope::new(&["keys", &tenant.to_string()]);
    let keyset = scope.keyset(query)?;
    let keys = queries::page(&mut *context.begin(tenant).await?, tenant, keyset).await?;
    let views = keys.into_iter().map(KeyView::from).collect();
    Ok(Json(scope.page(query, keyset, views, |key: &KeyView| key.id.uuid())))
}

/// Make a key for a tenant
#[utoipa::path(post, path = "/v1/tenants/{tenant_id}/keys", operation_id = "create_tenant_key", tag = "Tenants",
    security(("operator" = [])), request_body = CreateBody, responses(
        (status = 201, description = "The key, shown this once.", body = KeyView)))]
pub async fn create_for(
    State(context): State<Context>,
    operator: Operator,
    Path(tenant): Path<TenantId>,
    once: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    make(&context, tenant, &operator.actor, once).await
}

/// List a tenant's keys
///
/// Those that are not revoked.
#[utoipa::path(get, path = "/v1/tenants/{tenant_id}/keys", operation_id = "list_tenant_keys", tag = "Tenants",
    security(("operator" = [])), params(PageQuery), responses(
        (status = 200, description = "One page of keys.", body = Page<KeyView>)))]
pub async fn list_for(
    State(context): State<Context>,
    _: Operator,
    Path(tenant): Path<TenantId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    if !queries::tenant_exists(&mut *context.begin(tenant).await?, tenant).await? {
        return Err(ApiError::NotFound);
    }
    live(&context, tenant, &query).await
}

/// Revoke a tenant's key
///
/// It stops working at once.
#[utoipa::path(delete, path = "/v1/tenants/{tenant_id}/keys/{key_id}", operation_id = "revoke_tenant_key", tag = "Tenants",
    security(("operator" = [])), responses((status = 204, description = "The key is revoked.")))]
pub async fn revoke_for(
    State(context): State<Context>,
    operator: Operator,
    Path((tenant, key)): Path<(TenantId, KeyId)>,
) -> Result<StatusCode, ApiError> {
    end(&context, tenant, &operator.actor, key).await
}

/// Make a key
///
/// A key makes no key that may do more than itself: for a scope that it lacks, 403.
#[utoipa::path(post, path = "/v1/keys", operation_id = "create_key", tag = "Keys",
    security(("key" = ["write"])), request_body = CreateBody, responses(
        (status = 201, description = "The key, shown this once.", body = KeyView)))]
pub async fn create(
    State(context): State<Context>,
    caller: Caller,
    tenant: Tenant<scope::Write>,
    once: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    if let Some(key) = caller.key
        && let Some(beyond) = once
            .body
            .0
            .scopes
            .iter()
            .find(|scope| SCOPES.contains(&scope.as_str()) && !key.scopes.contains(scope))
    {
        return Err(ApiError::Forbidden(format!("This key has no scope {beyond} to hand on.")));
    }
    make(&context, tenant.id, &tenant.actor, once).await
}

/// List keys
///
/// Those that are not revoked.
#[utoipa::path(get, path = "/v1/keys", operation_id = "list_keys", tag = "Keys",
    security(("key" = ["read"])), params(PageQuery), responses(
        (status = 200, description = "One page of keys.", body = Page<KeyView>)))]
pub async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    live(&context, tenant.id, &query).await
}

/// Revoke a key
///
/// It stops working at once.
#[utoipa::path(delete, path = "/v1/keys/{key_id}", operation_id = "revoke_key", tag = "Keys",
    security(("key" = ["write"])), responses((status = 204, description = "The key is revoked.")))]
pub async fn revoke(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(key): Path<KeyId>,
) -> Result<StatusCode, ApiError> {
    end(&context, tenant.id, &tenant.actor, key).await
}

/// Who the caller is.
#[derive(Serialize, ToSchema)]
pub struct Me {
    /// `null`: the operator's key.
    key_id: Option<KeyId>,
    #[schema(value_type = Option<Name>)]
    key_name: Option<String>,
    /// `null`: the operator, who named no tenant.
    tenant_id: Option<TenantId>,
    /// What the key may do: `read`, `write`, `publish`, `secrets`, `operator`.
    #[schema(examples("read"))]
    scopes: Vec<String>,
    /// When the key stops working; `null`: when it is revoked.
    expires_at: Option<Timestamp>,
    /// Addresses that deliveries come from, for firewalls.
    #[schema(examples("203.0.113.7"))]
    egress_ips: Vec<String>,
}

/// Read who is calling
#[utoipa::path(get, path = "/v1/me", operation_id = "read_me", tag = "Keys", security(("key" = [])),
    responses((status = 200, description = "The key, its tenant and its scopes.", body = Me)))]
pub async fn me(State(context): State<Context>, caller: Caller) -> Json<Me> {
    let egress_ips = context.egress_ips.clone();
    Json(match caller.key {
        None => Me {
            key_id: None,
            key_name: None,
            tenant_id: caller.tenant,
            scopes: SCOPES.iter().copied().chain(["operator"]).map(str::to_owned).collect(),
            expires_at: None,
            egress_ips,
        },
        Some(key) => Me {
            key_id: Some(key.id),
            key_name: Some(key.name.clone()),
            tenant_id: Some(key.tenant_id),
            scopes: key.scopes.clone(),
            expires_at: key.expires_at,
            egress_ips,
        },
    })
}
