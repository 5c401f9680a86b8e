//! `keys`: a tenant's API keys. A key is shown when it is made and never again.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;

use super::{
    client::Call,
    failure::Outcome,
    session::{PageArgs, Session},
    table::{Column, id, once, text, time},
};

const LIST: [Column; 6] = [
    id("id", "/id"),
    text("name", "/name"),
    text("scopes", "/scopes"),
    time("expires", "/expires_at"),
    time("last used", "/last_used_at"),
    time("created", "/created_at"),
];
const MADE: [Column; 6] = [
    id("id", "/id"),
    id("tenant", "/tenant_id"),
    text("name", "/name"),
    text("scopes", "/scopes"),
    time("expires", "/expires_at"),
    once("key (shown this once)", "/key"),
];

#[derive(Subcommand)]
pub enum Command {
    /// List the tenant's keys
    #[command(after_help = "Example:\n  posthaste keys list --tenant ten_0193…")]
    List(PageArgs),
    /// Make a key and show it, this once
    #[command(
        after_help = "Examples:\n  posthaste keys create --tenant ten_0193… --name backend --scopes publish\n  export POSTHASTE_API_KEY=$(posthaste keys create --tenant ten_0193… --name me --scopes read,write --json | jq -r .key)"
    )]
    Create(Create),
    /// End a key, at once
    #[command(after_help = "Example:\n  posthaste keys revoke key_0193… --tenant ten_0193…")]
    Revoke {
        #[arg(value_name = "KEY_ID")]
        id: String,
    },
}

#[derive(Args, Serialize)]
pub struct Create {
    #[arg(long)]
    name: String,
    /// What it may do: read, write, publish, secrets
    #[arg(long, value_name = "SCOPE,…", value_delimiter = ',', required = true)]
    scopes: Vec<String>,
    /// When it ends by itself, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List(page) => session.list(&page, &LIST, || Call::get(&["keys"])).await,
            Self::Create(body) => session.record(Call::post(&["keys"]).body(&body)?, &MADE).await,
            Self::Revoke { id } => {
                session.act(Call::new(Method::DELETE, &["keys", &id]), &format!("revoked {id}")).await
            }
        }
    }
}
