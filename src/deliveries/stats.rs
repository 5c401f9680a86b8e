//! The route of an endpoint's statistics: how its deliveries ended, by the hour or day (UTC) in which their events were received.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema, openapi::Object};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::queries::{self, Counted};
use crate::{
    auth::{Context, Tenant, scope},
    queue::stats::{HOUR_MS, hour_at, latency_quantile},
    types::{
        EndpointId, Timestamp,
        schema::{GivenTime, words},
    },
    web::{ApiError, Json, Path, Query, filter::Period},
};

/// What buckets are made of, and how many of them there may be.
struct Unit {
    name: &'static str,
    hours: u64,
    default: u64,
    most: u64,
}

const UNITS: [Unit; 2] = [
    Unit { name: "hour", hours: 1, default: 24, most: 31 * 24 },
    Unit { name: "day", hours: 24, default: 30, most: 92 },
];

fn unit_schema() -> Object {
    words("What the period is divided into, in UTC.", UNITS.iter().map(|unit| unit.name))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatsQuery {
    /// Start of the period; by default 24 hours or 30 days before its end.
    #[param(required = false, value_type = GivenTime, inline)]
    since: Option<String>,
    /// End of the period; by default now.
    #[param(required = false, value_type = GivenTime, inline)]
    until: Option<String>,
    #[param(required = false, schema_with = unit_schema)]
    bucket: Option<String>,
}

/// How an endpoint's deliveries ended.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointStats)]
struct Stats {
    /// Start of the first bucket.
    since: Timestamp,
    /// End of the last one.
    until: Timestamp,
    #[schema(schema_with = unit_schema)]
    bucket: &'static str,
    #[serde(flatten)]
    numbers: Numbers,
    /// All of the period, oldest first.
    buckets: Vec<Bucket>,
}

/// The deliveries whose events were received in one hour or day.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsBucket)]
struct Bucket {
    start: Timestamp,
    #[serde(flatten)]
    numbers: Numbers,
}

/// How deliveries ended, and how many wait.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsNumbers)]
struct Numbers {
    /// Deliveries, whatever their state.
    #[schema(minimum = 0, examples(100))]
    total: i64,
    /// Those that succeeded.
    #[schema(minimum = 0, examples(95))]
    succeeded: i64,
    /// Those that ran out of retries, or could not be sent.
    #[schema(minimum = 0, examples(3))]
    failed: i64,
    /// Those that were canceled.
    #[schema(minimum = 0, examples(1))]
    canceled: i64,
    /// Held ones too; counted up to 10,000, the newest first.
    #[schema(minimum = 0, examples(1))]
    pending: i64,
    /// Those that succeeded, of those that succeeded or failed; `null`: there is none.
    #[schema(minimum = 0, maximum = 1, examples(0.9693877551020408))]
    success_rate: Option<f64>,
    latency_ms: Latency,
}

/// How long the attempts took by which deliveries succeeded, in milliseconds, within 9 %. `null`: none did.
#[derive(Serialize, ToSchema)]
#[schema(as = StatsLatency)]
struct Latency {
    /// Half of them took less.
    #[schema(minimum = 1, examples(84))]
    p50: Option<i64>,
    /// 95 of a hundred took less.
    #[schema(minimum = 1, examples(238))]
    p95: Option<i64>,
}

#[derive(Clone, Default)]
struct Tally {
    succeeded: i64,
    failed: i64,
    canceled: i64,
    pending: i64,
    latency: Vec<i64>,
}

impl Tally {
    fn add(&mut self, counted: &Counted) {
        self.succeeded += i64::from(counted.succeeded);
        self.failed += i64::from(counted.failed);
        self.canceled += i64::from(counted.canceled);
        self.pending += counted.pending;
        if self.latency.len() < counted.latency.len() {
            self.latency.resize(counted.latency.len(), 0);
        }
        for (sum, count) in self.latency.iter_mut().zip(&counted.latency) {
            *sum += i64::from(*count);
        }
    }

    fn numbers(&self) -> Numbers {
        // Deliveries that ended before there were statistics, and start again, are taken off nothing.
        let [succeeded, failed, canceled] =
            [self.succeeded, self.failed, self.canceled].map(|count| count.max(0));
        let ended = succeeded + failed;
        #[expect(clippy::cast_precision_loss, reason = "a share of deliveries")]
        let success_rate = (ended > 0).then(|| succeeded as f64 / ended as f64);
        let [p50, p95] = [0.5, 0.95].map(|share| latency_quantile(&self.latency, share));
        Numbers {
            total: ended + canceled + self.pending,
            succeeded,
            failed,
            canceled,
            pending: self.pending,
            success_rate,
            latency_ms: Latency { p50, p95 },
        }
    }
}

/// Number of the first unit, and of the one after the last.
fn units(unit: &Unit, period: Period, now: Timestamp) -> Result<(u64, u64), ApiError> {
    let unit_ms = unit.hours * HOUR_MS;
    let ms = |at: Timestamp| u64::try_from(at.unix_us() / 1_000).unwrap_or_default();
    let end = period.until.map_or(ms(now) / unit_ms + 1, |until| ms(until).div_ceil(unit_ms));
    let start = period.since.map_or(end.saturating_sub(unit.default), |since| ms(since) / unit_ms);
    if start > end {
        return Err(ApiError::Malformed(
            "since must not be later than until, which is now by default.".into(),
        ));
    }
    if end - start > unit.most {
        let days = unit.most * unit.hours / 24;
        return Err(ApiError::Malformed(
            format!("since must be at most {days} days before until where bucket is {}.", unit.name).into(),
        ));
    }
    Ok((start, end))
}

/// Count the deliveries of an endpoint
///
/// By the hour or day in which their events were received, in whole hours or days: `since` is moved to the start of its bucket, `until` to the
/// end of its own. At most 31 days by the hour, and 92 by the day. Tests are no deliveries.
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}/stats", operation_id = "get_endpoint_stats", tag = "Deliveries",
    security(("key" = ["read"])), params(StatsQuery), responses((status = 200, description = "The statistics.", body = Stats)))]
