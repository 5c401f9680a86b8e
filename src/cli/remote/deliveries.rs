//! `deliveries`: what became of an event at an endpoint. Sent headers are shown with `--json` alone: some are secret.

use clap::{Args, Subcommand};

use super::{
    client::Call,
    failure::Outcome,
    session::{PageArgs, Session},
    table::{self, Column, id, number, text, time},
};

const LIST: [Column; 8] = [
    id("event", "/event_id"),
    id("endpoint", "/endpoint_id"),
    text("type", "/event_type"),
    text("status", "/status"),
    number("attempts", "/attempt_count"),
    number("http", "/last_response_status"),
    text("error", "/last_error"),
    time("next attempt", "/next_attempt_at"),
];
pub const OF_EVENT: [Column; 6] = [
    id("endpoint", "/endpoint_id"),
    text("status", "/status"),
    number("attempts", "/attempt_count"),
    number("http", "/last_response_status"),
    text("error", "/last_error"),
    time("next attempt", "/next_attempt_at"),
];
const RECORD: [Column; 12] = [
    id("event", "/event_id"),
    id("endpoint", "/endpoint_id"),
    id("location", "/location_id"),
    text("type", "/event_type"),
    text("url", "/request/url"),
    text("status", "/status"),
    number("attempts", "/attempt_count"),
    number("last response", "/last_response_status"),
    text("last error", "/last_error"),
    time("last attempt", "/last_attempt_at"),
    time("next attempt", "/next_attempt_at"),
    time("created", "/created_at"),
];
pub const ATTEMPTS: [Column; 8] = [
    number("no", "/number"),
    time("at", "/at"),
    text("trigger", "/trigger"),
    text("outcome", "/outcome"),
    number("http", "/response/status"),
    number("ms", "/duration_ms"),
    text("error", "/error"),
    text("diagnosis", "/diagnosis"),
];

#[derive(Subcommand)]
pub enum Command {
    /// List deliveries, newest event first
    #[command(
        after_help = "Examples:\n  posthaste deliveries list --status failed --since 2026-11-20T00:00:00Z\n  posthaste deliveries list --endpoint ep_0193… --all --json | jq -r '.data[].event_id'"
    )]
    List(List),
    /// Show a delivery with every attempt
    #[command(
        after_help = "Examples:\n  posthaste deliveries show evt_0193… ep_0193…\n  posthaste deliveries show evt_0193… ep_0193… --json | jq '.attempts[-1].response'"
    )]
    Show(Pair),
    /// Send now what is pending, or again what has ended
    #[command(after_help = "Example:\n  posthaste deliveries retry evt_0193… ep_0193…")]
    Retry(Pair),
    /// Give up what is pending
    #[command(after_help = "Example:\n  posthaste deliveries cancel evt_0193… ep_0193…")]
    Cancel(Pair),
}

#[derive(Args)]
pub struct List {
    /// To this endpoint
    #[arg(long, value_name = "ENDPOINT_ID")]
    endpoint: Option<String>,
    /// Of this location: its id or your external id
    #[arg(long)]
    location: Option<String>,
    /// pending, held, succeeded, failed or canceled
    #[arg(long)]
    status: Option<String>,
    /// Of events of this type: a name, prefix.* or *
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    /// Of events that were published from then on
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Of events that were published before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

/// A delivery has no id of its own.
#[derive(Args)]
pub struct Pair {
    #[arg(value_name = "EVENT_ID")]
    event: String,
    #[arg(value_name = "ENDPOINT_ID")]
    endpoint: String,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        let call = match &self {
            Self::List(list) => {
                let call = || {
                    Call::get(&["deliveries"])
                        .query("endpoint_id", list.endpoint.as_ref())
                        .query("location_id", list.location.as_ref())
                        .query("status", list.status.as_ref())
                        .query("event_type", list.event_type.as_ref())
                        .query("since", list.since.as_ref())
                        .query("until", list.until.as_ref())
                };
                return session.list(&list.page, &LIST, call).await;
            }
            Self::Show(Pair { event, endpoint }) => Call::get(&["events", event, "deliveries", endpoint]),
            Self::Retry(Pair { event, endpoint }) => {
                Call::post(&["events", event, "deliveries", endpoint, "retry"])
            }
            Self::Cancel(Pair { event, endpoint }) => {
                Call::post(&["events", event, "deliveries", endpoint, "cancel"])
            }
        };
        let answer = session.api.call(call).await?;
        session.print(&answer, || {
            let attempts = answer.value["attempts"].as_array().map_or(&[][..], Vec::as_slice);
            format!("{}\n\n{}", table::record(&RECORD, &answer.value), table::list(&ATTEMPTS, attempts))
        })
    }
}
