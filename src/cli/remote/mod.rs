//! The API from a terminal: each command is a call or two over HTTP, with a key, as anybody's program would make them.
//!
//! A file per group of commands says which route, which fields and which columns; everything else is shared: [`client`]
//! calls, [`session`] shows, [`table`] draws, [`failure`] ends. It deliberately knows nothing of the database.

mod batch;
mod client;
mod deliveries;
mod endpoints;
mod events;
mod failure;
mod input;
mod jobs;
mod keys;
mod locations;
mod session;
mod table;
mod tail;
mod tenants;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use url::Url;

pub use self::failure::EXIT_CODES;
use self::{client::Api, failure::Outcome, session::Session};
use crate::config::Settings;

/// How to reach the API.
#[derive(Args)]
pub struct ClientSettings {
    /// Address of the API to call
    #[arg(long, env = "POSTHASTE_URL", value_name = "URL", default_value = "http://127.0.0.1:8080",
          value_parser = http_url, global = true)]
    pub url: Url,

    /// Key to call it with; without it, an API on this machine is called with the operator's key, where
    /// operator.key in the data directory can be read
    #[arg(long, env = "POSTHASTE_API_KEY", value_name = "KEY", hide_env_values = true, global = true)]
    pub api_key: Option<String>,

    /// Tenant to act for, with the operator's key
    #[arg(long, env = "POSTHASTE_TENANT", value_name = "TENANT_ID", global = true)]
    pub tenant: Option<String>,

    /// Print the API's JSON, one line an answer
    #[arg(long, global = true)]
    pub json: bool,
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("must start with http:// or https://".to_owned()),
    }
}

/// The commands that call the API.
#[derive(Subcommand)]
pub enum Remote {
    /// Tenants: list, create, show, update; with the operator's key
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// A tenant's API keys: list, create, revoke
    #[command(subcommand)]
    Keys(keys::Command),
    /// A tenant's sites, brands or numbers: list, create, show, update, delete
    #[command(subcommand)]
    Locations(locations::Command),
    /// Where events are sent: list, create, show, update, pause, resume, delete, test, recover, secrets
    #[command(subcommand)]
    Endpoints(endpoints::Command),
    /// Events: publish, list, show, tail, replay
    #[command(subcommand)]
    Events(events::Command),
    /// What became of events: list, show every attempt, retry, cancel
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// Work that takes longer than a request: list, show, cancel
    #[command(subcommand)]
    Jobs(jobs::Command),
}

impl Remote {
    /// Runs the command; its failure is told on standard error.
    pub async fn run(self, client: &ClientSettings, settings: &Settings) -> ExitCode {
        match self.ask(client, settings).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                let code = failure.exit_code();
                if code != 0 {
                    session::note(&failure.to_string());
                }
                code.into()
            }
        }
    }

    async fn ask(self, client: &ClientSettings, settings: &Settings) -> Outcome {
        let session = Session { api: Api::new(client, settings)?, json: client.json };
        match self {
            Self::Tenants(command) => command.run(&session).await,
            Self::Keys(command) => command.run(&session).await,
            Self::Locations(command) => command.run(&session).await,
            Self::Endpoints(command) => command.run(&session).await,
            Self::Events(command) => command.run(&session).await,
            Self::Deliveries(command) => command.run(&session).await,
            Self::Jobs(command) => command.run(&session).await,
        }
    }
}
