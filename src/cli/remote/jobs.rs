//! `jobs`: what takes longer than a request.

use clap::{Args, Subcommand};
use reqwest::Method;

use super::{
    client::Call,
    failure::Outcome,
    session::{PageArgs, Session},
    table::{Column, id, number, text, time},
};

pub const RECORD: [Column; 7] = [
    id("id", "/id"),
    text("kind", "/kind"),
    text("status", "/status"),
    number("done", "/done"),
    number("of", "/total"),
    time("created", "/created_at"),
    time("finished", "/finished_at"),
];

/// Columns of a list: all but when a job finished.
const LISTED: usize = RECORD.len() - 1;

#[derive(Subcommand)]
pub enum Command {
    /// List jobs, newest first
    #[command(after_help = "Examples:\n  posthaste jobs list\n  posthaste jobs list --status running")]
    List {
        #[command(flatten)]
        page: PageArgs,
        /// That do this: recover, replay or purge
        #[arg(long)]
        kind: Option<String>,
        /// In this state: running, succeeded, canceled or failed
        #[arg(long)]
        status: Option<String>,
    },
    /// Show how far a job is
    #[command(after_help = "Example:\n  posthaste jobs show job_0193…")]
    Show(Named),
    /// Stop a job; what it has done stays done
    #[command(after_help = "Example:\n  posthaste jobs cancel job_0193…")]
    Cancel(Named),
}

#[derive(Args)]
pub struct Named {
    #[arg(value_name = "JOB_ID")]
    id: String,
}

impl Command {
    pub async fn run(self, session: &Session) -> Outcome {
        match self {
            Self::List { page, kind, status } => {
                let call =
                    || Call::get(&["jobs"]).query("kind", kind.as_ref()).query("status", status.as_ref());
                session.list(&page, &RECORD[..LISTED], call).await
            }
            Self::Show(Named { id }) => session.record(Call::get(&["jobs", &id]), &RECORD).await,
            Self::Cancel(Named { id }) => {
                session.record(Call::new(Method::DELETE, &["jobs", &id]), &RECORD).await
            }
        }
    }
}
