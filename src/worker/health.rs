//! What attempts say about their endpoint, gathered so that a busy endpoint's row is written once a second. Pure.
//!
//! A change of state (failing, recovered, disabled) is written with the very finish that caused it.

use std::collections::{HashMap, HashSet};

use super::retry::Next;
use crate::{
    queue::finish::{Finished, HealthChange},
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
    /// `was_failing`: as far as the sender knew.
    pub fn note(&mut self, finished: &Finished, next: Next, was_failing: bool) {
        let id = finished.endpoint_id;
        let Some(attempt) = &finished.attempt else { return };
        let change = self.pending.entry(id).or_insert_with(|| HealthChange {
            endpoint_id: id,
            success_at: None,
            failure_at: None,
            error: None,
            failing: None,
            disabled: None,
        });
        if let Some((_, detail)) = &attempt.error {
            change.failure_at = later(change.failure_at, attempt.at);
            change.error = Some(detail.clone());
        } else {
            change.success_at = later(change.success_at, attempt.at);
        }
        match next {
            Next::Succeeded => {
                if self.failing.remove(&id) || was_failing || change.failing == Some(true) {
                    change.failing = Some(false);
                    self.urgent.insert(id);
                }
            }
            Next::Exhausted => {
                change.failing = Some(true);
                self.failing.insert(id);
                self.urgent.insert(id);
            }
            Next::Gone => {
                change.disabled = Some("the receiver answered 410 Gone");
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
