//! What a job looks like, from outside and from within.

use serde::{Deserialize, Serialize};
use utoipa::{ToSchema, openapi::Object};
use uuid::Uuid;

use crate::{
    queue::{control::Command, requeue::Wanted},
    types::{EndpointId, EventId, JobId, TenantId, Timestamp, schema::words},
};

/// What is to be done. Stored as JSON: what older versions wrote must stay readable.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Deliveries to one endpoint whose events were received in a period.
    Recover { endpoint_id: EndpointId, wanted: Wanted, rate_per_s: Option<u32> },
    /// One event to these endpoints, in the order of their ids.
    Replay { event_id: EventId, endpoint_ids: Vec<EndpointId> },
    /// Everything of a tenant, once these commands are obeyed and everybody below the mark has ended.
    Purge { commands: Vec<Command>, mark: Option<i64> },
}

impl Task {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Recover { .. } => "recover",
            Self::Replay { .. } => "replay",
            Self::Purge { .. } => "purge",
        }
    }

    pub fn endpoint_id(&self) -> Option<EndpointId> {
        match self {
            Self::Recover { endpoint_id, .. } => Some(*endpoint_id),
            Self::Replay { .. } | Self::Purge { .. } => None,
        }
    }

    pub fn event_id(&self) -> Option<EventId> {
        match self {
            Self::Replay { event_id, .. } => Some(*event_id),
            Self::Recover { .. } | Self::Purge { .. } => None,
        }
    }
}

/// What [`Task::kind`] says.
pub const KINDS: [&str; 3] = ["recover", "replay", "purge"];
pub const STATUSES: [&str; 4] = ["running", "succeeded", "canceled", "failed"];

pub fn kind_schema() -> Object {
    words(
        "What it does: `recover`, deliveries to one endpoint again; `replay`, one event again; `purge`, everything of a deleted tenant away.",
        KINDS,
    )
}

pub fn status_schema() -> Object {
    words("Where it is.", STATUSES)
}

/// Work that takes longer than a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct Job {
    pub id: JobId,
    #[schema(schema_with = kind_schema)]
    pub kind: String,
    #[schema(schema_with = status_schema)]
    pub status: String,
    /// The endpoint that is recovered.
    pub endpoint_id: Option<EndpointId>,
    /// The event that is replayed.
    pub event_id: Option<EventId>,
    /// How many there were to do when the job was made.
    #[schema(minimum = 0, examples(120))]
    pub total: i64,
    /// How many are done. What was pending by the time that the job came to it was left alone, and is not counted.
    #[schema(minimum = 0, examples(40))]
    pub done: i64,
    /// Why it did not succeed.
    pub error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// A job at work.
#[derive(Debug)]
pub struct Running {
    pub tenant_id: TenantId,
    pub id: JobId,
    pub task: serde_json::Value,
    pub cursor: Option<Uuid>,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct Progress {
    /// How far the job is now.
    pub cursor: Option<Uuid>,
    pub done: i64,
    /// Whose owner is to be told of new rows.
    pub rung: Vec<EndpointId>,
    /// What is to be done from now on, where that has changed.
    pub task: Option<Task>,
    pub next: Next,
}

#[derive(Debug, Default)]
pub enum Next {
    /// A further step, as soon as the rate allows for it.
    #[default]
    Step,
    /// A further step, after this many units at this rate.
    Paced {
        per_s: u32,
    },
    /// A further step in a moment: the job waits for others.
    Wait,
    Succeeded,
    Failed(&'static str),
}
