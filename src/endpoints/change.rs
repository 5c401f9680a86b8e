//! The frame of every change to an endpoint: lock, check the ETag, change, tell everyone who must know, wait for the owner.

use axum::http::{HeaderMap, StatusCode, header};
use sqlx::{PgConnection, PgTransaction};

use super::queries;
use crate::{
    audit,
    auth::{Actor, Context},
    queue::control,
    types::{EndpointId, LocationId, TenantId},
    web::ApiError,
};

pub struct Change<'a> {
    context: &'a Context,
    tenant: TenantId,
    endpoint: EndpointId,
    location: LocationId,
    transaction: PgTransaction<'static>,
}

impl<'a> Change<'a> {
    /// Locks the endpoint. 404 where it is not the tenant's, 412 where `If-Match` names another version.
    pub async fn begin(
        context: &'a Context,
        tenant: TenantId,
        endpoint: EndpointId,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        let mut transaction = context.pool.begin().await?;
        // The location first, as its deletion does: who locks in another order meets in a deadlock.
        queries::lock_location(&mut *transaction, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        let (location, version) =
            queries::lock(&mut *transaction, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        if let Some(wanted) = headers.get(header::IF_MATCH) {
            let wanted = wanted.to_str().unwrap_or_default();
            let current = etag(version);
            if !wanted.split(',').any(|one| one.trim() == current || one.trim() == "*") {
                return Err(ApiError::PreconditionFailed);
            }
        }
        Ok(Self { context, tenant, endpoint, location, transaction })
    }

    pub fn db(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Commits, and waits until nothing is sent any more as it was before: 200, or 202 where that takes long.
    pub async fn commit(
        mut self,
        actor: &Actor,
        action: &'static str,
        fields: &[&str],
    ) -> Result<StatusCode, ApiError> {
        control::reroute(&mut *self.transaction, self.location).await?;
        let command = control::command(&mut self.transaction, self.endpoint.shard()).await?;
        let act = audit::Act { action, resource: &self.endpoint.to_string(), fields };
        audit::record(&mut *self.transaction, self.tenant, &self.context.clock, actor, act).await?;
        self.transaction.commit().await?;
        let obeyed = control::obeyed(&self.context.pool, command).await?;
        Ok(if obeyed { StatusCode::OK } else { StatusCode::ACCEPTED })
    }
}

pub fn etag(version: i32) -> String {
    format!("\"{version}\"")
}
