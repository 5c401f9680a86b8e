//! What attempts say about their endpoint, gathered so that a busy endpoint's row is written once a second. Pure.
//!
//! A change of state (failing, recovered, disabled) is written with the very finish that caused it.

use std::collections::{HashMap, HashSet};

use super::retry::Next;
use crate::{
    egress::ErrorClass,
    queue::finish::{Finished, HealthChange, Throttle},
    types::{EndpointId, Timestamp},
};

/// Time between two writes of one endpoint's row, microseconds.
const WRITE_EVERY_US: i64 = 1_000_000;

#[derive(Default)]
pub struct Health {
    pending: HashMap<EndpointId, HealthChange>,
    urgent: HashSet<EndpointId>,
    written_at: HashMap<EndpointId, i64>,
    failing: HashSet<EndpointId>,
}

impl Health {
    /// `was_failing`: as far as the sender knew. `throttle`: where it has changed.
    pub fn note(&mut self, finished: &Finished, next: Next, was_failing: bool, throttle: Option<Throttle>) {
        let id = finished.endpoint_id;
        let Some(attempt) = &finished.attempt else { return };
        let change = self.pending.entry(id).or_insert_with(|| HealthChange {
            endpoint_id: id,
            success_at: None,
            failure_at: None,
            error: None,
            failing: None,
            disabled: None,
            throttle: None,
            told: false,
        });
        change.throttle = throttle.or(change.throttle);
        match &attempt.error {
            None => change.success_at = later(change.success_at, attempt.at),
            // Says nothing of the endpoint.
            Some((class, _)) if *class == ErrorClass::Local.as_str() => {}
            Some((_, detail)) => {
                change.failure_at = later(change.failure_at, attempt.at);
                change.error = Some(detail.clone());
            }
        }
        match next {
            Next::Succeeded => {
                if self.failing.remove(&id) || was_failing || change.failing == Some(true) {
                    change.failing = Some(false);
                    change.told |= !finished.operational;
                    self.urgent.insert(id);
                }
            }
            Next::Exhausted => {
                change.failing = Some(true);
                change.told |= !finished.operational;
                self.failing.insert(id);
                self.urgent.insert(id);
            }
            Next::Gone => {
                change.disabled = Some("the receiver answered 410 Gone");
                change.told |= !finished.operational;
                self.urgent.insert(id);
            }
            Next::Retry { .. } => {}
        }
    }

    /// What is to be written now.
    pub fn due(&mut self, now_us: i64) -> Vec<HealthChange> {
        let due: Vec<EndpointId> = self
            .pending
            .keys()
            .filter(|id| {
                self.urgent.contains(id)
                    || self.written_at.get(id).is_none_or(|at| now_us - at >= WRITE_EVERY_US)
            })
            .copied()
            .collect();
        self.written_at.retain(|_, at| now_us - *at < WRITE_EVERY_US);
        for id in &due {
            self.urgent.remove(id);
            self.written_at.insert(*id, now_us);
        }
        due.iter().filter_map(|id| self.pending.remove(id)).collect()
    }

