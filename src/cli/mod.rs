//! The command line.

mod demo;
mod help;
mod migrate;
mod rekey;
mod remote;
mod serve;

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use self::remote::{ClientSettings, Remote};
use crate::{
    api,
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
    #[command(flatten, next_help_heading = "Settings of the server")]
    settings: Settings,
    #[command(flatten, next_help_heading = "Calling the API")]
    client: ClientSettings,
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
    /// Put every secret at rest under the newest master key, while servers run
    #[command(after_help = "Every server must have the new key first: set POSTHASTE_MASTER_KEY to NEW,OLD.")]
    Rekey,
    /// Run everything, with a receiver inside, and show real deliveries
    Demo {
        /// End with the demonstration instead of going on serving
        #[arg(long)]
        exit: bool,
    },
    #[command(flatten)]
    Remote(Box<Remote>),
    /// Print a script that completes commands in a shell
    #[command(after_help = "Example:\n  posthaste completions bash > /etc/bash_completion.d/posthaste")]
    Completions { shell: Shell },
    /// Print the API's reference: an OpenAPI 3.1 document
    #[command(after_help = "Example:\n  posthaste openapi > openapi.json")]
    Openapi,
}

/// Runs the program that the arguments and the environment ask for.
pub fn main() -> ExitCode {
    let matches = help::arrange(Cli::command()).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    match refuse_unknown::<Cli>(names).map_err(anyhow::Error::from).and_then(|()| run(cli)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("posthaste: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let (command, settings) = (cli.command.unwrap_or(Command::Serve), cli.settings);
    // These tell their own story on the same terminal.
    let quiet = matches!(
        command,
        Command::Demo { .. }
            | Command::Rekey
            | Command::Remote(_)
            | Command::Completions { .. }
            | Command::Openapi
    );
    let log = settings.log.as_deref().unwrap_or(if quiet { "warn" } else { "info" });
    telemetry::start(log, settings.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve => serve::run(&settings, Roles { api: true, worker: true }).await?,
            Command::Api => serve::run(&settings, Roles { api: true, worker: false }).await?,
            Command::Worker => serve::run(&settings, Roles { api: false, worker: true }).await?,
            Command::Migrate => migrate::run(&settings).await?,
            Command::Rekey => rekey::run(&settings).await?,
            Command::Demo { exit } => demo::run(&settings, exit).await?,
            Command::Remote(remote) => return Ok(remote.run(&cli.client, &settings).await),
            Command::Completions { shell } => complete(shell)?,
            Command::Openapi => {
                stdout().write_all(format!("{:#}\n", api::reference::document()).as_bytes())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn complete(shell: Shell) -> std::io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut help::arrange(Cli::command()), "posthaste", &mut script);
    stdout().write_all(&script)
}
