//! One attempt: render, sign, send, and say what came of it.

use std::{sync::Arc, time::Duration};

use axum::http::header;
use bytes::{BufMut, Bytes, BytesMut};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{
    keeper::Lease,
    retry::{Next, Observed, RetryPolicy, decide},
};
use crate::{
    egress::{Exchange, Outbound, Sender},
    endpoints::Target,
    formats::Format,
    queue::{
        finish::{Attempt, Finished, Response, Verdict},
        handoff::Parcel,
    },
    signing::Signer,
    types::{Clock, Timestamp},
};

/// How deliveries of one endpoint in one wire format are sent. Made once for many attempts.
pub struct Plan {
    pub target: Arc<Target>,
    pub format: Arc<Format>,
    pub signer: Signer,
    pub policy: RetryPolicy,
    pub timeout: Duration,
    /// A secret ends then: the plan is made anew.
    pub until: Option<Timestamp>,
}

impl Plan {
    /// `None` where the format can't be signed with the endpoint's secrets.
    pub fn new(target: Arc<Target>, format: Arc<Format>, now: Timestamp) -> Option<Self> {
        let signer = target.signer(&format, now)?;
        let policy = RetryPolicy {
            schedule: target.retry_schedule(&format),
            success: format.success.clone(),
            honor_retry_after: format.honor_retry_after,
            disable_on_410: format.disable_on_410,
        };
        Some(Self {
            signer,
            policy,
            timeout: target.timeout(&format),
            until: target.next_secret_end(now),
            format,
            target,
        })
    }
}

/// What came of an attempt.
pub enum Outcome {
    /// Sent, with whatever result.
    Sent { finished: Box<Finished>, next: Next },
    /// Not sent, or cut off in the middle: the lease has ended. The row stays as it is.
    Cut,
}

/// `at`: when the plan was chosen, which is when the attempt begins: its signatures are of the secrets that live then.
pub async fn attempt(
    sender: &Sender,
    clock: &Clock,
    lease: &Lease,
    plan: &Plan,
    parcel: Parcel,
    at: Timestamp,
) -> Outcome {
    let row = parcel.row;
    let body = plan.target.body(&plan.format, row.event_id, &parcel.body);
    let number = row.seq.saturating_add(1);
    let headers = plan.target.headers(&plan.signer, row.event_id, number, at, &body);
    if !lease.holds() {
        return Outcome::Cut;
    }
    let exchange = match &plan.target.url {
        None => None,
        Some(url) => {
            let outbound = Outbound { url, headers, body, timeout: plan.timeout };
            tokio::select! {
                biased;
                exchange = sender.post(outbound) => Some(exchange),
                () = lease.ended.cancelled() => return Outcome::Cut,
            }
        }
    };
    let (observed, error, response) = observe(plan, exchange.as_ref(), clock.now());
    let step = u16::try_from(row.step).unwrap_or_default();
    let next = decide(observed, step, &plan.policy, &mut rand::rng());
    let verdict = match next {
        Next::Succeeded => Verdict::Succeeded,
        Next::Retry { after, step } => Verdict::Retry {
            delay_ms: i64::try_from(after.as_micros().div_ceil(1_000)).unwrap_or(i64::MAX),
            step: i16::try_from(step).unwrap_or(i16::MAX),
        },
        Next::Exhausted => Verdict::Failed { reason: "out of retries" },
        Next::Gone => Verdict::Failed { reason: "the receiver answered 410 Gone" },
    };
    let timings = exchange.as_ref().map(|exchange| exchange.timings).unwrap_or_default();
    let ms = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let finished = Finished {
        endpoint_id: row.endpoint_id,
        event_id: row.event_id,
        tenant_id: plan.target.tenant_id,
        seq: row.seq,
        attempt: Some(Attempt {
            id: clock.mint_in(row.shard()),
            at,
            number,
            endpoint_version: plan.target.version,
            format_version: row.format_version,
            cause: row.cause,
            duration_ms: ms(timings.total_ms),
            dns_ms: timings.dns_ms.map(ms),
            connect_ms: timings.connect_ms.map(ms),
            tls_ms: timings.tls_ms.map(ms),
            first_byte_ms: timings.first_byte_ms.map(ms),
            remote_addr: exchange
                .as_ref()
                .and_then(|exchange| exchange.remote_addr)
                .map(|addr| addr.to_string()),
            error,
            response,
        }),
        verdict,
    };
    Outcome::Sent { finished: Box::new(finished), next }
}

type Seen = (Observed, Option<(&'static str, String)>, Option<Response>);

fn observe(plan: &Plan, exchange: Option<&Exchange>, now: Timestamp) -> Seen {
    const REFUSED: &str = "the endpoint's URL is not allowed as a target";
    let Some(exchange) = exchange else {
        return (Observed::NoResponse, Some(("refused_target", REFUSED.to_owned())), None);
    };
    match &exchange.result {
        Err(error) => (Observed::NoResponse, Some((error.class.as_str(), error.detail.to_string())), None),
        Ok(response) => {
            let status = response.status;
            let retry_after = response.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let observed =
                Observed::Response { status, retry_after: retry_after.and_then(|text| wait(text, now)) };
            let error =
                (!plan.policy.success.accepts(status)).then(|| ("response_status", diagnosis(plan, status)));
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

fn diagnosis(plan: &Plan, status: u16) -> String {
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
            plan.format.name
        ),
        _ => format!("the receiver answered {status}, which is not a success"),
    }
}

/// Seconds, or a date.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(text.trim(), &Rfc2822).ok()?;
    Duration::try_from(at - now.datetime()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::parse("2026-11-20T10:00:00Z").unwrap();
        assert_eq!(wait("120", now), Some(Duration::from_secs(120)));
        assert_eq!(wait("Fri, 20 Nov 2026 10:01:30 GMT", now), Some(Duration::from_secs(90)));
        for nothing in ["", "-1", "soon", "Fri, 20 Nov 2026 09:00:00 GMT", "99999999999999999999999"] {
            assert_eq!(wait(nothing, now), None, "{nothing}");
        }
    }
}
