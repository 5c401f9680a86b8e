//! The deliveries of one endpoint, or of all that a tenant has, newest event first (and by endpoint, where an event went to
//! several): merged from what each endpoint has.
//!
//! Guarantees: a page looks at no more than [`SCAN_MAX`] deliveries, and, where there are many endpoints, at no more than
//! [`LANE_DAYS_MAX`] daily partitions in all; what filters leave of them is the page. A filter is judged on what is shown.
//!
//! Of many endpoints first the newest delivery of each is read. Only endpoints whose newest is among the newest of all can
//! have a part in the page, and only with deliveries that are not older than the oldest of these.

use std::collections::HashMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    model::Delivery,
    queries::{self, Lane, Places},
};
use crate::{
    types::{EndpointId, EventId, TenantId, Timestamp, event_type::Pattern},
    web::{
        filter::{IdRange, above, below},
        page::{Chunk, Keyset, Source},
    },
};

/// Deliveries that are looked at for one page.
pub const SCAN_MAX: u16 = 1_000;
/// Daily partitions that are looked into for one page, summed over the endpoints.
const LANE_DAYS_MAX: usize = 5_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// Event and endpoint.
type Key = (Uuid, Uuid);

/// Which deliveries a list shows.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub status: Option<&'static str>,
    pub event_type: Option<Pattern>,
    pub range: Option<IdRange>,
}

impl Wanted {
    fn places(&self) -> Places {
        let nowhere = Places::default();
        match self.status {
            None => Places { queue: true, settled: true, attempts: true },
            Some("pending" | "held") => Places { queue: true, ..nowhere },
            Some("succeeded") => Places { attempts: true, ..nowhere },
            Some(_) => Places { settled: true, ..nowhere },
        }
    }

    /// Whether what is found may be left out.
    fn judges(&self) -> bool {
        self.status.is_some() || self.event_type.is_some()
    }

    fn shows(&self, delivery: &Delivery) -> bool {
        let type_fits = |pattern: &Pattern| {
            delivery.event_type.as_ref().is_some_and(|event_type| pattern.matches_name(event_type))
        };
        self.status.is_none_or(|status| status == delivery.status)
            && self.event_type.as_ref().is_none_or(type_fits)
    }
}

pub struct Walk<'a> {
    pub db: &'a mut PgConnection,
    pub tenant: TenantId,
    pub endpoints: Vec<EndpointId>,
    pub wanted: Wanted,
    pub now: Timestamp,
    /// Nothing but what waits is older.
    pub oldest: Timestamp,
}

impl Source for Walk<'_> {
    type Row = Delivery;
    type Edge = Key;

    async fn read(&mut self, keyset: Keyset<Key>) -> sqlx::Result<Chunk<Delivery, Key>> {
        let mut fetch = usize::try_from(keyset.fetch()).unwrap_or_default();
        if self.wanted.judges() {
            // To find out whose deliveries are the newest costs as much as to look at one of each.
            fetch = fetch.max(self.endpoints.len()).min(usize::from(SCAN_MAX));
        }
        let slice = self.slice(keyset);
        let lanes = self.lanes(keyset, slice);
        let keys = self.nearest(lanes, keyset.backwards, fetch).await?;
        let beyond = match keys.last() {
            Some((event, endpoint)) if keys.len() >= fetch => Some((event.uuid(), endpoint.uuid())),
            _ if keyset.backwards => slice.map(|end| (below(end), Uuid::max())),
            _ => slice.map(|end| (end, Uuid::nil())),
        };
        let pairs: Vec<_> = keys.iter().map(|(event, endpoint)| (*endpoint, *event)).collect();
        let described = queries::describe(&mut *self.db, self.tenant, &pairs).await?;
        // One that was purged between the two reads is missing here.
        let mut known: HashMap<_, _> =
            described.into_iter().map(|one| ((one.event_id, one.endpoint_id), one)).collect();
        let row = |key: (EventId, EndpointId)| {
            let delivery = known.remove(&key).filter(|delivery| self.wanted.shows(delivery));
            ((key.0.uuid(), key.1.uuid()), delivery)
        };
        Ok(Chunk { rows: keys.into_iter().map(row).collect(), beyond })
    }
}

