//! PgBouncer in transaction mode, in front of the tests' Postgres.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::PathBuf,
    process::Stdio,
};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::client::PATIENCE;

const PORT: u16 = 6432;
/// Where Debian puts it, which is not on everybody's path.
const SBIN: &str = "/usr/sbin";

/// Runs until it is dropped.
pub struct Pooler {
    dir: TempDir,
    _process: Child,
}

/// The program that `PGBOUNCER` names, else one that is installed. Without either the tests of it are left out, and say so.
fn binary() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PGBOUNCER") {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain([SBIN.into()]).find(|dir| dir.join("pgbouncer").is_file());
    if found.is_none() {
        eprintln!("not tested: PgBouncer is not installed (Debian: apt install pgbouncer)");
    }
    Some(found?.join("pgbouncer"))
}

impl Pooler {
    /// With so many connections to this database's Postgres, and these lines of configuration besides.
    pub async fn start(database: &PgConnectOptions, connections: u32, more: &str) -> Option<Self> {
        let binary = binary()?;
        let dir = tempfile::Builder::new().prefix("posthaste-pooler-").tempdir().expect("a temp dir");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("permissions");
        let socket = database.get_socket().expect("the tests' Postgres has a socket");
        let owner = fs::metadata(socket).expect("the socket's directory");
        let config = format!(
            "[databases]\n* = host={} port={} user={}\n\
             [pgbouncer]\npool_mode = transaction\nauth_type = any\nlisten_port = {PORT}\nunix_socket_dir = {}\n\
             default_pool_size = {connections}\nmax_client_conn = 200\n{more}\n",
            socket.display(),
            database.get_port(),
            database.get_username(),
            dir.path().display(),
        );
        let file = dir.path().join("pgbouncer.ini");
        fs::write(&file, config).expect("a configuration");
        let mut command = Command::new(binary);
        command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // As whoever Postgres runs as: nobody else finds its socket, and PgBouncer refuses to be root.
        if rustix::process::geteuid().is_root() {
            chown(dir.path(), Some(owner.uid()), Some(owner.gid())).expect("its directory");
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut process = command.spawn().expect("PgBouncer runs");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let up = async {
            while let Some(line) = log.next_line().await.expect("a readable log") {
                if line.contains("process up") {
                    return;
                }
                eprintln!("{line}");
            }
            panic!("PgBouncer does not start");
        };
        timeout(PATIENCE, up).await.expect("PgBouncer starts");
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Some(Self { dir, _process: process })
    }

    /// The way to the same database through it.
    pub fn way(&self, database: &PgConnectOptions) -> PgConnectOptions {
        database.clone().socket(self.dir.path()).port(PORT)
    }
}
