//! Attempts as they were sent: rebuilt from what they were sent with, since an attempt stores only version numbers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use sqlx::PgExecutor;

use super::{
    model::{AttemptRequest, AttemptView, Request, ResponseView, TimingsView},
    queries::AttemptRow,
};
use crate::{
    egress::USER_AGENT,
    endpoints::target::{AsSent, History},
    formats::Format,
    queue::refill::{self, EventBody},
    types::{EventId, Timestamp, hex},
    web::ApiError,
};

/// Where the requests of a delivery are rebuilt from; empty where the event's data are gone.
pub struct Rebuild<'a> {
    pub history: &'a History,
    /// By number.
    pub formats: HashMap<i32, Arc<Format>>,
    pub event_id: EventId,
    pub event: Option<EventBody>,
}

impl Rebuild<'_> {
    pub async fn event(db: impl PgExecutor<'_>, event: EventId) -> Result<Option<EventBody>, ApiError> {
        let mut bodies = refill::bodies(db, &[(event.shard(), event)]).await?;
        Ok(bodies.pop().map(|(_, body)| body))
    }

    fn sent(
        &self,
        endpoint_version: i32,
        format_version: i32,
        number: i32,
        at: Timestamp,
    ) -> Option<(AsSent, Bytes)> {
        let format = self.formats.get(&format_version)?;
        let body = self.history.body(format, self.event_id, self.event.as_ref()?);
        let mut sent = self.history.as_sent(endpoint_version, format, self.event_id, number, at, &body)?;
        sent.headers.insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        Some((sent, body))
    }

    /// The request of the latest attempt, or the one that would go out at `now`.
    pub fn request(
        &self,
        latest: Option<&AttemptRow>,
        format_version: i32,
        now: Timestamp,
    ) -> Option<Request> {
        let (sent, body) = match latest {
            Some(row) => self.sent(row.endpoint_version, row.format_version, row.number, row.at)?,
            None => self.sent(i32::MAX, format_version, 1, now)?,
        };
        Some(Request {
            url: sent.url,
            headers: readable(&sent.headers),
            client_certificate_sha256: sent.client_certificate_sha256,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// With the body as it was POSTed.
    pub fn attempt_with_body(&self, row: AttemptRow) -> AttemptView {
        self.view(row, |body| Some(String::from_utf8_lossy(body).into_owned()))
    }

    pub fn attempt(&self, row: AttemptRow) -> AttemptView {
        self.view(row, |_| None)
    }

    fn view(&self, row: AttemptRow, shown: impl FnOnce(&[u8]) -> Option<String>) -> AttemptView {
        let sent = self.sent(row.endpoint_version, row.format_version, row.number, row.at);
        let request = sent.map(|(sent, body)| AttemptRequest {
            url: sent.url,
            headers: readable(&sent.headers),
            client_certificate_sha256: sent.client_certificate_sha256,
            body_sha256: hex(&Sha256::digest(&body)),
            body: shown(&body),
        });
        let response = row.response_status.map(|status| ResponseView {
            status,
            headers: lines(row.response_headers.as_deref().unwrap_or_default()),
            body: String::from_utf8_lossy(row.response_body.as_deref().unwrap_or_default()).into_owned(),
            truncated: row.truncated,
        });
        AttemptView {
            id: row.id,
            number: row.number,
            at: row.at,
            trigger: row.cause.as_str(),
            outcome: if row.succeeded { "succeeded" } else { "failed" },
            error: row.error,
            diagnosis: row.error_detail,
            request,
            response,
            duration_ms: row.duration_ms,
            timings_ms: TimingsView {
                dns: row.dns_ms,
                connect: row.connect_ms,
                tls: row.tls_ms,
                first_byte: row.first_byte_ms,
            },
            remote_addr: row.remote_addr,
        }
    }
}

/// Headers as text, by name.
pub fn readable(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// `name: value` lines; a name that comes again is joined by commas, as HTTP reads it.
fn lines(text: &[u8]) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in String::from_utf8_lossy(text).lines().filter_map(|line| line.split_once(": ")) {
        headers
            .entry(name.to_owned())
            .and_modify(|known| {
                known.push_str(", ");
                known.push_str(value);
            })
            .or_insert_with(|| value.to_owned());
    }
    headers
}
