//! How much that is being published may be in memory: bodies are charged from before they are read until they are answered.
//!
//! Beyond it publishers get 503 with `Retry-After`, at once, so that a Postgres that is slow costs callers a repeat, not the
//! process its memory. One tenant has a quarter at most, so that whoever sends many bodies slowly keeps out nobody else. It
//! doesn't count connections, nor what parsing adds to a body.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::header,
};
use bytes::Bytes;
use tokio::time::timeout;

use super::{api::EventsState, ingest::overloaded};
use crate::{
    auth::Publisher,
    types::TenantId,
    web::{
        ApiError,
        json::{BODY_MAX_BYTES, Body},
    },
};

/// Bodies in memory, together.
const ADMITTED_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Of them, those of one tenant.
const TENANT_MAX_BYTES: usize = ADMITTED_MAX_BYTES / 4;
/// Charged at first for a body that doesn't say its length, or is compressed.
const UNKNOWN_BYTES: usize = 64 * 1024;
/// Longest that a body may take to come, since it takes room from others.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Admission(Arc<Mutex<Rooms>>);

#[derive(Default)]
struct Rooms {
    taken_bytes: usize,
    of_tenants: HashMap<TenantId, usize>,
}

impl Rooms {
    /// Whether there was room.
    fn take(&mut self, tenant: TenantId, bytes: usize) -> bool {
        let of_tenant = self.of_tenants.get(&tenant).copied().unwrap_or_default() + bytes;
        let fits = self.taken_bytes + bytes <= ADMITTED_MAX_BYTES && of_tenant <= TENANT_MAX_BYTES;
        if fits {
            self.taken_bytes += bytes;
            self.of_tenants.insert(tenant, of_tenant);
        }
        fits
    }

    fn give(&mut self, tenant: TenantId, bytes: usize) {
        self.taken_bytes -= bytes;
        if let Some(of_tenant) = self.of_tenants.get_mut(&tenant) {
            *of_tenant -= bytes;
            if *of_tenant == 0 {
                self.of_tenants.remove(&tenant);
            }
        }
    }
}

/// What one request has taken. It is given back when this is dropped.
struct Room {
    admission: Admission,
    tenant: TenantId,
    bytes: usize,
}

impl Room {
    fn grow_to(&mut self, bytes: usize) -> Result<(), ApiError> {
        let more = bytes.saturating_sub(self.bytes);
        let mut rooms = self.admission.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !rooms.take(self.tenant, more) {
            return Err(overloaded());
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.admission.0.lock().unwrap_or_else(PoisonError::into_inner).give(self.tenant, self.bytes);
    }
}

/// Whoever may publish, and a JSON body that there was room for.
pub struct Admitted<const LIMIT_BYTES: usize = BODY_MAX_BYTES> {
    pub publisher: Publisher,
    pub bytes: Bytes,
    _room: Room,
}

impl<const LIMIT_BYTES: usize> FromRequest<EventsState> for Admitted<LIMIT_BYTES> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &EventsState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let publisher = Publisher::from_request_parts(&mut parts, state).await?;
        let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let said: usize = said.and_then(|length| length.parse().ok()).unwrap_or(UNKNOWN_BYTES);
        let mut room = Room { admission: state.admission.clone(), tenant: publisher.id, bytes: 0 };
        room.grow_to(said.min(LIMIT_BYTES))?;
        let reading = Body::from_request(Request::from_parts(parts, body), state);
        let Body(bytes): Body<LIMIT_BYTES> =
            timeout(BODY_TIMEOUT, reading).await.map_err(|_| ApiError::TooSlow)??;
        room.grow_to(bytes.len())?;
        Ok(Self { publisher, bytes, _room: room })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_tenant_has_a_quarter_and_all_have_the_whole() {
        let tenant = |n: u128| TenantId::from(Uuid::from_u128(n));
        let mut rooms = Rooms::default();
        assert!(rooms.take(tenant(1), TENANT_MAX_BYTES));
        assert!(!rooms.take(tenant(1), 1), "its part is full");
        for n in 2..=4 {
            assert!(rooms.take(tenant(n), TENANT_MAX_BYTES));
        }
        assert!(!rooms.take(tenant(5), 1), "all is full");
        rooms.give(tenant(1), TENANT_MAX_BYTES);
        assert!(rooms.take(tenant(5), 1) && rooms.take(tenant(1), 1));
        assert_eq!(rooms.of_tenants.len(), 5);
        rooms.give(tenant(5), 1);
        assert_eq!(rooms.of_tenants.len(), 4, "nothing is kept of whoever is done");
    }
}
