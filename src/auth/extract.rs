//! Authorisation is an extractor: a handler gets its tenant from here or not at all.
//!
//! `Tenant<scope::Read>` is the tenant that the key belongs to (or that the operator names in `Posthaste-Tenant`), for a key
//! that has the scope. `Operator` is the operator. A revoked key stops at once on every node: each request looks the
//! key up, but for publishes, whose statement checks the remembered key itself.

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};

use super::{
    context::Context,
    keys::{ApiKey, KeyHash},
    queries::{self, StoredKey},
};
use crate::{
    db::SharedPool,
    types::{KeyId, TenantId},
    web::{ApiError, headers::only, request::RequestId},
};

/// Names the tenant that the operator acts for.
const TENANT_HEADER: &str = "posthaste-tenant";

/// The scopes a tenant's key can have.
pub const SCOPES: [&str; 4] = ["read", "write", "publish", "secrets"];

pub trait Scope: Send + Sync + 'static {
    const NAME: &'static str;
}

/// Scopes as types, for [`Tenant`].
pub mod scope {
    macro_rules! scopes {
        ($($name:ident = $word:literal),*) => {$(
            pub struct $name;
            impl super::Scope for $name {
                const NAME: &'static str = $word;
            }
        )*};
    }
    scopes!(Read = "read", Write = "write", Publish = "publish", Secrets = "secrets");
}

/// Who does something, for the audit log. `key_id` is `None` for the operator.
#[derive(Clone, Debug)]
pub struct Actor {
    pub key_id: Option<KeyId>,
    pub request_id: String,
}

/// Who asks, for what is taken from a request after its tenant: in the request's extensions.
#[derive(Clone, Copy)]
pub struct Asker {
    /// `None` for the operator.
    pub key_id: Option<KeyId>,
    /// May see what is shown once to whoever made it.
    pub sees_secrets: bool,
}

fn note_asker(parts: &mut Parts, identity: &Identity) {
    let asker = match identity {
        Identity::Operator => Asker { key_id: None, sees_secrets: true },
        Identity::Key(key) => Asker {
            key_id: Some(key.id),
            sees_secrets: key.scopes.iter().any(|held| held == scope::Secrets::NAME),
        },
    };
    parts.extensions.insert(asker);
}

/// A caller who may do `S` for tenant `id`.
pub struct Tenant<S> {
    pub id: TenantId,
    pub actor: Actor,
    scope: PhantomData<S>,
}

/// The same, where the operator may also name a tenant that was deleted.
pub struct PastTenant<S> {
    pub id: TenantId,
    scope: PhantomData<S>,
}

/// The operator, for whom there are no walls.
pub struct Operator {
    pub actor: Actor,
    pub pool: SharedPool,
}

/// A publisher: as `Tenant<Publish>`, with a key that may be a remembered one. The statement that publishes must check
/// `actor.key_id` again; when it finds something outdated, ask [`Publisher::is_live`].
pub struct Publisher {
    pub id: TenantId,
    pub actor: Actor,
    hash: KeyHash,
}

impl Publisher {
    /// Looks the key up again, forgetting what was remembered.
    pub async fn is_live(&self, context: &Context) -> Result<bool, ApiError> {
        context.keys.invalidate(&self.hash).await;
        match self.actor.key_id {
            None => Ok(true),
            Some(_) => Ok(queries::find_live(&mut *context.pool.lease().await?, &self.hash).await?.is_some()),
        }
    }
}

/// Any live key, whatever its scopes, or the operator.
pub struct Caller {
    pub tenant: Option<TenantId>,
    pub key: Option<Arc<StoredKey>>,
}

fn bearer(headers: &HeaderMap) -> Result<ApiKey, ApiError> {
    let value = only(headers, header::AUTHORIZATION.as_str())?
        .ok_or(ApiError::Unauthorized("Send the API key as Authorization: Bearer ph_…."))?;
    let text = value.to_str().unwrap_or_default();
    let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(ApiError::Unauthorized("Send the API key as Authorization: Bearer ph_…."));
    }
    ApiKey::parse(key.trim()).ok_or(UNKNOWN_KEY)
}

pub const UNKNOWN_KEY: ApiError = ApiError::Unauthorized("The API key is unknown, revoked or expired.");

enum Identity {
    Operator,
    Key(Arc<StoredKey>),
}

async fn identify(
    parts: &Parts,
    context: &Context,
    remembered: bool,
) -> Result<(Identity, KeyHash), ApiError> {
    let hash = bearer(&parts.headers)?.hash();
    if hash.matches(&context.operator) {
        return Ok((Identity::Operator, hash));
    }
    if remembered && let Some(key) = context.keys.get(&hash).await {
        if key.expires_at.is_some_and(|at| at <= context.clock.now()) {
            return Err(UNKNOWN_KEY);
        }
        return Ok((Identity::Key(key), hash));
    }
    let key =
        Arc::new(queries::find_live(&mut *context.pool.lease().await?, &hash).await?.ok_or(UNKNOWN_KEY)?);
    if remembered {
        context.keys.insert(hash, Arc::clone(&key)).await;
    }
    Ok((Identity::Key(key), hash))
}

