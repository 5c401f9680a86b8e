//! Routes of the histories: deliveries of an endpoint, and of a tenant.

use axum::extract::State;
use serde::Deserialize;
use sqlx::PgConnection;
use utoipa::{IntoParams, openapi::Object};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    model::Delivery,
    queries::{self, Listed},
    walk::{SCAN_MAX, Walk, Wanted},
};
use crate::{
    auth::{Context, Tenant, scope},
    locations::{self, LocationRef},
    types::{
        EndpointId,
        event_type::Pattern,
        schema::{GivenTime, words},
    },
    web::{
        ApiError, Json, Path, Query,
        filter::{self, Period},
        page::{Page, PageQuery, Scope},
    },
};

const STATUSES: [&str; 5] = ["pending", "held", "succeeded", "failed", "canceled"];

fn status_schema() -> Object {
    words("A delivery's state.", STATUSES)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfEndpoint {
    /// Entries of one page.
    #[param(required = false, minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters. Without it: the first page.
    #[param(required = false)]
    cursor: Option<String>,
    /// Those in this state.
    #[param(required = false, schema_with = status_schema)]
    status: Option<String>,
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

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfTenant {
    /// Entries of one page.
    #[param(required = false, minimum = 1, maximum = 250, default = 50)]
    limit: Option<u16>,
    /// `next_cursor` or `prev_cursor` of another page of the same list with the same filters. Without it: the first page.
    #[param(required = false)]
    cursor: Option<String>,
    /// Those in this state.
    #[param(required = false, schema_with = status_schema)]
    status: Option<String>,
    /// Those of this type, or of the types that the pattern matches.
    #[param(required = false, value_type = Pattern, inline)]
    event_type: Option<String>,
    /// Those that Posthaste received from then on.
    #[param(required = false, value_type = GivenTime, inline)]
    since: Option<String>,
    /// Those that Posthaste received before.
    #[param(required = false, value_type = GivenTime, inline)]
    until: Option<String>,
    /// Those of this location: its id or its `external_id`.
    #[param(required = false, value_type = LocationRef, inline)]
    location_id: Option<LocationRef>,
    /// Those to this endpoint.
    #[param(required = false, value_type = EndpointId, inline)]
    endpoint_id: Option<EndpointId>,
}

/// What both lists are filtered by, and what their cursors are bound to.
struct Filter {
    wanted: Wanted,
    told: [String; 4],
}

impl Filter {
    fn parse(
        status: Option<&str>,
        event_type: Option<String>,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<Self, ApiError> {
        let wrong_status =
            || ApiError::Malformed(format!("status must be one of {}.", STATUSES.join(", ")).into());
        let status = status
            .map(|word| STATUSES.into_iter().find(|known| *known == word).ok_or_else(wrong_status))
            .transpose()?;
        let event_type = filter::event_type(event_type)?;
        let period = Period::parse(since, until)?;
        let [since, until] = period.told();
        let pattern = event_type.as_ref().map(Pattern::as_str).unwrap_or_default().to_owned();
        let told = [status.unwrap_or_default().to_owned(), pattern, since, until];
        Ok(Self { wanted: Wanted { status, event_type, range: Some(period.ids()) }, told })
    }

    fn scope(&self, parts: &[&str]) -> Scope {
        let told = self.told.iter().map(String::as_str);
        Scope::new(&parts.iter().copied().chain(told).collect::<Vec<_>>())
    }
}

async fn page(
    context: &Context,
    db: &mut PgConnection,
    tenant: &Tenant<scope::Read>,
    endpoints: Vec<Listed>,
    filter: Filter,
    scope: &Scope,
    query: &PageQuery,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let keyset = scope.keyset(query)?;
    let fits = |endpoint: &Listed| match filter.wanted.status {
        Some("pending") => !endpoint.is_held,
        Some("held") => endpoint.is_held,
        _ => true,
    };
    let mut walk = Walk {
        db,
        tenant: tenant.id,
        endpoints: endpoints.into_iter().filter(fits).map(|endpoint| endpoint.id).collect(),
        wanted: filter.wanted,
        now: context.clock.now(),
        oldest: context.oldest(),
    };
    let scanned = keyset.scan(&mut walk, SCAN_MAX).await?;
    Ok(Json(scope.page_of(query, keyset, scanned)))
}

/// List the deliveries of an endpoint
///
/// Its message history, newest event first. A page looks at 1,000 deliveries at most: where few of them match, it is shorter than its limit, and the list goes on as long
/// as there is a `next_cursor`.
#[utoipa::path(get, path = "/v1/endpoints/{endpoint_id}/deliveries", operation_id = "list_deliveries_of_endpoint",
    tag = "Deliveries", security(("key" = ["read"])), params(OfEndpoint), responses(
        (status = 200, description = "One page of deliveries.", body = Page<Delivery>)))]
async fn of_endpoint(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Path(endpoint): Path<EndpointId>,
    Query(query): Query<OfEndpoint>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let OfEndpoint { limit, cursor, status, event_type, since, until } = query;
    let filter = Filter::parse(status.as_deref(), event_type, since.as_deref(), until.as_deref())?;
    let scope = filter.scope(&["endpoint's deliveries", &tenant.id.to_string(), &endpoint.to_string()]);
    let mut db = context.begin(tenant.id).await?;
    let endpoints = queries::listed(&mut *db, tenant.id, None, Some(endpoint)).await?;
    if endpoints.is_empty() {
        return Err(ApiError::NotFound);
    }
    page(&context, &mut db, &tenant, endpoints, filter, &scope, &PageQuery { limit, cursor }).await
}

/// List deliveries
///
/// The message history of the whole tenant, newest event first. Pages may be shorter than their limit, as those of one endpoint; with
/// hundreds of endpoints also for the days that a page looks into. The list goes on as long as there is a `next_cursor`.
#[utoipa::path(get, path = "/v1/deliveries", operation_id = "list_deliveries", tag = "Deliveries",
    security(("key" = ["read"])), params(OfTenant), responses(
        (status = 200, description = "One page of deliveries.", body = Page<Delivery>)))]
async fn of_tenant(
    State(context): State<Context>,
    tenant: Tenant<scope::Read>,
    Query(query): Query<OfTenant>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    let OfTenant { limit, cursor, status, event_type, since, until, location_id, endpoint_id } = query;
    let filter = Filter::parse(status.as_deref(), event_type, since.as_deref(), until.as_deref())?;
    let mut db = context.begin(tenant.id).await?;
    let location = match &location_id {
        None => None,
        Some(wanted) => {
            Some(locations::queries::find(&mut *db, tenant.id, wanted).await?.map(|found| found.id))
        }
    };
    let location_told = match location {
        None => String::new(),
        Some(None) => "unknown".to_owned(),
        Some(Some(id)) => id.to_string(),
    };
    let scope = filter.scope(&[
        "deliveries",
        &tenant.id.to_string(),
        &location_told,
        &endpoint_id.map(|id| id.to_string()).unwrap_or_default(),
    ]);
    let endpoints = match location {
        // A location that is not there has no deliveries.
        Some(None) => Vec::new(),
        location => queries::listed(&mut *db, tenant.id, location.flatten(), endpoint_id).await?,
    };
    page(&context, &mut db, &tenant, endpoints, filter, &scope, &PageQuery { limit, cursor }).await
}

pub fn router() -> OpenApiRouter<Context> {
    OpenApiRouter::default().routes(routes!(of_endpoint)).routes(routes!(of_tenant))
}
