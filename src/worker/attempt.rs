//! One attempt of a delivery: send it while the lease holds, and decide what follows.

use std::sync::Arc;

use super::{
    keeper::Lease,
    retry::{Next, RetryPolicy, decide, sign},
    scheduler::Sign,
};
use crate::{
    egress::Sender,
    endpoints::{
        Target,
        attempt::{self, Occasion},
    },
    formats::Format,
    queue::{
        finish::{Finished, Verdict},
        handoff::Parcel,
    },
    types::{Clock, Timestamp, event_type::is_operational},
};

/// How deliveries of one endpoint in one wire format are sent, and retried. Made once for many attempts.
pub struct Plan {
    pub sending: attempt::Plan,
    policy: RetryPolicy,
}

impl Plan {
    /// `None` where the format can't be signed with the endpoint's secrets.
    pub fn new(target: Arc<Target>, format: Arc<Format>, now: Timestamp) -> Option<Self> {
        let policy = RetryPolicy {
            schedule: target.retry_schedule(&format),
            success: format.success.clone(),
            honor_retry_after: format.honor_retry_after,
            disable_on_410: format.disable_on_410,
        };
        Some(Self { sending: attempt::Plan::new(target, format, now)?, policy })
    }

    pub fn target(&self) -> &Target {
        &self.sending.target
    }
}

/// What came of an attempt.
pub enum Outcome {
    /// Sent, with whatever result.
    Sent { finished: Box<Finished>, next: Next, sign: Sign },
    /// Not sent, or cut off in the middle: the lease has ended. The row stays as it is.
    Cut,
}

/// `at`: see [`Occasion`].
pub async fn attempt(
    sender: &Sender,
    clock: &Clock,
    lease: &Lease,
    plan: &Plan,
    parcel: Parcel,
    at: Timestamp,
) -> Outcome {
    let row = parcel.row;
    let occasion = Occasion {
        event_id: row.event_id,
        number: row.seq.saturating_add(1),
        cause: row.cause,
        format_version: row.format_version,
        at,
    };
    let request = plan.sending.request(&parcel.body, occasion);
    if !lease.holds() {
        return Outcome::Cut;
    }
    let (attempt, observed) = tokio::select! {
        biased;
        sent = request.send(sender, clock) => sent,
        () = lease.ended.cancelled() => return Outcome::Cut,
    };
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
    let finished = Finished {
        endpoint_id: row.endpoint_id,
        event_id: row.event_id,
        tenant_id: plan.target().tenant_id,
        seq: row.seq,
        operational: is_operational(&parcel.body.event_type),
        attempt: Some(attempt),
        verdict,
    };
    Outcome::Sent { finished: Box::new(finished), next, sign: sign(observed, next) }
}
