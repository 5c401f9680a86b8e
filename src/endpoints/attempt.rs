//! One POST to an endpoint, of a delivery or of a test: render, sign, send, and say what came of it. What follows from that
//! is for the caller to decide.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, header};
use bytes::{BufMut, Bytes, BytesMut};
use time::OffsetDateTime;

use super::target::{Target, Unusable};
use crate::{
    egress::{ClientIdentity, ErrorClass, Exchange, Outbound, Sender},
    formats::Format,
    queue::{
        Cause,
        finish::{Attempt, Response},
        refill::EventBody,
    },
    signing::Signer,
    telemetry::metrics::metrics,
    types::{Clock, EventId, Timestamp},
};

/// How an endpoint is sent to in one wire format. Made once for many attempts.
pub struct Plan {
    pub target: Arc<Target>,
    pub format: Arc<Format>,
    signer: Signer,
    timeout: Duration,
    /// A secret ends then: the plan is made anew.
    pub until: Option<Timestamp>,
}

/// Which attempt it is. `at`: when the plan was chosen, which is when the attempt begins: its signatures are of the secrets
/// that live then.
#[derive(Clone, Copy, Debug)]
pub struct Occasion {
    pub event_id: EventId,
    pub number: i32,
    pub cause: Cause,
    pub format_version: i32,
    pub at: Timestamp,
}

/// What the receiver did, as far as anybody decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    Response {
        status: u16,
        retry_after: Option<Duration>,
    },
    /// Refused, unreachable, too late, cut off.
    NoResponse,
    /// Nothing was sent, and that is our own fault.
    NotTried,
}

/// A request that is ready to go.
pub struct Request<'a> {
    plan: &'a Plan,
    occasion: Occasion,
    headers: HeaderMap,
    body: Bytes,
}

impl Plan {
    /// `None` where the format can't be signed with the endpoint's secrets.
    pub fn new(target: Arc<Target>, format: Arc<Format>, now: Timestamp) -> Option<Self> {
        Some(Self {
            signer: target.signer(&format, now)?,
            timeout: target.timeout(&format),
            until: target.next_secret_end(now),
            format,
            target,
        })
    }

    pub fn request(&self, event: &EventBody, occasion: Occasion) -> Request<'_> {
        let Occasion { event_id, number, at, .. } = occasion;
        let body = self.target.body(&self.format, event_id, event);
        let headers = self.target.headers(&self.signer, event_id, number, at, &body);
        Request { plan: self, occasion, headers, body }
    }
}

impl Request<'_> {
    /// Sends, and waits for what comes of it.
    pub async fn send(self, sender: &Sender, clock: &Clock) -> (Attempt, Observed) {
        let Self { plan, occasion, headers, body } = self;
        let exchange = match (&plan.target.url, &plan.target.identity) {
            (None, _) => Err(URL_REFUSED),
            // Never without it: who gets the request would not know who has sent it.
            (_, Err(Unusable)) => Err(CERTIFICATE_UNUSABLE),
            (Some(url), Ok(identity)) => {
                let (identity, timeout) = (identity.as_ref(), plan.timeout);
                Ok(sender.post(Outbound { url, identity, headers, body, timeout }).await)
            }
        };
        let now = clock.now();
        let (observed, mut error, response) = observe(&plan.format, exchange.as_ref(), now);
        if let (Some((class, detail)), Ok(Some(identity))) = (&mut error, &plan.target.identity) {
            detail.push_str(&expired(class, identity, now));
        }
        let exchange = exchange.ok();
        let timings = exchange.as_ref().map(|exchange| exchange.timings).unwrap_or_default();
        metrics()
            .attempt(error.as_ref().map(|(class, _)| *class), Duration::from_millis(timings.total_ms.into()));
        let ms = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let remote_addr = exchange.as_ref().and_then(|exchange| exchange.remote_addr);
        let attempt = Attempt {
            id: clock.mint_in(plan.target.endpoint_id.shard()),
            at: occasion.at,
            number: occasion.number,
            endpoint_version: plan.target.version,
            format_version: occasion.format_version,
            cause: occasion.cause,
            duration_ms: ms(timings.total_ms),
            dns_ms: timings.dns_ms.map(ms),
            connect_ms: timings.connect_ms.map(ms),
            tls_ms: timings.tls_ms.map(ms),
            first_byte_ms: timings.first_byte_ms.map(ms),
            remote_addr: remote_addr.map(|addr| addr.to_string()),
            error,
            response,
        };
        (attempt, observed)
    }
}

