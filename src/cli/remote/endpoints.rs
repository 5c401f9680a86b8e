//! `endpoints`: where events are sent. The values of custom headers are shown with `--json` alone.

mod fields;

use clap::{Args, Subcommand};
use reqwest::Method;

use self::fields::{Create, Recover, Rotate, Test, Update};
use super::{
    client::Call,
    deliveries,
    failure::{Failure, Outcome},
    input, jobs,
    session::{PageArgs, Session, patch},
    table::{self, Column, id, names, number, once, text, time},
};

const LIST: [Column; 6] = [
    id("id", "/id"),
    text("name", "/name"),
    text("status", "/status"),
    number("pending", "/pending_count"),
    text("url", "/url"),
    text("event types", "/event_types"),
];
const RECORD: [Column; 25] = [
    id("id", "/id"),
    id("location", "/location_id"),
    text("name", "/name"),
    text("url", "/url"),
    text("event types", "/event_types"),
    text("status", "/status"),
    text("reason", "/status_reason"),
    text("format", "/format"),
    names("custom headers", "/headers"),
    number("rate limit per s", "/rate_limit_per_s"),
    number("max in flight", "/max_in_flight"),
    number("timeout in ms", "/timeout_ms"),
    text("retries after s", "/retry_schedule_s"),
    number("pending", "/pending_count"),
    time("failing since", "/failing_since"),
    time("last success", "/last_success_at"),
    time("last failure", "/last_failure_at"),
    text("last error", "/last_error"),
    text("metadata", "/metadata"),
    text("client certificate", "/client_certificate/fingerprint_sha256"),
    time("certificate ends", "/client_certificate/not_after"),
    time("created", "/created_at"),
    time("updated", "/updated_at"),
    once("secret", "/secret"),
    once("public key", "/public_key"),
];

#[derive(Subcommand)]
pub enum Command {
    /// List endpoints, newest first
    #[command(
        after_help = "Examples:\n  posthaste endpoints list\n  posthaste endpoints list --location shop-4 --status failing"
    )]
    List(List),
    /// Make an endpoint and show it with its signing secret
    #[command(
        after_help = "Examples:\n  posthaste endpoints create --name CRM --target https://example.com/hook --event-types 'message.*'\n  posthaste endpoints create --name CRM --target https://example.com/hook --event-types '*' --header 'X-Team: sales' --secret @secret.txt"
    )]
    Create(Create),
    /// Show an endpoint
    #[command(after_help = "Example:\n  posthaste endpoints show ep_0193…")]
    Show(Named),
    /// Change an endpoint; what is not named stays as it is
    #[command(
        after_help = "Examples:\n  posthaste endpoints update ep_0193… --event-types message.incoming,message.read\n  posthaste endpoints update ep_0193… --starts-per-s 5 --unset retry_schedule_s\n  posthaste endpoints update ep_0193… --client-certificate client.pem --client-key client.key"
    )]
    Update(Update),
    /// Hold what would be sent
    #[command(after_help = "Example:\n  posthaste endpoints pause ep_0193…")]
    Pause(Named),
    /// Send again, what was held first; also re-enables a disabled one
    #[command(after_help = "Example:\n  posthaste endpoints resume ep_0193…")]
    Resume(Named),
    /// Delete an endpoint with its history
    #[command(after_help = "Example:\n  posthaste endpoints delete ep_0193…")]
    Delete(Named),
    /// Send a test event, once and now, and show what came of it
    #[command(
        after_help = "Examples:\n  posthaste endpoints test ep_0193…\n  posthaste endpoints test ep_0193… --type message.incoming --json | jq .response"
    )]
    Test(Test),
    /// Send again what failed in a period
    #[command(
        after_help = "Examples:\n  posthaste endpoints recover ep_0193… --since 2026-11-20T00:00:00Z --dry-run\n  posthaste endpoints recover ep_0193… --since 2026-11-20T00:00:00Z --rate-per-s 50"
    )]
    Recover(Recover),
    /// Show the signing secret; the audit log keeps that it was shown
    #[command(after_help = "Example:\n  posthaste endpoints secret ep_0193…")]
    Secret(Named),
    /// Replace the signing secret and show the new one
    #[command(
        after_help = "Examples:\n  posthaste endpoints rotate ep_0193…\n  posthaste endpoints rotate ep_0193… --grace-period-s 0"
    )]
    Rotate(Rotate),
}

#[derive(Args)]
pub struct Named {
    #[arg(value_name = "ENDPOINT_ID")]
    id: String,
}

#[derive(Args)]
pub struct List {
    /// Of this location alone: its id or your external id
    #[arg(long)]
    location: Option<String>,
    /// With this in the URL or the name
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// active, failing, paused or disabled
    #[arg(long)]
    status: Option<String>,
    /// That get this event type
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(list) => {
                let call = || {
                    let all = Call::get(&["endpoints"]);
                    let call = list.location.as_ref().map(|id| Call::get(&["locations", id, "endpoints"]));
                    call.unwrap_or(all)
                        .query("q", list.search.as_ref())
                        .query("status", list.status.as_ref())
                        .query("event_type", list.event_type.as_ref())
                };
                session.list(&list.page, &LIST, call).await
            }
            Self::Create(mut body) => {
                body.secret = brought_along(body.secret)?;
                body.fields.client_certificate = body.fields.client_certificate.read()?;
                session.record(Call::post(&["endpoints"]).body(&body)?, &RECORD).await
            }
            Self::Show(Named { id }) => session.record(Call::get(&["endpoints", &id]), &RECORD).await,
            Self::Update(mut update) => {
                update.fields.client_certificate = update.fields.client_certificate.read()?;
                let no_certificate = update.no_client_certificate.then(|| "client_certificate".to_owned());
                update.unset.extend(no_certificate);
                let call = Call::new(Method::PATCH, &["endpoints", &update.id]);
                session.record(call.body(&patch(&update, &update.unset)?)?, &RECORD).await
            }
            Self::Pause(Named { id }) => {
                session.record(Call::post(&["endpoints", &id, "pause"]), &RECORD).await
            }
            Self::Resume(Named { id }) => {
                session.record(Call::post(&["endpoints", &id, "resume"]), &RECORD).await
            }
            Self::Delete(Named { id }) => {
                session.act(Call::new(Method::DELETE, &["endpoints", &id]), &format!("deleted {id}")).await
            }
            Self::Test(body) => {
                let answer =
                    session.api.call(Call::post(&["endpoints", &body.id, "test"]).body(&body)?).await?;
                session.print(&answer, || {
                    table::list(&deliveries::ATTEMPTS, std::slice::from_ref(&answer.value))
                })
            }
            Self::Recover(body) => {
                let call = Call::post(&["endpoints", &body.id, "recover"]).body(&body)?;
                if body.dry_run {
                    session.record(call.query("dry_run", Some(true)), &[number("deliveries", "/total")]).await
                } else {
                    session.record(call, &jobs::RECORD).await
                }
            }
            Self::Secret(Named { id }) => {
                session.word(Call::get(&["endpoints", &id, "secret"]), "/secret").await
            }
            Self::Rotate(mut body) => {
                body.secret = brought_along(body.secret)?;
                let call = Call::post(&["endpoints", &body.id, "secret", "rotate"]).body(&body)?;
                session.word(call, "/secret").await
            }
        }
    }
}

fn brought_along(secret: Option<String>) -> Result<Option<String>, Failure> {
    secret.map(|source| input::read(Some(&source)).map(|text| text.trim().to_owned())).transpose()
}
