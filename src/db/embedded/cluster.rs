//! Makes a cluster, says which settings it runs with, and sees a start through.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use sqlx::{Connection, postgres::PgConnectOptions};

use super::{
    DATABASE, EmbeddedError, Kind, SUPERUSER,
    binaries::Binaries,
    home::{Home, cluster_name},
    process::{POLL, PidFile, Postmaster, command},
};

/// Crash recovery replays at most a few GB of WAL; it gets its time, since there is nothing better to do.
const READY_TIMEOUT: Duration = Duration::from_secs(600);
/// A server that stumbles over the shared memory of dying backends is tried again this often.
const SHARED_MEMORY_TRIES: u32 = 20;
const SHARED_MEMORY_PAUSE: Duration = Duration::from_millis(250);
/// A log larger than this is moved aside at the next start; one old log is kept.
const MAX_LOG_BYTES: u64 = 8 * 1024 * 1024;
/// How much of the log an error shows.
const LOG_TAIL_BYTES: u64 = 2048;

/// The major version that made the cluster, or `None` if there is none yet.
pub(super) fn major(home: &Home) -> Result<Option<u32>, EmbeddedError> {
    let path = home.data().join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(major) => Ok(Some(major)),
            Err(_) => Err(EmbeddedError::io("understand", path)(std::io::ErrorKind::InvalidData.into())),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbeddedError::io("read", path)(error)),
    }
}

/// initdb beside the final place, then one rename: a cluster is whole or absent. Blocks.
pub(super) fn init(home: &Home, binaries: &Binaries, kind: Kind) -> Result<(), EmbeddedError> {
    let half_made = home.half_made_data();
    if half_made.exists() {
        fs::remove_dir_all(&half_made).map_err(EmbeddedError::io("remove", &half_made))?;
    }
    let mut initdb = command(&binaries.bin_dir.join("initdb"), home);
    initdb.arg("-D").arg(&half_made).args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--data-checksums"]);
    // Whoever can enter the socket directory is its owner or root; there is no other way in.
    initdb.args(["--auth-local=trust", "--auth-host=reject", "--no-instructions"]);
    if kind == Kind::Throwaway {
        initdb.arg("--no-sync");
    }
    let output = initdb.output().map_err(EmbeddedError::io("run", binaries.bin_dir.join("initdb")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(EmbeddedError::Initdb { output: format!("{}: {text}", output.status) });
    }
    fs::rename(&half_made, home.data()).map_err(EmbeddedError::io("rename", &half_made))?;
    File::open(home.dir()).and_then(|dir| dir.sync_all()).map_err(EmbeddedError::io("sync", home.dir()))
}

/// Starts the server and waits until it takes connections.
pub(super) async fn start(
    home: &Home,
    binaries: &Binaries,
    kind: Kind,
    max_connections: u32,
    socket_dir: &Path,
) -> Result<Postmaster, EmbeddedError> {
    let mut tries = 0;
    loop {
        let (log, log_start) = open_log(home)?;
        let server = server_command(home, binaries, kind, max_connections, socket_dir, log)?;
        let postmaster =
            Postmaster::spawn(server).map_err(EmbeddedError::io("run", binaries.bin_dir.join("postgres")))?;
        match wait_ready(home, &postmaster, log_start).await {
            Err(EmbeddedError::StartFailed { tail, .. })
                if tail.contains("shared memory block") && tries < SHARED_MEMORY_TRIES =>
            {
                tries += 1;
                tokio::time::sleep(SHARED_MEMORY_PAUSE).await;
            }
            result => return result.map(|()| postmaster),
        }
    }
}

fn server_command(
    home: &Home,
    binaries: &Binaries,
    kind: Kind,
    max_connections: u32,
    socket_dir: &Path,
    log: File,
) -> Result<Command, EmbeddedError> {
    let mut server = command(&binaries.bin_dir.join("postgres"), home);
    let errors = log.try_clone().map_err(EmbeddedError::io("open", home.log()))?;
    server.stdout(log).stderr(errors).arg("-D").arg(home.data());
    let durable = if kind == Kind::Durable { "on" } else { "off" };
    let settings = [
        // A list of names: quoted, since a directory may hold a comma or a space.
        ("unix_socket_directories", format!("\"{}\"", socket_dir.display().to_string().replace('"', "\"\""))),
        ("unix_socket_permissions", "0700".to_owned()),
        ("listen_addresses", String::new()),
        ("port", "5432".to_owned()),
        ("max_connections", max_connections.to_string()),
        ("fsync", durable.to_owned()),
        ("full_page_writes", durable.to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("logging_collector", "off".to_owned()),
        // A statement's error goes to whoever sent it. Here it would only put tenants' data into a file.
        ("log_min_messages", "log".to_owned()),
        ("log_min_error_statement", "panic".to_owned()),
        ("log_error_verbosity", "terse".to_owned()),
        // Checkpoints are far between, and find most of their work done: each one's flush of the data files stands in the way of
        // the commits' flushes for a tenth of a second.
        ("max_wal_size", "4GB".to_owned()),
        ("min_wal_size", "1GB".to_owned()),
        ("checkpoint_timeout", "15min".to_owned()),
        ("shared_buffers", "256MB".to_owned()),
        ("bgwriter_delay", "50ms".to_owned()),
        ("bgwriter_lru_maxpages", "1000".to_owned()),
        ("bgwriter_lru_multiplier", "4".to_owned()),
        // Many short statements: compiling one never pays.
        ("jit", "off".to_owned()),
        ("cluster_name", cluster_name(&home.data())),
    ];
    for (name, value) in settings {
        server.arg("-c").arg(format!("{name}={value}"));
    }
    Ok(server)
}

async fn wait_ready(home: &Home, postmaster: &Postmaster, log_start: u64) -> Result<(), EmbeddedError> {
    let started = Instant::now();
    while started.elapsed() < READY_TIMEOUT {
        if let Some(status) = postmaster.exit.borrow().clone() {
            let tail = log_tail(&home.log(), log_start);
            return Err(EmbeddedError::StartFailed { status, log: home.log(), tail });
        }
        if PidFile::read(&home.data()).is_some_and(|file| file.pid == postmaster.pid && file.ready) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(EmbeddedError::NotReady { waited_s: READY_TIMEOUT.as_secs(), log: home.log() })
}

/// Makes Posthaste's database unless it is there.
pub(super) async fn create_database(maintenance: &PgConnectOptions) -> Result<(), EmbeddedError> {
    let mut connection = sqlx::PgConnection::connect_with(maintenance).await?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await?;
    if !exists {
        sqlx::query("CREATE DATABASE posthaste").execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

/// The log, opened for appending, and where it ends now.
fn open_log(home: &Home) -> Result<(File, u64), EmbeddedError> {
    let path = home.log();
    if fs::metadata(&path).is_ok_and(|meta| meta.len() > MAX_LOG_BYTES) {
        fs::rename(&path, path.with_extension("log.1")).map_err(EmbeddedError::io("rename", &path))?;
    }
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let log = log.map_err(EmbeddedError::io("open", &path))?;
    home.give(&path)?;
    let end = log.metadata().map_err(EmbeddedError::io("inspect", &path))?.len();
    Ok((log, end))
}

fn log_tail(path: &Path, start: u64) -> String {
    let read = || {
        let mut log = File::open(path)?;
        let end = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL_BYTES))))?;
        let mut bytes = Vec::new();
        log.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).trim().replace('\n', " | "))
    };
    read().unwrap_or_else(|error| format!("(unreadable: {error})"))
}