/// The class of an answer that is no success.
const RESPONSE_STATUS: &str = "response_status";

type Seen = (Observed, Option<(&'static str, String)>, Option<Response>);

/// Why nothing was sent: class and sentence.
type NotSent = (ErrorClass, &'static str);
const URL_REFUSED: NotSent = (ErrorClass::RefusedTarget, "the endpoint's URL is not allowed as a target");
const CERTIFICATE_UNUSABLE: NotSent =
    (ErrorClass::Tls, "the endpoint's client certificate can't be used any more: give it a new one");

fn observe(format: &Format, exchange: Result<&Exchange, &NotSent>, now: Timestamp) -> Seen {
    let exchange = match exchange {
        Ok(exchange) => exchange,
        Err((class, detail)) => {
            return (Observed::NoResponse, Some((class.as_str(), (*detail).to_owned())), None);
        }
    };
    match &exchange.result {
        Err(error) => {
            let observed = match error.class {
                ErrorClass::Local => Observed::NotTried,
                _ => Observed::NoResponse,
            };
            (observed, Some((error.class.as_str(), error.detail.to_string())), None)
        }
        Ok(response) => {
            let status = response.status;
            let retry_after = response.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let observed =
                Observed::Response { status, retry_after: retry_after.and_then(|text| wait(text, now)) };
            let error =
                (!format.success.accepts(status)).then(|| (RESPONSE_STATUS, diagnosis(format, status)));
            let mut headers = BytesMut::new();
            for (name, value) in &response.headers {
                headers.put_slice(name.as_str().as_bytes());
                headers.put_slice(b": ");
                headers.put_slice(value.as_bytes());
                headers.put_u8(b'\n');
            }
            let kept = Response {
                status: i16::try_from(status).unwrap_or_default(),
                headers: headers.freeze(),
                body: Bytes::clone(&response.body),
                truncated: response.truncated,
            };
            (observed, error, Some(kept))
        }
    }
}

fn diagnosis(format: &Format, status: u16) -> String {
    match status {
        300..=399 => format!(
            "the receiver answered {status}, a redirect: these are not followed, so the URL must be the final one"
        ),
        401 | 403 => format!(
            "the receiver answered {status}: it does not accept the request's credentials or signature"
        ),
        404 => "the receiver answered 404: nothing listens at this URL's path".to_owned(),
        410 => "the receiver answered 410 Gone: it wants no more deliveries".to_owned(),
        429 => "the receiver answered 429: it is asked too often".to_owned(),
        500..=599 => format!("the receiver answered {status}: it failed"),
        200..=299 => format!(
            "the receiver answered {status}, and the wire format {} takes other statuses as success",
            format.name
        ),
        _ => format!("the receiver answered {status}, which is not a success"),
    }
}

/// What is added to the diagnosis where our own certificate may be why: receivers refuse it in the handshake, cut the connection
/// or answer that they know nobody.
fn expired(class: &str, identity: &ClientIdentity, now: Timestamp) -> String {
    let suspicious = [ErrorClass::Tls.as_str(), ErrorClass::Reset.as_str(), RESPONSE_STATUS];
    if suspicious.contains(&class) && identity.facts().has_expired(now.datetime()) {
        let not_after = Timestamp::from(identity.facts().not_after);
        format!("; the endpoint's client certificate has expired ({not_after})")
    } else {
        String::new()
    }
}

/// Seconds, or a date in one of the three forms that HTTP has had.
pub(super) fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::from(httpdate::parse_http_date(text.trim()).ok()?);
    Duration::try_from(at - now.datetime()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        for date in
            ["Fri, 20 Nov 2026 10:01:30 GMT", "Friday, 20-Nov-26 10:01:30 GMT", "Fri Nov 20 10:01:30 2026"]
        {
            assert_eq!(wait(date, now), Some(Duration::from_secs(90)), "{date}");
        }
        for nothing in ["", "-1", "soon", "Fri, 20 Nov 2026 09:00:00 GMT", "99999999999999999999999"] {
            assert_eq!(wait(nothing, now), None, "{nothing}");
        }
    }
}
