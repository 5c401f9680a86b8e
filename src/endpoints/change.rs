//! The frame of every change to an endpoint: lock, check the ETag, change, tell everyone who must know, wait for the owner.

use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use sqlx::PgConnection;

use super::queries;
use crate::{
    audit,
    auth::{Actor, Context},
    idempotency::Work,
    queue::control,
    types::{EndpointId, LocationId, TenantId},
    web::{Answer, ApiError},
};

pub struct Change<'a> {
    context: &'a Context,
    tenant: TenantId,
    endpoint: EndpointId,
    location: LocationId,
    work: Work,
}

impl<'a> Change<'a> {
    /// Locks the endpoint. 404 where it is not the tenant's, 412 where `If-Match` names another version.
    pub async fn begin(
        context: &'a Context,
        tenant: TenantId,
        endpoint: EndpointId,
        headers: &HeaderMap,
        mut work: Work,
    ) -> Result<Self, ApiError> {
        // The location first, as its deletion does: who locks in another order meets in a deadlock.
        queries::lock_location(&mut *work, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        let (location, version) =
            queries::lock(&mut *work, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        if let Some(wanted) = headers.get(header::IF_MATCH) {
            let wanted = wanted.to_str().unwrap_or_default();
            let current = etag(version);
            if !wanted.split(',').any(|one| one.trim() == current || one.trim() == "*") {
                return Err(ApiError::PreconditionFailed);
            }
        }
        Ok(Self { context, tenant, endpoint, location, work })
    }

    pub fn db(&mut self) -> &mut PgConnection {
        &mut self.work
    }

    /// Commits, and waits until nothing is sent any more as it was before: then `answer`, or a 202 where that takes long.
    pub async fn commit(
        mut self,
        actor: &Actor,
        action: &'static str,
        fields: &[&str],
        answer: Answer,
    ) -> Result<Response, ApiError> {
        control::reroute(&mut *self.work, self.location).await?;
        let command = control::command_endpoint(&mut self.work, self.endpoint).await?;
        let act = audit::Act { action, resource: &self.endpoint.to_string(), fields };
        audit::record(&mut *self.work, self.tenant, &self.context.clock, actor, act).await?;
        let done = self.work.commit(self.context, answer).await?;
        if self.context.owners.obeyed(command).await? {
            Ok(done.into_response())
        } else {
            done.accepted(self.context).await
        }
    }
}

pub fn etag(version: i32) -> String {
    format!("\"{version}\"")
}
