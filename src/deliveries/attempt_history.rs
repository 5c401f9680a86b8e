//! The route of an endpoint's attempts: every POST, tests among them, each in full.

use std::collections::HashMap;

use axum::extract::State;
use serde::Deserialize;
use sqlx::PgConnection;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    attempts::Rebuild,
    model::{ListedAttempt, outcome_schema},
    queries::{self, AttemptKey, AttemptRow},
};
use crate::{
    auth::{Context, Tenant, scope},
    endpoints::target::History,
    queue::refill,
    types::{AttemptId, EndpointId, EventId, TenantId, event_type::Pattern, schema::GivenTime},
    web::{
        ApiError, Json, Path, Query,
        filter::{self, IdRange, Period},
        page::{Chunk, Keyset, Page, PageQuery, Scope, Source},
    },
};

/// Attempts that are looked at for one page.
pub const SCAN_MAX: u16 = 2_000;
/// Events whose data are in memory at once, of up to some megabyte each.
const BODIES_AT_ONCE: usize = 16;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Entries of one page.
    #[param(required = false, minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters. Without it: the first page.
    #[param(required = false)]
    cursor: Option<String>,
    /// Those that ended so.
    #[param(required = false, schema_with = outcome_schema)]
    outcome: Option<String>,
    /// Those of this type, or of the types that the pattern matches.
    #[param(required = false, value_type = Pattern, inline)]
    event_type: Option<String>,
    /// Those that Posthaste received from then on.
    #[param(required = false, value_type = GivenTime, inline)]
    since: Option<String>,
    /// Those that Posthaste received before.
    #[param(required = false, value_type = GivenTime, inline)]
    until: Option<String>,
}

struct Attempts<'a> {
    db: &'a mut PgConnection,
    tenant: TenantId,
    endpoint: EndpointId,
    range: IdRange,
    succeeded: Option<bool>,
    event_type: Option<Pattern>,
}

impl Source for Attempts<'_> {
    type Row = AttemptKey;
    type Edge = (Uuid, Uuid);

    async fn read(&mut self, keyset: Keyset<Self::Edge>) -> sqlx::Result<Chunk<AttemptKey, Self::Edge>> {
        let with_types = self.event_type.is_some();
        let keys =
            queries::attempt_keys(&mut *self.db, self.tenant, self.endpoint, self.range, keyset, with_types)
                .await?;
        let type_fits = |key: &AttemptKey, pattern: &Pattern| {
            key.event_type.as_ref().is_some_and(|event_type| pattern.matches_name(event_type))
        };
        let belongs = |key: &AttemptKey| {
            self.succeeded.is_none_or(|succeeded| key.succeeded == succeeded)
                && self.event_type.as_ref().is_none_or(|pattern| type_fits(key, pattern))
        };
        Ok(Chunk::of(keyset, keys, |key| (key.event_id.uuid(), key.id.uuid()), belongs))
    }
}

/// List the attempts of an endpoint
///
/// Every POST, tests among them, each in full, newest event first. A page looks at 2,000 attempts at most: where few of them match, it is shorter than its limit, and the list goes on as long
/// as there is a `next_cursor`.
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}/attempts", operation_id = "list_attempts_of_endpoint",
    tag = "Deliveries", security(("key" = ["read"])), params(ListQuery), responses(
        (status = 200, description = "One page of attempts.", body = Page<ListedAttempt>)))]
async fn list(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(endpoint): Path<EndpointId>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<ListedAttempt>>, ApiError> {
    let succeeded = match query.outcome.as_deref() {
        None => None,
        Some("succeeded") => Some(true),
        Some("failed") => Some(false),
        Some(_) => return Err(ApiError::Malformed("outcome must be succeeded or failed.".into())),
    };
    let event_type = filter::event_type(query.event_type)?;
    let period = Period::parse(query.since.as_deref(), query.until.as_deref())?;
    let [since, until] = period.told();
    let scope = Scope::new(&[
        "attempts",
        &tenant.id.to_string(),
        &endpoint.to_string(),
        query.outcome.as_deref().unwrap_or_default(),
        event_type.as_ref().map(Pattern::as_str).unwrap_or_default(),
        &since,
        &until,
    ]);
    let page_query = PageQuery { limit: query.limit, cursor: query.cursor };
    let keyset = scope.keyset(&page_query)?;
    let mut db = context.begin(tenant.id).await?;
    if queries::listed(&mut *db, tenant.id, None, Some(endpoint)).await?.is_empty() {
        return Err(ApiError::NotFound);
    }
    let range = period.ids();
    let mut attempts = Attempts { db: &mut db, tenant: tenant.id, endpoint, range, succeeded, event_type };
    let scanned = keyset.scan(&mut attempts, SCAN_MAX).await?;
    let Page { data, next_cursor, prev_cursor } = scope.page_of(&page_query, keyset, scanned);
    let keys: Vec<_> = data.into_iter().map(|key| (key.event_id, key.id)).collect();
    let data = in_full(&context, &mut db, tenant.id, endpoint, &keys).await?;
    Ok(Json(Page { data, next_cursor, prev_cursor }))
}

async fn in_full(
    context: &Context,
    db: &mut PgConnection,
    tenant: TenantId,
    endpoint: EndpointId,
    keys: &[(EventId, AttemptId)],
) -> Result<Vec<ListedAttempt>, ApiError> {
    let rows = queries::attempts_of(&mut *db, tenant, endpoint, keys).await?;
    let history = History::load(db, &context.vault, tenant, endpoint).await?.ok_or(ApiError::NotFound)?;
    let formats = context.formats.of(&mut *db, rows.iter().map(|row| row.format_version)).await?;
    let event_of: HashMap<AttemptId, EventId> =
        keys.iter().map(|(event, attempt)| (*attempt, *event)).collect();
    let mut by_event: Vec<(EventId, Vec<AttemptRow>)> = Vec::new();
    for row in rows {
        let Some(event) = event_of.get(&row.id) else { continue };
        match by_event.last_mut() {
            Some((last, rows)) if last == event => rows.push(row),
            _ => by_event.push((*event, vec![row])),
        }
    }
    let events: Vec<EventId> = by_event.iter().map(|(event, _)| *event).collect();
    let types = queries::event_types(&mut *db, endpoint.shard(), &events).await?;
    let (mut by_event, mut attempts) = (by_event.into_iter(), Vec::with_capacity(keys.len()));
    loop {
        let some: Vec<_> = by_event.by_ref().take(BODIES_AT_ONCE).collect();
        if some.is_empty() {
            break;
        }
        let wanted: Vec<_> = some.iter().map(|(event, _)| (event.shard(), *event)).collect();
        let mut bodies: HashMap<_, _> = refill::bodies(&mut *db, &wanted).await?.into_iter().collect();
        for (event_id, rows) in some {
            let event = bodies.remove(&event_id);
            let rebuild = Rebuild { history: &history, formats: formats.clone(), event_id, event };
            let listed = |row| ListedAttempt {
                event_id,
                event_type: types.get(&event_id).cloned(),
                attempt: rebuild.attempt(row),
            };
            attempts.extend(rows.into_iter().map(listed));
        }
    }
    Ok(attempts)
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(list))
}
