//! The audit log: who did what, written in the transaction of what was done. Names of fields, never their values.

use axum::extract::State;
use serde::Serialize;
use sqlx::PgExecutor;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{Actor, Context, PastTenant, scope},
    types::{AuditId, Clock, KeyId, TenantId, Timestamp},
    web::{
        ApiError, Json, Query,
        page::{Keyset, Page, PageQuery, Scope},
    },
};

/// What was done, to what.
pub struct Act<'a> {
    /// `endpoint.pause`, …
    pub action: &'static str,
    /// The id of what it was done to.
    pub resource: &'a str,
    pub fields: &'a [&'a str],
}

pub async fn record(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    clock: &Clock,
    actor: &Actor,
    act: Act<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO audit_log (tenant_id, id, at, key_id, action, resource, request_id, fields)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        tenant.uuid(),
        clock.mint::<AuditId>().uuid(),
        clock.now().datetime(),
        actor.key_id.map(KeyId::uuid),
        act.action,
        act.resource,
        actor.request_id,
        act.fields as _
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Something that was done.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct Entry {
    id: AuditId,
    at: Timestamp,
    /// The key that it was done with; `null`: the operator's.
    key_id: Option<KeyId>,
    /// What was done.
    #[schema(examples("endpoint.update"))]
    action: String,
    /// What it was done to.
    #[schema(examples("ep_0193a1b2-c3d4-7e5f-8a6b-0123456789ab"))]
    resource: String,
    /// The `X-Request-Id` of the request that did it.
    #[schema(examples("req_0193a1b2-c3d4-7e5f-8a6b-0123456789ab"))]
    request_id: Option<String>,
    /// Names of the fields that it changed, never their values.
    #[schema(examples("url"))]
    fields: Vec<String>,
}

async fn entries(db: impl PgExecutor<'_>, tenant: TenantId, page: Keyset) -> sqlx::Result<Vec<Entry>> {
    sqlx::query_as!(
        Entry,
        r#"
        SELECT p.id AS "id!: AuditId", p.at AS "at!: Timestamp", p.key_id AS "key_id: KeyId", p.action AS "action!",
            p.resource AS "resource!", p.request_id, p.fields AS "fields!"
        FROM (
            (SELECT * FROM audit_log WHERE NOT $2 AND tenant_id = $1 AND id < $3 ORDER BY id DESC LIMIT $4)
            UNION ALL
            (SELECT * FROM audit_log WHERE $2 AND tenant_id = $1 AND id > $3 ORDER BY id LIMIT $4)
        ) p ORDER BY p.id DESC
        "#,
        tenant.uuid(),
        page.backwards,
        page.edge,
        page.fetch()
    )
    .fetch_all(db)
    .await
}

/// List what was done
///
/// Every change, and every look at a signing secret. Of a tenant that was deleted, the operator still reads that it was.
#[utoipa::path(get, path = "/v1/audit", operation_id = "list_audit", tag = "Audit log",
    security(("key" = ["read"])), params(PageQuery), responses(
        (status = 200, description = "One page of the audit log.", body = Page<Entry>)))]
async fn list(
    State(context): State<Context>,
    tenant: PastTenant<scope::Read>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Entry>>, ApiError> {
    let scope = Scope::new(&["audit", &tenant.id.to_string()]);
    let keyset = scope.keyset(&query)?;
    let rows = entries(&mut *context.begin(tenant.id).await?, tenant.id, keyset).await?;
    Ok(Json(scope.page(&query, keyset, rows, |entry| entry.id.uuid())))
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(list))
}
