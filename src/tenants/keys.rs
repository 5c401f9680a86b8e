//! API keys of a tenant: made and revoked by the operator, or by the tenant itself.

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use crate::{
    audit,
    auth::{
        Actor, ApiKey, Caller, Context, Operator, Tenant,
        extract::SCOPES,
        queries::{self, NewKey, StoredKey},
        scope,
    },
    idempotency::{Done, Once},
    types::{KeyId, TenantId, Timestamp, text::Name},
    web::{
        Answer, ApiError, Json, Path, Query,
        fields::Fields,
        page::{self, Page, PageQuery},
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    name: String,
    scopes: Vec<String>,
    expires_at: Option<String>,
}

#[derive(Serialize)]
pub struct KeyView {
    id: KeyId,
    tenant_id: TenantId,
    name: String,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    created_at: Timestamp,
    /// The key itself, in the answer that made it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    let mut work = claim.begin(context, Some(tenant_id)).await?;
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
    let mut transaction = context.pool.begin().await?;
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
    let keys = queries::page(&context.pool, tenant, keyset).await?;
    let views = keys.into_iter().map(KeyView::from).collect();
    Ok(Json(scope.page(query, keyset, views, |key: &KeyView| key.id.uuid())))
}

pub async fn create_for(
    State(context): State<Context>,
    operator: Operator,
    Path(tenant): Path<TenantId>,
    once: Once<Json<CreateBody>>,
) -> Result<Done, ApiError> {
    make(&context, tenant, &operator.actor, once).await
}

pub async fn list_for(
    State(context): State<Context>,
    _: Operator,
    Path(tenant): Path<TenantId>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    if !queries::tenant_exists(&context.pool, tenant).await? {
        return Err(ApiError::NotFound);
    }
    live(&context, tenant, &query).await
}

pub async fn revoke_for(
    State(context): State<Context>,
    operator: Operator,
    Path((tenant, key)): Path<(TenantId, KeyId)>,
) -> Result<StatusCode, ApiError> {
    end(&context, tenant, &operator.actor, key).await
}

/// A tenant's key makes no key that may do more than itself.
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

pub async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<KeyView>>, ApiError> {
    live(&context, tenant.id, &query).await
}

pub async fn revoke(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(key): Path<KeyId>,
) -> Result<StatusCode, ApiError> {
    end(&context, tenant.id, &tenant.actor, key).await
}

#[derive(Serialize)]
pub struct Me {
    /// `null`: the operator's key.
    key_id: Option<KeyId>,
    key_name: Option<String>,
    tenant_id: Option<TenantId>,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    /// Addresses that deliveries come from.
    egress_ips: Vec<String>,
}

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
