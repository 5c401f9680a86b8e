//! The route of the test event: sent while the caller waits, answered with the attempt in full.

use axum::{Router, extract::State, routing::post};
use serde::Deserialize;

use super::{attempts::Rebuild, model::AttemptView};
use crate::{
    auth::{Context, Tenant, scope},
    endpoints::{Tester, target::History},
    types::EndpointId,
    web::{ApiError, Json, Path, json::OptionalJson},
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestBody {
    /// Of the catalogue; by default the first that the endpoint subscribes to.
    event_type: Option<String>,
}

/// 200 also where the receiver failed or the target is refused: the attempt says so.
async fn test(
    State(context): State<Context>,
    State(tester): State<Tester>,
    tenant: Tenant<scope::Write>,
    Path(endpoint): Path<EndpointId>,
    OptionalJson(body): OptionalJson<TestBody>,
) -> Result<Json<AttemptView>, ApiError> {
    let tested = tester.test(tenant.id, endpoint, body.event_type, tenant.actor).await?;
    let history =
        History::load(&context.pool, &context.vault, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let formats = context.formats.of(&context.pool, [tested.attempt.format_version]).await?;
    let rebuild =
        Rebuild { history: &history, formats, event_id: tested.event_id, event: Some(tested.event) };
    Ok(Json(rebuild.attempt(tested.attempt.into())))
}

pub fn router(tester: Tester) -> Router {
    Router::new().route("/v1/endpoints/{endpoint_id}/test", post(test)).with_state(tester)
}
