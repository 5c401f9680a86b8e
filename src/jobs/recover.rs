//! Recover: deliveries to one endpoint, from a period in which it was not well, are sent again.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use utoipa::{IntoParams, ToSchema, openapi::Object};

use super::{
    model::{Job, Next, Progress, Running, Task},
    queries,
};
use crate::{
    audit,
    auth::{Context, Tenant, scope},
    endpoints,
    idempotency::Once,
    queue::requeue::{self, Status, Wanted},
    types::{
        EndpointId, Timestamp,
        event_type::Pattern,
        schema::{GivenTime, words},
    },
    web::{Answer, ApiError, Json, Path, Query, fields::Fields},
};

/// Fastest release, deliveries a second.
const RATE_MAX_PER_S: u32 = 10_000;
/// Deliveries that one step releases.
const STEP_MAX: u32 = 500;
/// With a rate, a step releases what is due in this part of a second.
const STEPS_PER_S: u32 = 4;
/// Patterns of one request.
const EVENT_TYPES_MAX: usize = 100;
const STATUSES: [Status; 3] = [Status::Failed, Status::Canceled, Status::Succeeded];

fn status_schema() -> Object {
    words("Those that ended so.", STATUSES.map(Status::as_str))
}

/// Which deliveries to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecoverEndpoint)]
pub struct RecoverBody {
    /// When Posthaste received the events: from then on, and before `until`.
    #[schema(value_type = GivenTime)]
    since: String,
    /// Without it: until now.
    #[schema(value_type = Option<GivenTime>)]
    until: Option<String>,
    /// Without it: `failed`.
    #[schema(schema_with = status_schema)]
    status: Option<String>,
    /// Those of these types. Without it: of all.
    #[schema(value_type = Option<Vec<Pattern>>, min_items = 1, max_items = 100)]
    event_types: Option<Vec<String>>,
    /// How many are released a second. Without it: as fast as it goes.
    #[schema(minimum = 1, maximum = 10000, examples(50))]
    rate_per_s: Option<u32>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RecoverQuery {
    /// Whether only to count.
    #[serde(default)]
    #[param(required = false, default = false)]
    dry_run: bool,
}

/// What a dry run counted.
#[derive(Serialize, ToSchema)]
#[schema(as = RecoverCount)]
struct Count {
    /// Deliveries that would be sent again.
    #[schema(minimum = 0, examples(120))]
    total: i64,
}

impl RecoverBody {
    /// What is wanted, and how fast. Until now, if it does not say: what fails later is not meant.
    fn parse(self, now: Timestamp) -> Result<(Wanted, Option<u32>), ApiError> {
        let mut fields = Fields::default();
        let time = |text: String| {
            Timestamp::parse(&text).ok_or_else(|| "must be a time in RFC 3339, from 1970 on".to_owned())
        };
        let since = fields.take("/since", time(self.since));
        let until = fields.take("/until", self.until.map(time).transpose());
        if let (Some(since), Some(Some(until))) = (since, until)
            && until <= since
        {
            fields.wrong("/until", "must be later than since");
        }
        let status = fields.take("/status", self.status.map_or(Ok(Status::Failed), |word| status(&word)));
        let event_types = patterns(&mut fields, self.event_types);
        if self.rate_per_s.is_some_and(|rate| !(1..=RATE_MAX_PER_S).contains(&rate)) {
            fields.wrong("/rate_per_s", format!("must be 1 to {RATE_MAX_PER_S}"));
        }
        fields.done(|| {
            let until = until?.unwrap_or_else(|| now.plus(std::time::Duration::from_millis(1)));
            let (from, below) = (since?.lowest_id(), until.lowest_id());
            Some((Wanted { from, below, status: status?, event_types: event_types? }, self.rate_per_s))
        })
    }
}

fn status(word: &str) -> Result<Status, String> {
    STATUSES
        .into_iter()
        .find(|status| status.as_str() == word)
        .ok_or_else(|| "must be failed, canceled or succeeded".to_owned())
}

fn patterns(fields: &mut Fields, texts: Option<Vec<String>>) -> Option<Option<Vec<Pattern>>> {
    let Some(texts) = texts else { return Some(None) };
    if !(1..=EVENT_TYPES_MAX).contains(&texts.len()) {
        fields.wrong("/event_types", format!("must name 1 to {EVENT_TYPES_MAX} event types"));
        return None;
    }
    let count = texts.len();
    let parsed: Vec<Pattern> = texts
        .into_iter()
        .enumerate()
        .filter_map(|(at, text)| {
            fields.take(format!("/event_types/{at}"), Pattern::parse(text).map_err(|error| error.to_string()))
        })
        .collect();
    (parsed.len() == count).then_some(Some(parsed))
}

/// Recover an endpoint
///
/// Sends deliveries of a period again, from one that it was not well in. What is pending is left alone. A dry run counts, and changes
/// nothing.
#[utoipa::path(post, path = "/v1/endpoints/{endpoint_id}/recover", operation_id = "recover_endpoint", tag = "Endpoints",
    security(("key" = ["write"])), params(RecoverQuery), request_body = RecoverBody, responses(
        (status = 202, description = "The job that does it.", body = Job),
        (status = 200, description = "What a dry run counted.", body = Count),
        (status = 409, description = "Too many jobs are running already.")))]
