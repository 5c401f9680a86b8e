//! The route of the test event: sent while the caller waits, answered with the attempt in full.

use axum::{Router, extract::State, http::StatusCode, routing::post};
use serde::Deserialize;

use super::attempts::Rebuild;
use crate::{
    auth::{Context, Tenant, scope},
    endpoints::{Tester, target::History},
    idempotency::{Done, Once},
    types::EndpointId,
    web::{Answer, ApiError, Path, json::OptionalJson},
};

/// How long a test may take until its Idempotency-Key is free again: longer than the longest time-out.
const LEASE_S: u32 = 60;

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
    Once { claim, body: OptionalJson(body) }: Once<OptionalJson<TestBody>>,
) -> Result<Done, ApiError> {
    let (runner, actor, tenant) = (tester.clone(), tenant.actor, tenant.id);
    let testing = async move {
        let reserved = claim.reserve(&context, tenant, LEASE_S).await?;
        let tested = match tester.send(tenant, endpoint, body.event_type.as_deref()).await {
            Ok(tested) => tested,
            Err(refusal) => {
                reserved.release(&context).await?;
                return Err(refusal);
            }
        };
        let mut work = reserved.begin(&context).await?;
        tester.store(&mut work, tenant, &tested, &actor).await?;
        let history =
            History::load(&mut work, &context.vault, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        let formats = context.formats.of(&mut *work, [tested.attempt.format_version]).await?;
        let rebuild =
            Rebuild { history: &history, formats, event_id: tested.event_id, event: Some(tested.event) };
        let attempt = rebuild.attempt(tested.attempt.into());
        work.commit(&context, Answer::json(StatusCode::OK, &attempt)?).await
    };
    runner.run(tenant, testing).await
}

pub fn router(tester: Tester) -> Router {
    Router::new().route("/v1/endpoints/{endpoint_id}/test", post(test)).with_state(tester)
}