impl Walk<'_> {
    fn range(&self) -> IdRange {
        self.wanted.range.unwrap_or(IdRange { after: Uuid::nil(), before: Uuid::max() })
    }

    /// Where this page ends however little was found: with many endpoints, after a few days.
    fn slice(&self, keyset: Keyset<Key>) -> Option<Uuid> {
        let places = self.wanted.places();
        if !places.settled && !places.attempts {
            return None;
        }
        let day = |id: Uuid| (id.as_u128() >> 80) as u64 / DAY_MS;
        let first_of = |day: u64| Uuid::from_u128(u128::from(day * DAY_MS) << 80);
        let days = (LANE_DAYS_MAX / self.endpoints.len().max(1)).max(1) as u64;
        let (range, now, oldest) = (self.range(), self.now.lowest_id(), self.oldest.lowest_id());
        if keyset.backwards {
            let end = first_of(day(keyset.edge.0.max(range.after).max(oldest)) + days);
            (end < now && end < range.before).then_some(end)
        } else {
            let end = first_of((day(keyset.edge.0.min(range.before).min(now)) + 1).saturating_sub(days));
            (end > oldest && end > range.after).then_some(end)
        }
    }

    /// What each endpoint has beyond the edge, within the slice.
    fn lanes(&self, keyset: Keyset<Key>, slice: Option<Uuid>) -> Vec<Lane> {
        let (event, endpoint) = keyset.edge;
        let lane = |id: &EndpointId| {
            let mut range = self.range();
            if keyset.backwards {
                let edge = if id.uuid() > endpoint { below(event) } else { event };
                range.after = range.after.max(edge);
                range.before = slice.map_or(range.before, |end| range.before.min(end));
            } else {
                let edge = if id.uuid() < endpoint { above(event) } else { event };
                range.before = range.before.min(edge);
                range.after = slice.map_or(range.after, |end| range.after.max(below(end)));
            }
            (!range.is_empty()).then_some(Lane { endpoint_id: *id, range })
        };
        self.endpoints.iter().filter_map(lane).collect()
    }

    /// The nearest deliveries of all lanes together, nearest first.
    async fn nearest(
        &mut self,
        mut lanes: Vec<Lane>,
        backwards: bool,
        fetch: usize,
    ) -> sqlx::Result<Vec<(EventId, EndpointId)>> {
        let places = self.wanted.places();
        let sorted = |mut keys: Vec<(EventId, EndpointId)>| {
            keys.sort_unstable();
            if !backwards {
                keys.reverse();
            }
            keys.truncate(fetch);
            keys
        };
        if lanes.len() > 1 {
            let heads = sorted(queries::nearest(&mut *self.db, &lanes, places, backwards, 1).await?);
            let last = heads.last().filter(|_| heads.len() >= fetch).map(|(event, _)| event.uuid());
            let heads: HashMap<EndpointId, EventId> =
                heads.into_iter().map(|(event, endpoint)| (endpoint, event)).collect();
            lanes.retain(|lane| heads.contains_key(&lane.endpoint_id));
            for range in lanes.iter_mut().map(|lane| &mut lane.range) {
                match last {
                    Some(last) if backwards => range.before = range.before.min(above(last)),
                    Some(last) => range.after = range.after.max(below(last)),
                    None => {}
                }
            }
        }
        if lanes.is_empty() {
            return Ok(Vec::new());
        }
        let of_each = i64::try_from(fetch).unwrap_or(i64::MAX);
        Ok(sorted(queries::nearest(&mut *self.db, &lanes, places, backwards, of_each).await?))
    }
}
