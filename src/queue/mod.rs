//! The queue: all of its SQL, and the states of a delivery.
//!
//! ```text
//!                    publish                       2xx
//!   (event, endpoint) ──────▶ queue row ─────────────────────▶ no row; its attempt says succeeded
//!                             │   ▲   │ out of retries, 410      │
//!                  retry: due │   │   ├──────────▶ settled failed │ retry by hand
//!                             └───┘   └──────────▶ settled canceled
//!                               ▲                    │           │
//!                               └────────────────────┴───────────┘
//! ```
//!
//! Guarantees: the identity of a queue row (shard, endpoint, event) never changes, so a success deletes by identity whoever
//! brings it, while a retry or a failure is a compare-and-set on `seq`. Nothing here holds a transaction open across an
//! HTTP request. No statement reads an event's data together with queue rows.
//!
//! Who may write: the API inserts rows, cancels and releases ([`control`]); the owner of a shard finishes ([`finish`]).

pub mod bell;
pub mod control;
pub mod expunge;
pub mod finish;
pub mod handoff;
pub mod ingest;
pub mod notices;
pub mod ownership;
pub mod purge;
pub mod refill;
pub mod requeue;
pub mod stats;
pub mod test_event;

use crate::types::{EndpointId, EventId, Shard, Timestamp};

/// What caused an attempt, and how that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[repr(i16)]
pub enum Cause {
    Scheduled = 0,
    Manual = 1,
    Replay = 2,
    Test = 3,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Manual => "manual",
            Self::Replay => "replay",
            Self::Test => "test",
        }
    }

    pub fn column(self) -> i16 {
        match self {
            Self::Scheduled => 0,
            Self::Manual => 1,
            Self::Replay => 2,
            Self::Test => 3,
        }
    }

    pub fn from_column(column: i16) -> Self {
        match column {
            1 => Self::Manual,
            2 => Self::Replay,
            3 => Self::Test,
            _ => Self::Scheduled,
        }
    }
}

/// One pending delivery as the owner of its shard sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    /// `None`: fresh.
    pub due_at: Option<Timestamp>,
    /// Attempts so far.
    pub seq: i32,
    /// Place on the retry ladder.
    pub step: i16,
    pub format_version: i32,
    pub cause: Cause,
}

impl Row {
    pub fn shard(&self) -> Shard {
        self.endpoint_id.shard()
    }

    pub fn turn(&self) -> Turn {
        Turn { endpoint_id: self.endpoint_id, event_id: self.event_id, seq: self.seq }
    }
}

/// A row at one `seq`: what one attempt is made for, and its result is written against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    pub endpoint_id: EndpointId,
    pub event_id: EventId,
    pub seq: i32,
}