pub async fn recover(
    State(context): State<Context>,
    tenant: Tenant<scope::Write>,
    Path(endpoint): Path<EndpointId>,
    Query(query): Query<RecoverQuery>,
    Once { claim, body: Json(body) }: Once<Json<RecoverBody>>,
) -> Result<Response, ApiError> {
    let (wanted, rate_per_s) = body.parse(context.clock.now())?;
    let mut work = claim.begin(&context, tenant.id).await?;
    endpoints::queries::lock(&mut *work, tenant.id, endpoint).await?.ok_or(ApiError::NotFound)?;
    let total = requeue::count(&mut work, tenant.id, endpoint, &wanted).await?;
    if query.dry_run {
        return Ok(work
            .commit(&context, Answer::json(StatusCode::OK, &Count { total })?)
            .await?
            .into_response());
    }
    queries::make_room(&mut *work, tenant.id).await?;
    let task = Task::Recover { endpoint_id: endpoint, wanted, rate_per_s };
    let job = queries::insert(&mut work, tenant.id, context.clock.mint(), &task, total).await?;
    let act = audit::Act { action: "endpoint.recover", resource: &endpoint.to_string(), fields: &[] };
    audit::record(&mut *work, tenant.id, &context.clock, &tenant.actor, act).await?;
    Ok(work.commit(&context, Answer::json(StatusCode::ACCEPTED, &job)?).await?.into_response())
}

pub async fn step(
    db: &mut PgConnection,
    job: &Running,
    endpoint: EndpointId,
    wanted: &Wanted,
    rate_per_s: Option<u32>,
) -> sqlx::Result<Progress> {
    if endpoints::queries::lock(&mut *db, job.tenant_id, endpoint).await?.is_none() {
        return Ok(Progress { next: Next::Failed("the endpoint was deleted"), ..Progress::default() });
    }
    let format_version = endpoints::queries::format_version(&mut *db, job.tenant_id, endpoint)
        .await?
        .ok_or(sqlx::Error::RowNotFound)?;
    let most = rate_per_s.map_or(STEP_MAX, |rate| rate.div_ceil(STEPS_PER_S).min(STEP_MAX));
    let moved =
        requeue::some(db, job.tenant_id, endpoint, wanted, job.cursor, i64::from(most), format_version)
            .await?;
    Ok(Progress {
        cursor: moved.up_to,
        done: moved.queued,
        task: None,
        rung: if moved.queued > 0 { vec![endpoint] } else { Vec::new() },
        next: match (moved.up_to, rate_per_s) {
            (None, _) => Next::Succeeded,
            (Some(_), Some(per_s)) => Next::Paced { per_s },
            (Some(_), None) => Next::Step,
        },
    })
}
