//! A private Postgres below the data directory, for those who bring none: found or downloaded, made, started, stopped.
//!
//! Guarantees
//! - A [`Kind::Durable`] cluster is as safe as any Postgres: fsync, full page writes, checksums, crash recovery.
//! - Only its own user and root get in: a unix socket in a directory of mode 0700, no TCP.
//! - It never outlives its owner for long: it stops with [`EmbeddedPostgres::stop`], on drop, and (on Linux) when the
//!   owner is killed. The next start clears up after a kill -9 of owner, postmaster or both.
//! - One owner at a time, by a lock on a file; a second process attaches to the running server.
//!
//! When the owner ends, the server ends, and those attached lose their connections ([`EmbeddedPostgres::wait_exit`]
//! tells them). Whoever needs processes that outlive each other runs a Postgres of their own (DATABASE_URL).
//!
//! Deliberately does not: restart a server that died (the process says so and ends; starting again recovers), upgrade
//! a cluster to another major version, make backups, or tune beyond `max_connections` (postgresql.conf is there).

mod binaries;
mod cluster;
mod download;
mod error;
mod home;
mod process;
mod step;

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{
    Connection,
    postgres::{PgConnectOptions, PgSslMode},
};

pub use self::{
    binaries::{OLDEST_MAJOR, Search},
    download::Download,
    error::EmbeddedError,
    step::Step,
};
use self::{
    home::Home,
    process::{PidFile, Postmaster},
};

/// The database that every start makes sure of.
pub const DATABASE: &str = "posthaste";
const SUPERUSER: &str = "posthaste";
/// How long to wait for another process that holds the lock: it may be downloading or recovering.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(900);
const ATTACH_POLL: Duration = Duration::from_millis(50);
/// How often an attached process looks whether the server is still there.
const WATCH_POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// For real data.
    Durable,
    /// For tests: a crash of the machine loses it. Everything else behaves the same.
    Throwaway,
}

#[derive(Debug, Clone)]
pub struct Options {
    /// POSTHASTE_DATA_DIR. The cluster lives in `postgres/` below it.
    pub data_dir: PathBuf,
    pub kind: Kind,
    pub max_connections: u32,
    pub search: Search,
    /// `None`: never download.
    pub download: Option<Download>,
}

/// A running cluster: ours to stop, or another process's that we use.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    owned: Option<Postmaster>,
    _lock: Option<Arc<File>>,
    home: Home,
    socket_dir: PathBuf,
    pid: rustix::process::Pid,
}

impl EmbeddedPostgres {
    /// Starts the cluster, making it first if need be, or attaches to the process that runs it. Dropping this future
    /// stops whatever it has started.
    pub async fn start(
        options: Options,
        progress: impl Fn(Step) + Send + Sync,
    ) -> Result<Self, EmbeddedError> {
        let home = Home::prepare(&options.data_dir, Path::new(home::FALLBACK_ROOT), &progress)?;
        let started = Instant::now();
        let mut waiting = false;
        loop {
            if let Some(lock) = try_lock(&home)? {
                let (owned, socket_dir) = own(&options, &home, &lock, &progress).await?;
                progress(Step::Ready);
                let pid = owned.pid;
                return Ok(Self { owned: Some(owned), _lock: Some(lock), home, socket_dir, pid });
            }
            if let Some((pid, socket_dir)) = find_running(&home).await {
                progress(Step::Attached);
                return Ok(Self { owned: None, _lock: None, home, socket_dir, pid });
            }
            if !waiting {
                waiting = true;
                progress(Step::WaitingForOwner);
            }
            if started.elapsed() > ATTACH_TIMEOUT {
                let waited_s = ATTACH_TIMEOUT.as_secs();
                return Err(EmbeddedError::AttachTimeout { waited_s, lock: home.lock() });
            }
            tokio::time::sleep(ATTACH_POLL).await;
        }
    }

