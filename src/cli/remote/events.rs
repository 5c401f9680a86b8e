//! `events`: publish, and look at what was published.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    batch,
    client::Call,
    deliveries,
    failure::{Failure, Outcome},
    input, jobs,
    session::{PageArgs, Session},
    table::{self, Column, count, id, text, time},
    tail,
};

pub const LIST: [Column; 3] = [time("received", "/created_at"), id("id", "/id"), text("type", "/type")];
const RECORD: [Column; 9] = [
    id("id", "/id"),
    id("location", "/location_id"),
    text("type", "/type"),
    text("channel", "/channel"),
    time("happened", "/timestamp"),
    time("received", "/created_at"),
    text("live mode", "/live_mode"),
    text("api version", "/api_version"),
    text("tags", "/tags"),
];
pub const PUBLISHED: [Column; 4] = [
    id("id", "/id"),
    text("type", "/type"),
    time("happened", "/timestamp"),
    count("deliveries", "/deliveries"),
];

#[derive(Subcommand)]
pub enum Command {
    /// Publish an event, or with --batch many
    #[command(
        after_help = "Examples:\n  posthaste events publish --type message.incoming --data '{\"text\":\"hello\"}'\n  posthaste events publish --type message.incoming --data @message.json --idempotency-key order-17\n  posthaste events publish --batch < events.ndjson\n\nWith --batch each line of the input is an event, such as\n  {\"type\":\"message.incoming\",\"location_id\":\"shop-4\",\"data\":{\"text\":\"hello\"}}\nand --type and --location stand in where a line has none. They go out in batches of up to 1,000, each all or nothing;\nof an idempotency key, the batches get KEY:1, KEY:2, …"
    )]
    Publish(Publish),
    /// List a location's events, newest first
    #[command(after_help = "Example:\n  posthaste events list --location shop-4 --limit 10")]
    List {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show an event with its data and its deliveries
    #[command(after_help = "Example:\n  posthaste events show evt_0193…")]
    Show {
        #[arg(value_name = "EVENT_ID")]
        id: String,
    },
    /// Print a location's events as they arrive, until Ctrl-C
    #[command(
        after_help = "Examples:\n  posthaste events tail\n  posthaste events tail --location shop-4 --json | jq -r .type"
    )]
    Tail {
        #[command(flatten)]
        place: Place,
    },
    /// Send an event again, to the endpoints that it was sent to or to others
    #[command(
        after_help = "Examples:\n  posthaste events replay evt_0193…\n  posthaste events replay evt_0193… --endpoints ep_0193…,ep_0193…"
    )]
    Replay(Replay),
}

#[derive(Args, Serialize)]
pub struct Replay {
    #[arg(value_name = "EVENT_ID")]
    #[serde(skip)]
    id: String,
    /// To these alone [default: those that it was sent to]
    #[arg(long = "endpoints", value_name = "ENDPOINT_ID,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_ids: Option<Vec<String>>,
}

#[derive(Args)]
pub struct Place {
    /// Its id or your external id
    #[arg(long, default_value = "default")]
    location: String,
}

#[derive(Args)]
pub struct Publish {
    #[command(flatten)]
    place: Place,
    /// Type of the event
    #[arg(long = "type", value_name = "TYPE", required_unless_present = "batch")]
    event_type: Option<String>,
    /// JSON, @FILE, or - for standard input [default: -]
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// Makes a repeat safe: the same key publishes once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Many events, one a line (NDJSON)
    #[arg(long)]
    batch: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    // As it was given: a number must not lose digits on the way.
    data: &'a RawValue,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::Publish(publish) if publish.batch => {
                let Publish { place, event_type, data, idempotency_key, .. } = publish;
                let missing = batch::Missing { location: place.location, event_type };
                let mut input = input::open(data.as_deref())?;
                batch::publish(session, &mut *input, &missing, idempotency_key.as_deref()).await
            }
            Self::Publish(publish) => {
                let data = input::read(publish.data.as_deref())?;
                let data = serde_json::from_str(&data)
                    .map_err(|error| Failure::Usage(format!("the data is not JSON: {error}")))?;
                let body = Body { event_type: publish.event_type.as_deref(), data };
                let call = Call::post(&["locations", &publish.place.location, "events"]).body(&body)?;
                session.record(call.idempotency_key(publish.idempotency_key), &PUBLISHED).await
            }
            Self::List { place, page } => session.list(&page, &LIST, || of(&place.location)).await,
            Self::Show { id } => {
                let answer = session.api.call(Call::get(&["events", &id])).await?;
                session.print(&answer, || {
                    let deliveries = answer.value["deliveries"].as_array().map_or(&[][..], Vec::as_slice);
                    format!(
                        "{}\n\ndata\n{}\n\n{}",
                        table::record(&RECORD, &answer.value),
                        table::pretty(&answer.value["data"]),
                        table::list(&deliveries::OF_EVENT, deliveries)
                    )
                })
            }
            Self::Replay(body) => {
                session.record(Call::post(&["events", &body.id, "replay"]).body(&body)?, &jobs::RECORD).await
            }
            Self::Tail { place } => tail::run(session, || of(&place.location)).await,
        }
    }
}

fn of(location: &str) -> Call {
    Call::get(&["locations", location, "events"])
}
