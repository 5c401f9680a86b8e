//! Operational events: what happened to a tenant's endpoints, sent to those of its own endpoints that subscribe to it.
//!
//! What happened is noticed in its own transaction (`queue/notices.rs`) and announced here, exactly once: the notice goes in
//! the transaction that stores the events. Each location with a subscriber gets an event of its own. What becomes of these
//! events' deliveries is never announced.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use super::{
    model::milliseconds,
    routing::{Routing, RoutingTable},
};
use crate::{
    db::Pools,
    deliveries, endpoints,
    event_types::operational,
    filters::{self, Subject},
    format_book::FormatBook,
    locations::LocationRef,
    queue::{
        bell::{self, Ring},
        ingest::{self, Ingested, NewDelivery, NewEvent},
        notices::{self, Notice, NoticeKind},
    },
    types::{
        Clock, EndpointId, EventId, LocationId, TenantId, Timestamp,
        event_type::{EventType, is_operational},
    },
};

/// How often notices are looked for while there are none.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Notices announced in one transaction.
const SOME: i64 = 100;

/// Announces until it is stopped.
pub struct Announcer {
    pool: PgPool,
    clock: Clock,
    routing: RoutingTable,
}

/// `data` of the types `posthaste.endpoint.…`.
#[derive(Serialize)]
struct AboutEndpoint<'a> {
    endpoint_id: EndpointId,
    location_id: LocationId,
    name: &'a str,
    url: &'a str,
    status: &'static str,
    status_reason: Option<&'a str>,
    since: Timestamp,
}

/// `data` of `posthaste.delivery.exhausted`.
#[derive(Serialize)]
struct AboutDelivery<'a> {
    event_id: EventId,
    event_type: &'a str,
    endpoint_id: EndpointId,
    location_id: LocationId,
    attempt_count: i64,
    last_response_status: Option<i16>,
    error: Option<&'a str>,
    diagnosis: Option<String>,
}

struct News {
    event_type: &'static str,
    data: Bytes,
}

enum Announced {
    Nothing,
    Some,
    /// A routing table was outdated; nothing was stored.
    Outdated,
}

impl Announcer {
    pub fn new(pools: &Pools, formats: FormatBook) -> Self {
        let routing = RoutingTable::new(pools.tenants.clone(), formats);
        Self { pool: pools.api.pool().clone(), clock: pools.clock.clone(), routing }
    }