    /// How to reach a database of this cluster, as its superuser.
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        connect_options(&self.socket_dir, database)
    }

    /// Whether this process started the server, so that it ends with this process.
    pub fn is_owner(&self) -> bool {
        self.owned.is_some()
    }

    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    pub fn postmaster_pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Resolves when the server is gone, whoever ran it. For a `select!` beside the program's work.
    pub async fn wait_exit(&self) -> EmbeddedError {
        let status = match &self.owned {
            Some(owned) => {
                let mut exit = owned.exit.clone();
                let status = exit.wait_for(Option::is_some).await.ok().and_then(|status| status.clone());
                status.unwrap_or_else(|| "no longer watched".to_owned())
            }
            None => {
                while process::serves(self.pid, &self.home.data()) {
                    tokio::time::sleep(WATCH_POLL).await;
                }
                "the process that ran it has ended".to_owned()
            }
        };
        EmbeddedError::Died { status, log: self.home.log() }
    }

    /// Stops the server if it is ours: SIGINT for 30 s, SIGQUIT for 10 s, SIGKILL. Connections are cut.
    pub async fn stop(self) -> Result<(), EmbeddedError> {
        let stopping =
            tokio::task::spawn_blocking(move || self.owned.as_ref().map_or(Ok(()), Postmaster::stop));
        stopping.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

impl Drop for EmbeddedPostgres {
    /// Blocks until the server has stopped, if it is ours. The lock goes last, with the fields.
    fn drop(&mut self) {
        if let Some(server) = self.owned.take() {
            drop(server);
            if !self.socket_dir.starts_with(self.home.dir()) {
                let _ = std::fs::remove_dir(&self.socket_dir); // a leftover does no harm: the next start uses it
            }
        }
    }
}

/// The owner's path: clear up, find programs, make the cluster, start it.
async fn own(
    options: &Options,
    home: &Home,
    lock: &Arc<File>,
    progress: &(impl Fn(Step) + Send + Sync),
) -> Result<(Postmaster, PathBuf), EmbeddedError> {
    let (data, socket_dir) = (home.data(), home.socket_dir()?);
    if data.join("postmaster.pid").exists() {
        progress(Step::ClearingUp);
    }
    let sockets = socket_dir.clone();
    let unclean = blocking(move || process::clear_stale(&data, &sockets)).await?;
    progress(Step::FindingBinaries);
    let major = cluster::major(home)?;
    let binaries = find_or_fetch(options, home, major, progress).await?;
    if major.is_none() {
        progress(Step::Initialising);
        let (home, binaries, kind) = (home.clone(), binaries.clone(), options.kind);
        let lock = Arc::clone(lock); // held to the end of initdb, even if this future is dropped meanwhile
        blocking(move || {
            let _lock = lock;
            cluster::init(&home, &binaries, kind)
        })
        .await?;
    }
    progress(if unclean { Step::Recovering } else { Step::Starting });
    let server = cluster::start(home, &binaries, options.kind, options.max_connections, &socket_dir).await?;
    cluster::create_database(&connect_options(&socket_dir, "postgres")).await?;
    Ok((server, socket_dir))
}

async fn find_or_fetch(
    options: &Options,
    home: &Home,
    major: Option<u32>,
    progress: &(impl Fn(Step) + Send + Sync),
) -> Result<binaries::Binaries, EmbeddedError> {
    let package = major.map_or("postgresql".to_owned(), |major| format!("postgresql-{major}"));
    let (search, dist, account) = (options.search.clone(), home.dist(), home.account);
    let found = blocking(move || Ok(binaries::find(&search, &dist, account, major))).await?;
    let reason = match (found, &options.download) {
        (Ok(found), _) => return Ok(found),
        (Err(reason), Some(download))
            if !matches!(options.search, Search::Only(_)) && download.may_serve(major) =>
        {
            let account = home.account;
            let fetched = match download.fetch(home, progress).await {
                Ok(dir) => blocking(move || Ok(binaries::inspect(&dir, account, major))).await?,
                Err(reason) => Err(reason),
            };
            match fetched {
                Ok(found) => return Ok(found),
                Err(failure) => format!("{reason}; {failure}"),
            }
        }
        (Err(reason), _) => reason,
    };
    Err(EmbeddedError::NoPostgres { package, reason })
}

fn try_lock(home: &Home) -> Result<Option<Arc<File>>, EmbeddedError> {
    let path = home.lock();
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(EmbeddedError::io("open", &path))?;
    home.give(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Arc::new(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(EmbeddedError::Io { action: "lock", path, source }),
    }
}

/// The running server, if it is ready and proves it by an answer: postmaster.pid alone may be stale.
async fn find_running(home: &Home) -> Option<(rustix::process::Pid, PathBuf)> {
    let file = PidFile::read(&home.data()).filter(|file| file.ready)?;
    let socket_dir = file.socket_dir?;
    let connection = sqlx::PgConnection::connect_with(&connect_options(&socket_dir, DATABASE)).await.ok()?;
    connection.close().await.ok()?;
    Some((file.pid, socket_dir))
}

fn connect_options(socket_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_dir)
        .port(5432)
        .username(SUPERUSER)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

/// Off the runtime's threads; the thread lives until the work is done, as a child's death signal needs.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EmbeddedError> + Send + 'static,
) -> Result<T, EmbeddedError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