fn named_tenant(headers: &HeaderMap) -> Result<Option<TenantId>, ApiError> {
    let Some(value) = only(headers, TENANT_HEADER)? else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or(ApiError::Malformed("Posthaste-Tenant must be a tenant's id, ten_….".into()))
}

/// The tenant that is spoken for. `None`: the operator names nobody.
async fn tenant_of(
    parts: &Parts,
    context: &Context,
    identity: &Identity,
) -> Result<Option<TenantId>, ApiError> {
    let named = named_tenant(&parts.headers)?;
    match (identity, named) {
        (Identity::Operator, None) => Ok(None),
        (Identity::Operator, Some(tenant))
            if queries::tenant_exists(&mut *context.pool.lease().await?, tenant).await? =>
        {
            Ok(Some(tenant))
        }
        (Identity::Operator, Some(_)) => Err(ApiError::NotFound),
        // A tenant's own key may name its own tenant, nothing else.
        (Identity::Key(key), Some(tenant)) if tenant != key.tenant_id => {
            Err(ApiError::Forbidden("Posthaste-Tenant is another tenant than the key's.".into()))
        }
        (Identity::Key(key), _) => Ok(Some(key.tenant_id)),
    }
}

/// The same, for what is always about one tenant and needs a scope.
async fn tenant_in_scope(
    parts: &Parts,
    context: &Context,
    identity: &Identity,
    scope: &str,
) -> Result<TenantId, ApiError> {
    let tenant = tenant_of(parts, context, identity)
        .await?
        .ok_or(ApiError::Malformed("The operator names the tenant in the header Posthaste-Tenant.".into()))?;
    match identity {
        Identity::Key(key) if !key.scopes.iter().any(|held| held == scope) => {
            Err(ApiError::Forbidden(format!("This needs a key with the scope {scope}.")))
        }
        Identity::Key(_) | Identity::Operator => Ok(tenant),
    }
}

fn actor(parts: &Parts, identity: &Identity) -> Actor {
    let request_id = parts.extensions.get::<RequestId>().map(|id| id.as_str().to_owned()).unwrap_or_default();
    let key_id = match identity {
        Identity::Operator => None,
        Identity::Key(key) => Some(key.id),
    };
    Actor { key_id, request_id }
}

impl<S, W: Scope> FromRequestParts<S> for Tenant<W>
where
    S: Send + Sync,
    Context: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let context = Context::from_ref(state);
        let (identity, _) = identify(parts, &context, false).await?;
        let id = tenant_in_scope(parts, &context, &identity, W::NAME).await?;
        note_asker(parts, &identity);
        Ok(Self { id, actor: actor(parts, &identity), scope: PhantomData })
    }
}

impl<S, W: Scope> FromRequestParts<S> for PastTenant<W>
where
    S: Send + Sync,
    Context: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let context = Context::from_ref(state);
        let (identity, _) = identify(parts, &context, false).await?;
        if let (Identity::Operator, Some(id)) = (&identity, named_tenant(&parts.headers)?)
            && queries::tenant_existed(&mut *context.pool.lease().await?, id).await?
        {
            return Ok(Self { id, scope: PhantomData });
        }
        let id = tenant_in_scope(parts, &context, &identity, W::NAME).await?;
        Ok(Self { id, scope: PhantomData })
    }
}

impl<S> FromRequestParts<S> for Publisher
where
    S: Send + Sync,
    Context: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let context = Context::from_ref(state);
        let (identity, hash) = identify(parts, &context, true).await?;
        let id = tenant_in_scope(parts, &context, &identity, scope::Publish::NAME).await?;
        Ok(Self { id, actor: actor(parts, &identity), hash })
    }
}

impl<S> FromRequestParts<S> for Operator
where
    S: Send + Sync,
    Context: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let context = Context::from_ref(state);
        let (identity, _) = identify(parts, &context, false).await?;
        match identity {
            Identity::Operator => {
                note_asker(parts, &identity);
                Ok(Self { actor: actor(parts, &identity), pool: context.pool.clone() })
            }
            Identity::Key(_) => Err(ApiError::Forbidden("This needs the operator's key.".into())),
        }
    }
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Context: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let context = Context::from_ref(state);
        let (identity, _) = identify(parts, &context, false).await?;
        let tenant = tenant_of(parts, &context, &identity).await?;
        let key = match identity {
            Identity::Operator => None,
            Identity::Key(key) => Some(key),
        };
        Ok(Self { tenant, key })
    }
}
