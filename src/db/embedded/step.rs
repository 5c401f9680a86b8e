//! The stages of a start, each with a line for a person who waits.

use std::{fmt, path::PathBuf};

/// What a start is doing, for whoever shows progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The data directory is closed to the Postgres user: the cluster lives here instead.
    Relocated {
        to: PathBuf,
    },
    /// Another process runs this cluster, or is starting or stopping it.
    WaitingForOwner,
    ClearingUp,
    FindingBinaries,
    Downloading {
        received_bytes: u64,
        total_bytes: Option<u64>,
    },
    Unpacking,
    Initialising,
    Starting,
    /// Starting after an unclean end.
    Recovering,
    Ready,
    Attached,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MB: u64 = 1_000_000;
        match self {
            Self::Relocated { to } => write!(f, "Postgres data is kept in {}", to.display()),
            Self::WaitingForOwner => f.write_str("waiting for the Posthaste that runs this Postgres"),
            Self::ClearingUp => f.write_str("clearing up after an earlier run"),
            Self::FindingBinaries => f.write_str("looking for Postgres"),
            Self::Downloading { received_bytes, total_bytes: Some(total_bytes) } => {
                write!(f, "downloading Postgres: {} of {} MB", received_bytes / MB, total_bytes / MB)
            }
            Self::Downloading { received_bytes, .. } => {
                write!(f, "downloading Postgres: {} MB", received_bytes / MB)
            }
            Self::Unpacking => f.write_str("unpacking Postgres"),
            Self::Initialising => f.write_str("creating the database cluster"),
            Self::Starting => f.write_str("starting Postgres"),
            Self::Recovering => f.write_str("starting Postgres and recovering from an unclean end"),
            Self::Ready => f.write_str("Postgres is ready"),
            Self::Attached => f.write_str("using the Postgres that another Posthaste runs"),
        }
    }
}
