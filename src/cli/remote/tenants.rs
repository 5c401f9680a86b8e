//! `tenants`: the operator's.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    client::Call,
    failure::Outcome,
    session::{PageArgs, Session, json_object, patch},
    table::{Column, id, number, text, time},
};

const LIST: [Column; 5] = [
    id("id", "/id"),
    text("name", "/name"),
    text("preset", "/preset"),
    text("external id", "/external_id"),
    time("created", "/created_at"),
];
const RECORD: [Column; 12] = [
    id("id", "/id"),
    text("name", "/name"),
    text("preset", "/preset"),
    text("format", "/format"),
    text("external id", "/external_id"),
    text("unknown event types", "/allow_unknown_event_types"),
    text("validates payloads", "/validate_payloads"),
    number("days kept", "/retention_days"),
    number("days of failing", "/failing_days"),
    text("metadata", "/metadata"),
    time("created", "/created_at"),
    time("updated", "/updated_at"),
];

#[derive(Subcommand)]
pub enum Command {
    /// List the tenants, newest first
    #[command(
        after_help = "Examples:\n  posthaste tenants list\n  posthaste tenants list --external-id account-17\n  posthaste tenants list --all --json | jq -r '.data[].id'"
    )]
    List {
        #[command(flatten)]
        page: PageArgs,
        /// The one with this id of yours
        #[arg(long, value_name = "ID")]
        external_id: Option<String>,
    },
    /// Make a tenant; it is born with the location `default`
    #[command(
        after_help = "Examples:\n  posthaste tenants create --name Bakery\n  posthaste tenants create --name Bakery --preset whatssync --external-id account-17"
    )]
    Create(Create),
    /// Show a tenant
    #[command(after_help = "Example:\n  posthaste tenants show ten_0193…")]
    Show {
        #[arg(value_name = "TENANT_ID")]
        id: String,
    },
    /// Change a tenant; what is not named stays as it is
    #[command(
        after_help = "Examples:\n  posthaste tenants update ten_0193… --name 'Bakery & Sons'\n  posthaste tenants update ten_0193… --keep-days 7 --unset external_id"
    )]
    Update(Update),
}

#[derive(Args, Serialize)]
pub struct Create {
    #[arg(long)]
    name: String,
    /// Event types and wire format to begin with [default: standard]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Args, Serialize)]
pub struct Update {
    #[arg(value_name = "TENANT_ID")]
    #[serde(skip)]
    id: String,
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    fields: Fields,
    /// Fields to empty, such as external_id
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    #[serde(skip)]
    unset: Vec<String>,
}

#[derive(Args, Serialize)]
struct Fields {
    /// Your own id of the tenant
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// Wire format of endpoints that name none [default: the preset's]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    /// Take events of types that no catalogue has
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_unknown_event_types: Option<bool>,
    /// Check events against their type's schema
    #[arg(long, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    validate_payloads: Option<bool>,
    /// Days that events and their history are kept (the API's retention_days)
    #[arg(long, value_name = "DAYS")]
    #[serde(rename = "retention_days", skip_serializing_if = "Option::is_none")]
    keep_days: Option<u16>,
    /// Days of failing after which an endpoint is disabled
    #[arg(long, value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_days: Option<u16>,
    /// Anything of your own
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List { page, external_id } => {
                let call = || Call::get(&["tenants"]).query("external_id", external_id.as_ref());
                session.list(&page, &LIST, call).await
            }
            Self::Create(body) => session.record(Call::post(&["tenants"]).body(&body)?, &RECORD).await,
            Self::Show { id } => session.record(Call::get(&["tenants", &id]), &RECORD).await,
            Self::Update(update) => {
                let call = Call::new(Method::PATCH, &["tenants", &update.id]);
                session.record(call.body(&patch(&update, &update.unset)?)?, &RECORD).await
            }
        }
    }
}
