//! What can go wrong with the embedded Postgres, in words that a person can act on.

use std::{io, path::PathBuf};

use super::binaries::OLDEST_MAJOR;

#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error(
        "no usable Postgres found ({reason}). Install one (Debian, Ubuntu: `apt-get install {package}`; \
         macOS: `brew install {}`), or name its bin directory in POSTGRES_BIN, or set DATABASE_URL to any \
         Postgres {OLDEST_MAJOR} or newer, or run everything in Docker: `docker compose up`",
        brew_name(package)
    )]
    NoPostgres { package: String, reason: String },

    #[error("{what} for the Postgres download: {reason}")]
    DownloadSetting { what: &'static str, reason: String },

    #[error(
        "{} belongs to another user: start Posthaste as that user (or as root), or choose another \
         POSTHASTE_DATA_DIR",
        path.display()
    )]
    NotOurs { path: PathBuf },

    #[error(
        "the Postgres user (uid {uid}) can't reach the existing cluster in {}: give every directory above it \
         the x permission (chmod o+x) or move the data directory",
        path.display()
    )]
    Unreachable { path: PathBuf, uid: u32 },

    #[error("initdb failed: {output}")]
    Initdb { output: String },

    #[error("Postgres did not start ({status}); the end of {}: {tail}", log.display())]
    StartFailed { status: String, log: PathBuf, tail: String },

    #[error("Postgres was not ready after {waited_s} s; see {}", log.display())]
    NotReady { waited_s: u64, log: PathBuf },

    #[error(
        "another Posthaste holds {} and its Postgres was not ready after {waited_s} s; stop that process or \
         choose another POSTHASTE_DATA_DIR",
        lock.display()
    )]
    AttachTimeout { waited_s: u64, lock: PathBuf },

    #[error("Postgres (pid {pid}) would not stop, not even on SIGKILL")]
    WouldNotStop { pid: i32 },

    #[error("the embedded Postgres is gone ({status}); see {}. Start Posthaste again: it recovers", log.display())]
    Died { status: String, log: PathBuf },

    #[error("the embedded Postgres answers with an error: {0}")]
    Database(#[from] sqlx::Error),

    #[error("can't {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

impl EmbeddedError {
    /// For `map_err`: says what was attempted and where.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Homebrew has no unversioned formula that stays at one major: `postgresql-15` is `postgresql@15` there.
fn brew_name(package: &str) -> String {
    match package.split_once('-') {
        Some((name, major)) => format!("{name}@{major}"),
        None => format!("{package}@18"),
    }
}
