//! `locations`: a tenant's sites, brands or numbers.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    client::Call,
    failure::Outcome,
    session::{PageArgs, Session, json_object, patch},
    table::{Column, id, text, time},
};

const LIST: [Column; 5] = [
    id("id", "/id"),
    text("name", "/name"),
    text("external id", "/external_id"),
    text("channels", "/channels"),
    time("created", "/created_at"),
];
const RECORD: [Column; 7] = [
    id("id", "/id"),
    text("name", "/name"),
    text("external id", "/external_id"),
    text("channels", "/channels"),
    text("metadata", "/metadata"),
    time("created", "/created_at"),
    time("updated", "/updated_at"),
];

#[derive(Subcommand)]
pub enum Command {
    /// List the tenant's locations, newest first
    #[command(after_help = "Example:\n  posthaste locations list --tenant ten_0193…")]
    List(PageArgs),
    /// Make a location
    #[command(
        after_help = "Example:\n  posthaste locations create --name 'High Street' --external-id shop-4 --channels whatsapp,sms"
    )]
    Create(Create),
    /// Show a location
    #[command(after_help = "Example:\n  posthaste locations show default")]
    Show {
        /// Its id or your external id
        #[arg(value_name = "LOCATION")]
        id: String,
    },
    /// Change a location; what is not named stays as it is
    #[command(
        after_help = "Examples:\n  posthaste locations update shop-4 --name 'Low Street'\n  posthaste locations update shop-4 --unset channels"
    )]
    Update(Update),
    /// Delete a location with its endpoints
    #[command(after_help = "Example:\n  posthaste locations delete shop-4")]
    Delete {
        /// Its id or your external id
        #[arg(value_name = "LOCATION")]
        id: String,
    },
}

#[derive(Args, Serialize)]
pub struct Create {
    #[arg(long)]
    name: String,
    #[command(flatten)]
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Args, Serialize)]
pub struct Update {
    /// Its id or your external id
    #[arg(value_name = "LOCATION")]
    #[serde(skip)]
    id: String,
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    fields: Fields,
    /// Fields to empty: external_id, channels, metadata
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    #[serde(skip)]
    unset: Vec<String>,
}

#[derive(Args, Serialize)]
struct Fields {
    /// Your own id of the location
    #[arg(long, value_name = "ID")]
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
    /// The connected ones of whatsapp, imessage, sms; without it, channels are not checked
    #[arg(long, value_name = "CHANNEL,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<String>>,
    /// Anything of your own
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(page) => session.list(&page, &LIST, || Call::get(&["locations"])).await,
            Self::Create(body) => session.record(Call::post(&["locations"]).body(&body)?, &RECORD).await,
            Self::Show { id } => session.record(Call::get(&["locations", &id]), &RECORD).await,
            Self::Update(update) => {
                let call = Call::new(Method::PATCH, &["locations", &update.id]);
                session.record(call.body(&patch(&update, &update.unset)?)?, &RECORD).await
            }
            Self::Delete { id } => {
                session.act(Call::new(Method::DELETE, &["locations", &id]), &format!("deleted {id}")).await
            }
        }
    }
}
