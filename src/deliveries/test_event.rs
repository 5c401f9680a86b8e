//! The route of the test event: sent while the caller waits, answered with the attempt in full.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{attempts::Rebuild, model::ListedAttempt};
use crate::{
    auth::{Context, Tenant, scope},
    endpoints::{Tester, target::History},
    idempotency::{Done, Once},
    types::{EndpointId, event_type::EventType},
    web::{Answer, ApiError, Path, json::OptionalJson},
};

/// How long a test may take until its Idempotency-Key is free again: longer than the longest time-out.
const LEASE_S: u32 = 60;

/// What to test an endpoint with.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TestEndpoint)]
struct TestBody {
    /// A type of the catalogue, whose sample is sent. Without it: the first that the endpoint subscribes to.
    #[schema(value_type = Option<EventType>)]
    event_type: Option<String>,
}

/// Send a test event
///
/// The sample of an event type, once, without retries, and waits for the answer. 200 also where the receiver failed or the URL is
/// refused: the attempt says so. State and statistics of the endpoint stay as they are.
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/test", operation_id = "test_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), request_body = Option<TestBody>, responses(
        (status = 200, description = "The attempt.", body = ListedAttempt)))]
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
        let mut work = reserved.begin(&context, tested.event_id.uuid()).await?;
        tester.store(&mut work, tenant, &tested, &actor).await?;
        let history =
            History::load(&mut work, &context.vault, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
        let formats = context.formats.of(&mut *work, [tested.attempt.format_version]).await?;
        let event_type = Some(tested.event.event_type.clone());
        let rebuild =
            Rebuild { history: &history, formats, event_id: tested.event_id, event: Some(tested.event) };
        let attempt = rebuild.attempt_with_body(tested.attempt.into());
        let listed = ListedAttempt { event_id: tested.event_id, event_type, attempt };
        work.commit(&context, Answer::json(StatusCode::OK, &listed)?).await
    };
    runner.run(tenant, testing).await
}

pub fn router() -> OpenApiRouter<Tester> {
    OpenApiRouter::default().routes(routes!(test))
}