    /// Everything that is left, at the end.
    pub fn rest(&mut self) -> Vec<HealthChange> {
        self.pending.drain().map(|(_, change)| change).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

fn later(known: Option<Timestamp>, at: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(at, |known| known.max(at)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        queue::{
            Cause,
            finish::{Attempt, Verdict},
        },
        types::{EventId, TenantId},
    };

    const RETRY: Next = Next::Retry { after: Duration::from_secs(10), step: 1 };

    fn endpoint(number: u128) -> EndpointId {
        uuid::Uuid::from_u128(number).into()
    }

    fn result(endpoint_id: EndpointId, at_s: i64, error: Option<&str>) -> Finished {
        let id = uuid::Uuid::nil();
        let attempt = Attempt {
            id: id.into(),
            at: Timestamp::from_unix_us(at_s * 1_000_000),
            number: 1,
            endpoint_version: 1,
            format_version: 1,
            cause: Cause::Scheduled,
            duration_ms: 1,
            dns_ms: None,
            connect_ms: None,
            tls_ms: None,
            first_byte_ms: None,
            remote_addr: None,
            error: error.map(|detail| ("timeout", detail.to_owned())),
            response: None,
        };
        Finished {
            endpoint_id,
            event_id: EventId::from_uuid(id),
            tenant_id: TenantId::from_uuid(id),
            seq: 0,
            operational: false,
            attempt: Some(attempt),
            verdict: Verdict::Succeeded,
        }
    }

    #[test]
    fn a_busy_endpoint_is_written_once_a_second_with_what_came_last() {
        let (mut health, one) = (Health::default(), endpoint(1));
        health.note(&result(one, 1, None), Next::Succeeded, false, None);
        assert_eq!(health.due(0).len(), 1);
        for at_s in [5, 3, 4] {
            health.note(&result(one, at_s, None), Next::Succeeded, false, None);
        }
        health.note(&result(one, 2, Some("too late")), RETRY, false, None);
        assert!(health.due(WRITE_EVERY_US - 1).is_empty() && !health.is_empty());
        let due = health.due(WRITE_EVERY_US).pop().unwrap();
        assert_eq!(due.success_at.unwrap().unix_s(), 5);
        assert_eq!((due.failure_at.unwrap().unix_s(), due.error.as_deref()), (2, Some("too late")));
        assert_eq!((due.failing, due.disabled), (None, None));
        assert!(health.is_empty());
    }

    #[test]
    fn a_change_of_state_is_written_at_once() {
        let (mut health, one) = (Health::default(), endpoint(1));
        health.note(&result(one, 1, None), Next::Succeeded, false, None);
        assert_eq!(health.due(0).len(), 1);
        health.note(&result(one, 2, Some("no")), Next::Exhausted, false, None);
        assert_eq!(health.due(1)[0].failing, Some(true));
        health.note(&result(one, 3, Some("no")), RETRY, false, None);
        assert!(health.due(2).is_empty(), "a retry is no news");
        health.note(&result(one, 4, None), Next::Succeeded, false, None);
        assert_eq!(health.due(3)[0].failing, Some(false), "the sender did not know that it was failing");
        health.note(&result(one, 5, Some("gone")), Next::Gone, false, None);
        assert!(health.due(4)[0].disabled.is_some());
    }

    #[test]
    fn what_is_said_last_of_the_breaker_is_written() {
        let (mut health, one) = (Health::default(), endpoint(1));
        let until =
            |at_s: i64| Throttle { until: Some(Timestamp::from_unix_us(at_s * 1_000_000)), resets: 3 };
        health.note(&result(one, 1, Some("no")), RETRY, false, Some(until(2)));
        health.note(&result(one, 2, Some("no")), RETRY, false, None);
        assert_eq!(health.due(0)[0].throttle, Some(until(2)));
        health.note(&result(one, 3, Some("no")), RETRY, false, Some(until(5)));
        let closed = Throttle { until: None, resets: 3 };
        health.note(&result(one, 4, None), Next::Succeeded, false, Some(closed));
        assert_eq!(health.due(WRITE_EVERY_US)[0].throttle, Some(closed));
        health.note(&result(one, 5, None), Next::Succeeded, false, None);
        assert_eq!(health.due(3 * WRITE_EVERY_US)[0].throttle, None, "no news");
    }

    #[test]
    fn what_came_last_of_a_batch_decides() {
        let (mut health, one, two) = (Health::default(), endpoint(1), endpoint(2));
        health.note(&result(one, 1, Some("no")), Next::Exhausted, false, None);
        health.note(&result(one, 2, None), Next::Succeeded, false, None);
        health.note(&result(two, 1, None), Next::Succeeded, true, None);
        health.note(&result(two, 2, Some("no")), Next::Exhausted, true, None);
        let mut due = health.due(0);
        due.sort_unstable_by_key(|change| change.endpoint_id);
        assert_eq!(due.iter().map(|change| change.failing).collect::<Vec<_>>(), [Some(false), Some(true)]);
    }

    #[test]
    fn deliveries_that_ended_without_an_attempt_say_nothing_of_their_endpoint() {
        let mut health = Health::default();
        health.note(
            &Finished { attempt: None, ..result(endpoint(1), 1, None) },
            Next::Exhausted,
            false,
            None,
        );
        assert!(health.is_empty());
    }
}
