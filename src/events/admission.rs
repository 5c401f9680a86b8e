//! How much that is being published may be in memory: bodies are charged from before they are read until they are answered.
//!
//! Beyond it publishers get 503 with `Retry-After`, at once, so that a Postgres that is slow costs callers a repeat, not the
//! process its memory. It doesn't count connections, nor what parsing adds to a body.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequest, Request},
    http::header,
};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{api::EventsState, ingest::overloaded};
use crate::web::{
    ApiError,
    json::{BODY_MAX_BYTES, Body},
};

/// Bodies in memory, together.
const ADMITTED_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Charged at first for a body that doesn't say its length, or is compressed.
const UNKNOWN_BYTES: usize = 64 * 1024;
/// Longest that a body may take to come, since it takes room from others.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
const _: () = assert!(ADMITTED_MAX_BYTES <= u32::MAX as usize, "permits are counted in bytes");

/// Cheap to clone.
#[derive(Clone)]
pub struct Admission(Arc<Semaphore>);

impl Default for Admission {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ADMITTED_MAX_BYTES)))
    }
}

impl Admission {
    fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ApiError> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.0).try_acquire_many_owned(permits).map_err(|_| overloaded())
    }
}

/// A JSON body that there was room for. The room is free again when this is dropped.
pub struct Admitted<const LIMIT_BYTES: usize = BODY_MAX_BYTES> {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl<const LIMIT_BYTES: usize> Admitted<LIMIT_BYTES> {
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<const LIMIT_BYTES: usize> FromRequest<EventsState> for Admitted<LIMIT_BYTES> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &EventsState) -> Result<Self, ApiError> {
        let said = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let said = said.and_then(|length| length.parse().ok()).unwrap_or(UNKNOWN_BYTES);
        let mut room = state.admission.admit(said.min(LIMIT_BYTES))?;
        let reading = Body::from_request(request, state);
        let Body(bytes): Body<LIMIT_BYTES> =
            timeout(BODY_TIMEOUT, reading).await.map_err(|_| ApiError::TooSlow)??;
        let more = bytes.len().saturating_sub(room.num_permits());
        if more > 0 {
            room.merge(state.admission.admit(more)?);
        }
        Ok(Self { bytes, _room: room })
    }
}