async fn stats(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(endpoint): Path<EndpointId>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<Stats>, ApiError> {
    let wanted = query.bucket.as_deref().unwrap_or(UNITS[0].name);
    let unit = UNITS
        .iter()
        .find(|unit| unit.name == wanted)
        .ok_or(ApiError::Malformed("bucket must be hour or day.".into()))?;
    let period = Period::parse(query.since.as_deref(), query.until.as_deref())?;
    let (start, end) = units(unit, period, context.clock.now())?;
    let mut db = context.begin(tenant.id).await?;
    if queries::listed(&mut *db, tenant.id, None, Some(endpoint)).await?.is_empty() {
        return Err(ApiError::NotFound);
    }
    let starts: Vec<Uuid> = (start..end).map(|number| hour_at(number * unit.hours)).collect();
    let after_last = hour_at(end * unit.hours);
    let (mut all, mut tallies) = (Tally::default(), vec![Tally::default(); starts.len()]);
    if let Some(first) = starts.first() {
        let counted = queries::counted(&mut *db, endpoint, &starts, *first, after_last).await?;
        for row in &counted {
            all.add(row);
            let place = usize::try_from(row.place).ok().and_then(|place| place.checked_sub(1));
            if let Some(tally) = place.and_then(|place| tallies.get_mut(place)) {
                tally.add(row);
            }
        }
    }
    let bucket =
        |(start, tally): (Uuid, Tally)| Bucket { start: Timestamp::of_id(start), numbers: tally.numbers() };
    Ok(Json(Stats {
        since: Timestamp::of_id(starts.first().copied().unwrap_or(after_last)),
        until: Timestamp::of_id(after_last),
        bucket: unit.name,
        numbers: all.numbers(),
        buckets: starts.into_iter().zip(tallies).map(bucket).collect(),
    }))
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(stats))
}
