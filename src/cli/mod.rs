//! The command line.

mod demo;
mod migrate;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    app::Roles,
    config::{Settings, refuse_unknown},
    telemetry,
};

/// Webhook delivery on Postgres: signed, retried, never lost.
#[derive(Parser)]
#[command(name = "posthaste", version, about, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum Command {
    /// Run API and workers in one process (the default)
    Serve,
    /// Run the API alone; any number of them on one database
    Api,
    /// Run a worker alone; any number of them on one database
    Worker,
    /// Apply the migrations and exit
    Migrate,
    /// Run everything, with a receiver inside, and show real deliveries
    Demo {
        /// End with the demonstration instead of going on serving
        #[arg(long)]
        exit: bool,
    },
}

/// Runs the program that the arguments and the environment ask for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    match refuse_unknown::<Cli>(names).map_err(anyhow::Error::from).and_then(|()| run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("posthaste: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let (command, settings) = (cli.command.unwrap_or(Command::Serve), cli.settings);
    // The demo tells its own story on the same terminal.
    let quiet = matches!(command, Command::Demo { .. });
    let log = settings.log.as_deref().unwrap_or(if quiet { "warn" } else { "info" });
    telemetry::start(log, settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve => serve::run(&settings, Roles { api: true, worker: true }).await,
            Command::Api => serve::run(&settings, Roles { api: true, worker: false }).await,
            Command::Worker => serve::run(&settings, Roles { api: false, worker: true }).await,
            Command::Migrate => migrate::run(&settings).await,
            Command::Demo { exit } => demo::run(&settings, exit).await,
        }
    })
}