    pub async fn run(self, stop: CancellationToken) {
        loop {
            let announced = tokio::select! {
                () = stop.cancelled() => return,
                announced = self.announce() => announced,
            };
            match announced {
                Ok(Announced::Some | Announced::Outdated) => continue,
                Ok(Announced::Nothing) => {}
                Err(error) => tracing::warn!(%error, "operational events wait"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn announce(&self) -> Result<Announced, AnnounceError> {
        let mut transaction = self.pool.begin().await?;
        let notices = notices::take(&mut transaction, SOME).await?;
        if notices.is_empty() {
            return Ok(Announced::Nothing);
        }
        let mut audiences: HashMap<TenantId, Vec<LocationId>> = HashMap::new();
        for notice in &notices {
            if let Entry::Vacant(unknown) = audiences.entry(notice.tenant_id) {
                unknown.insert(notices::audience(&mut *transaction, notice.tenant_id).await?);
            }
        }
        let mut events = Vec::new();
        for notice in &notices {
            let Some(news) = news(&mut transaction, notice).await? else { continue };
            for location in audiences.get(&notice.tenant_id).into_iter().flatten() {
                let place = LocationRef::Id(*location);
                let Some(routing) = self.routing.of(notice.tenant_id, &place).await? else { continue };
                events.extend(self.event(notice, &news, &routing)?);
            }
        }
        let outcomes = ingest::ingest(&mut transaction, &events).await?;
        if outcomes.iter().any(|outcome| *outcome != Ingested::Committed) {
            for event in &events {
                self.routing.forget(event.tenant_id, &LocationRef::Id(event.location_id)).await;
            }
            return Ok(Announced::Outdated);
        }
        transaction.commit().await?;
        let rings = events.iter().flat_map(|event| {
            event.deliveries.iter().map(|delivery| Ring::of_fresh(delivery.endpoint_id, event.id))
        });
        let rings: Vec<Ring> = rings.collect();
        bell::ring(&mut *self.pool.acquire().await?, &rings).await?;
        Ok(Announced::Some)
    }

    /// `None` where nobody at this location asks for it.
    fn event(
        &self,
        notice: &Notice,
        news: &News,
        routing: &Arc<Routing>,
    ) -> Result<Option<NewEvent>, AnnounceError> {
        let event_type =
            EventType::parse(news.event_type).map_err(|error| AnnounceError::Fault(error.to_string()))?;
        let occurred_at = milliseconds(notice.at);
        let subject = || {
            Subject::new(&filters::Event {
                event_type: news.event_type,
                data: std::str::from_utf8(&news.data).unwrap_or("null"),
                channel: None,
                tags: None,
                timestamp: &occurred_at.to_string(),
                live_mode: true,
                location_id: &routing.location_id.to_string(),
                api_version: None,
            })
        };
        let deliveries: Vec<NewDelivery> = routing
            .matching(&event_type, subject)
            .into_iter()
            .map(|endpoint| NewDelivery {
                endpoint_id: endpoint.endpoint_id,
                format_version: endpoint.format_version,
                format: endpoint.format.clone(),
            })
            .collect();
        if deliveries.is_empty() {
            return Ok(None);
        }
        Ok(Some(NewEvent {
            id: self.clock.mint_in(routing.location_id.shard()),
            tenant_id: notice.tenant_id,
            location_id: routing.location_id,
            routing_version: routing.version,
            key_id: None,
            event_type: news.event_type.to_owned(),
            occurred_at,
            channel: None,
            api_version: None,
            live_mode: true,
            tags: None,
            data: news.data.clone(),
            deliveries,
            claim: None,
        }))
    }
}

#[derive(Debug, thiserror::Error)]
enum AnnounceError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Fault(String),
}

/// `None` where what it is about is gone, or is an operational event itself.
async fn news(db: &mut PgConnection, notice: &Notice) -> Result<Option<News>, AnnounceError> {
    let Some(endpoint) = endpoints::queries::find(&mut *db, notice.tenant_id, notice.endpoint_id).await?
    else {
        return Ok(None);
    };
    let data = |text: Result<Vec<u8>, serde_json::Error>| {
        text.map(Bytes::from).map_err(|error| AnnounceError::Fault(error.to_string()))
    };
    let about = |event_type, status, status_reason| {
        let about = AboutEndpoint {
            endpoint_id: endpoint.id,
            location_id: endpoint.location_id,
            name: &endpoint.name,
            url: &endpoint.url,
            status,
            status_reason,
            since: milliseconds(notice.at),
        };
        Ok(Some(News { event_type, data: data(serde_json::to_vec(&about))? }))
    };
    match notice.kind {
        NoticeKind::Failing => {
            about(operational::ENDPOINT_FAILING, "failing", Some(endpoints::FAILING_REASON))
        }
        NoticeKind::Recovered => {
            about(operational::ENDPOINT_RECOVERED, "active", Some("a delivery succeeded"))
        }
        NoticeKind::Disabled => {
            about(operational::ENDPOINT_DISABLED, "disabled", endpoint.disabled_reason.as_deref())
        }
        NoticeKind::Exhausted => {
            let Some(event_id) = notice.event_id else { return Ok(None) };
            let pairs = [(notice.endpoint_id, event_id)];
            let Some(delivery) = deliveries::describe(&mut *db, notice.tenant_id, &pairs).await?.pop() else {
                return Ok(None);
            };
            let (Some(event_type), Some(location_id)) = (&delivery.event_type, delivery.location_id) else {
                return Ok(None);
            };
            if is_operational(event_type) {
                return Ok(None);
            }
            let last =
                deliveries::last_error(&mut *db, notice.tenant_id, notice.endpoint_id, event_id).await?;
            let (error, diagnosis) = last.unzip();
            let about = AboutDelivery {
                event_id,
                event_type,
                endpoint_id: notice.endpoint_id,
                location_id,
                attempt_count: delivery.attempt_count,
                last_response_status: delivery.last_response_status,
                error: error.as_deref(),
                diagnosis,
            };
            Ok(Some(News {
                event_type: operational::DELIVERY_EXHAUSTED,
                data: data(serde_json::to_vec(&about))?,
            }))
        }
    }
}
