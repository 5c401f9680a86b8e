//! How much that is being published may be in memory: bodies are charged as they arrive (unpacked, where they were compressed)
//! until they are answered. What somebody only says to send takes no room.
//!
//! Beyond it publishers get 503 with `Retry-After`, at once, so that a Postgres that is slow costs callers a repeat, not the
//! process its memory. One tenant has a quarter at most, so that whoever sends many bodies slowly keeps out nobody else. It
//! doesn't count connections, nor what parsing adds to a body.

use std::{
    collections::HashMap,
    error::Error,
    iter,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    RequestExt,
    extract::{FromRequest, FromRequestParts, Request},
};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, LengthLimitError};
use tokio::time::timeout;

use super::{api::EventsState, ingest::overloaded};
use crate::{
    auth::Publisher,
    types::TenantId,
    web::{
        ApiError,
        json::{self, BODY_MAX_BYTES},
    },
};

/// Bodies in memory, together.
const ADMITTED_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Of them, those of one tenant.
const TENANT_MAX_BYTES: usize = ADMITTED_MAX_BYTES / 4;
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
    fn grow(&mut self, more: usize) -> Result<(), ApiError> {
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
        json::readable(&parts.headers)?;
        let mut room = Room { admission: state.admission.clone(), tenant: publisher.id, bytes: 0 };
        let reading = read::<LIMIT_BYTES>(Request::from_parts(parts, body), &mut room);
        let bytes = timeout(BODY_TIMEOUT, reading)
            .await
            .map_err(|_| ApiError::TooSlow { limit_s: BODY_TIMEOUT.as_secs() })??;
        Ok(Self { publisher, bytes, _room: room })
    }
}

/// The whole body, in the room that it takes. `LIMIT_BYTES` is what the route's layer allows.
async fn read<const LIMIT_BYTES: usize>(request: Request, room: &mut Room) -> Result<Bytes, ApiError> {
    let mut body = request.into_limited_body();
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unread::<LIMIT_BYTES>(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        room.grow(data.len())?;
        // Most bodies come in one piece.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Why the rest of a body is not to be had.
fn unread<const LIMIT_BYTES: usize>(error: &axum::Error) -> ApiError {
    let mut causes = iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
    json::cut_short(causes.any(|cause| cause.is::<LengthLimitError>()), LIMIT_BYTES)
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
