//! The embedded Postgres, run by the real program: starts, stops, is killed in every combination, is shared.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use posthaste::db::embedded::{DATABASE, EmbeddedError, EmbeddedPostgres, Kind, Options, Search};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::helpers::cluster::fresh_database;

/// A hang fails the test instead of stopping the run. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);
/// `nobody`, nearly everywhere. An id without a line in /etc/passwd would not do: initdb wants a name.
const STRANGER_UID: u32 = 65_534;

/// A data directory that the Postgres user can pass through when the test is run by root.
struct DataDir(tempfile::TempDir);

impl DataDir {
    fn new() -> Self {
        let open = std::fs::Permissions::from_mode(0o711);
        Self(tempfile::Builder::new().permissions(open).tempdir().expect("a temp dir"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn cluster(&self) -> PathBuf {
        self.path().join("postgres/data")
    }

    fn postmaster(&self) -> Pid {
        let text = std::fs::read_to_string(self.cluster().join("postmaster.pid")).expect("postmaster.pid");
        Pid::from_raw(text.lines().next().expect("a line").parse().expect("a pid")).expect("a pid")
    }

    async fn connect(&self) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass()
            .socket(self.path().join("postgres/socket"))
            .username("posthaste")
            .database(DATABASE)
            .ssl_mode(PgSslMode::Disable);
        PgConnection::connect_with(&options).await.expect("a connection")
    }

    async fn write_row(&self) {
        let mut connection = self.connect().await;
        sqlx::query("CREATE TABLE kept AS SELECT 42 AS answer")
            .execute(&mut connection)
            .await
            .expect("a table");
    }

    async fn assert_row_is_there(&self) {
        let mut connection = self.connect().await;
        let answer: i32 =
            sqlx::query_scalar("SELECT answer FROM kept").fetch_one(&mut connection).await.expect("a row");
        assert_eq!(answer, 42);
    }
}

struct Program {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn command(program: &Path, data_dir: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("serve").env("POSTHASTE_DATA_DIR", data_dir).env("POSTHASTE_LISTEN", "127.0.0.1:0");
        command.env_remove("DATABASE_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }

    /// Runs it until it says that it listens.
    async fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped")).lines();
        loop {
            let line = patiently(stdout.next_line()).await.expect("text");
            let Some(line) = line else { panic!("ended before it listened: {}", stderr(&mut child).await) };
            if line.starts_with("listening on http://127.0.0.1:") {
                return Self { child, stdout };
            }
        }
    }

    async fn serve(dir: &DataDir) -> Self {
        Self::start(Self::command(Path::new(env!("CARGO_BIN_EXE_posthaste")), &dir.path())).await
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("it runs");
        kill_process(pid, signal).expect("a signal");
    }

    async fn wait(&mut self) -> ExitStatus {
        patiently(self.child.wait()).await.expect("a status")
    }

    async fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let status = self.wait().await;
        while patiently(self.stdout.next_line()).await.expect("text").is_some() {}
        status
    }
}

async fn patiently<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it hangs")
}

async fn stderr(child: &mut Child) -> String {
    let mut text = String::new();
    patiently(child.stderr.take().expect("piped").read_to_string(&mut text)).await.expect("text");
    text
}

#[tokio::test]
async fn the_first_start_makes_a_cluster_and_ctrl_c_stops_it_cleanly() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = DataDir::new();
        let program = Program::serve(&dir).await;
        dir.write_row().await;
        assert!(program.end(signal).await.success());
        assert!(!dir.cluster().join("postmaster.pid").exists(), "Postgres was not stopped cleanly");
        let program = Program::serve(&dir).await;
        dir.assert_row_is_there().await;
        assert!(program.end(signal).await.success());
    }
}

#[tokio::test]
async fn the_cluster_is_durable_and_private() {
    let dir = DataDir::new();
    let program = Program::serve(&dir).await;
    let mut connection = dir.connect().await;
    for (name, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("TimeZone", "UTC"),
    ] {
        let sql = "SELECT coalesce(current_setting($1, true), (SELECT datcollate FROM pg_database
                   WHERE datname = current_database()))"; // lc_collate is no setting from 16 on
        let value: String =
            sqlx::query_scalar(sql).bind(name).fetch_one(&mut connection).await.expect("a setting");
        assert_eq!(value, expected, "{name}");
    }
    for private in ["postgres", "postgres/data", "postgres/socket"] {
        let mode = std::fs::metadata(dir.path().join(private)).expect("metadata").mode();
        assert_eq!(mode & 0o777, 0o700, "{private}");
    }
    drop(connection);
    assert!(program.end(Signal::TERM).await.success());
}

#[tokio::test]
async fn a_killed_parent_is_survived() {
    let dir = DataDir::new();
    let program = Program::serve(&dir).await;
    dir.write_row().await;
    assert!(!program.end(Signal::KILL).await.success());
    let program = Program::serve(&dir).await;
    dir.assert_row_is_there().await;
    assert!(program.end(Signal::TERM).await.success());
}

#[tokio::test]
async fn a_killed_postmaster_ends_the_program_with_one_clear_error() {
    let dir = DataDir::new();
    let mut program = Program::serve(&dir).await;
    dir.write_row().await;
    kill_process(dir.postmaster(), Signal::KILL).expect("a signal");
    assert_eq!(program.wait().await.code(), Some(1));
    let text = stderr(&mut program.child).await;
    assert!(text.contains("the embedded Postgres is gone"), "{text}");
    let program = Program::serve(&dir).await;
    dir.assert_row_is_there().await;
    assert!(program.end(Signal::TERM).await.success());
}

#[tokio::test]
async fn both_killed_is_survived_and_orphans_at_work_do_not_block_the_next_start() {
    let dir = DataDir::new();
    let program = Program::serve(&dir).await;
    dir.write_row().await;
    // A backend that is too busy to notice that its postmaster is gone.
    let mut connection = dir.connect().await;
    let busy = tokio::spawn(async move {
        let sql = "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b";
        sqlx::query(sql).execute(&mut connection).await
    });
    let mut observer = dir.connect().await;
    let is_busy = "SELECT EXISTS (SELECT FROM pg_stat_activity
                   WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%generate_series%')";
    while !sqlx::query_scalar::<_, bool>(is_busy).fetch_one(&mut observer).await.expect("an answer") {}
    let postmaster = dir.postmaster();
    program.signal(Signal::KILL);
    kill_process(postmaster, Signal::KILL).expect("a signal");
    assert!(!program.end(Signal::KILL).await.success());
    let program = Program::serve(&dir).await;
    dir.assert_row_is_there().await;
    assert!(busy.await.expect("no panic").is_err(), "the orphan went on");
    assert!(program.end(Signal::TERM).await.success());
}

#[tokio::test]
async fn a_second_process_attaches_and_leaves_the_server_alone() {
    let dir = DataDir::new();
    let owner = Program::serve(&dir).await;
    dir.write_row().await;
    let postmaster = dir.postmaster();
    let second = Program::serve(&dir).await;
    assert_eq!(dir.postmaster(), postmaster);
    assert!(second.end(Signal::TERM).await.success());
    dir.assert_row_is_there().await;

    // When the owner goes, who is attached says so and ends.
    let mut third = Program::serve(&dir).await;
    assert!(owner.end(Signal::TERM).await.success());
    assert_eq!(third.wait().await.code(), Some(1));
    let text = stderr(&mut third.child).await;
    assert!(text.contains("the process that ran it has ended"), "{text}");
}

#[tokio::test]
async fn processes_that_start_at_once_share_one_cluster() {
    let dir = DataDir::new();
    let (first, second, third) =
        tokio::join!(Program::serve(&dir), Program::serve(&dir), Program::serve(&dir));
    dir.write_row().await;
    // Who owns it is chance, and so is who sees the server go first.
    tokio::join!(first.end(Signal::TERM), second.end(Signal::TERM), third.end(Signal::TERM));
    assert!(!dir.cluster().join("postmaster.pid").exists(), "Postgres was not stopped cleanly");
}

#[tokio::test]
async fn an_unprivileged_user_can_run_it() {
    if !rustix::process::geteuid().is_root() {
        return; // then every other test shows it
    }
    let dir = DataDir::new();
    // The build directory may be closed to others.
    let program = dir.0.path().join("posthaste");
    // By another process: a child that is forked while this one writes would keep the copy open, too busy to be run.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_posthaste")).arg(&program).status().await;
    assert!(copied.expect("cp runs").success());
    std::fs::create_dir(dir.path()).expect("a directory");
    std::os::unix::fs::chown(dir.path(), Some(STRANGER_UID), Some(STRANGER_UID)).expect("a new owner");
    let command = || {
        let mut command = Program::command(&program, &dir.path());
        command.uid(STRANGER_UID).gid(STRANGER_UID);
        command
    };
    let program = Program::start(command()).await;
    dir.write_row().await;
    assert!(program.end(Signal::KILL).await.code().is_none());
    let program = Program::start(command()).await;
    assert!(program.end(Signal::INT).await.success());
    let owner = std::fs::metadata(dir.cluster()).expect("metadata").uid();
    assert_eq!(owner, STRANGER_UID);

    // Root takes over such a directory without changing whose it is, and hands it back working.
    let program = Program::serve(&dir).await;
    dir.assert_row_is_there().await;
    assert!(program.end(Signal::TERM).await.success());
    let program = Program::start(command()).await;
    dir.assert_row_is_there().await;
    assert!(program.end(Signal::TERM).await.success());
}

#[tokio::test]
async fn a_data_dir_of_somebody_else_is_one_clear_error() {
    if !rustix::process::geteuid().is_root() {
        return; // only root can make one
    }
    let dir = DataDir::new();
    assert!(Program::serve(&dir).await.end(Signal::TERM).await.success());
    let program = dir.0.path().join("posthaste");
    std::fs::copy(env!("CARGO_BIN_EXE_posthaste"), &program).expect("a copy");
    let output = Program::command(&program, &dir.path()).uid(STRANGER_UID).gid(STRANGER_UID).output();
    let output = patiently(output).await.expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("belongs to another user"), "{text}");
}

#[tokio::test]
async fn no_postgres_at_all_is_one_clear_error() {
    let dir = DataDir::new();
    let output = Program::command(Path::new(env!("CARGO_BIN_EXE_posthaste")), &dir.path())
        .env("POSTGRES_BIN", dir.0.path())
        .output();
    let output = patiently(output).await.expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().expect("a line");
    for hint in ["POSTGRES_BIN", "apt-get install postgresql", "brew install", "docker compose up"] {
        assert!(line.contains(hint), "{hint} is not in: {line}");
    }

    // Nor to be had from elsewhere: both reasons are told.
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    let download = posthaste::db::embedded::Download::from_settings(
        Some(&format!("http://{unused}/postgres.tar.gz")),
        Some(&"0".repeat(64)),
    );
    let options = Options {
        data_dir: dir.path(),
        kind: Kind::Throwaway,
        max_connections: 10,
        search: Search::Downloaded,
        download: download.expect("valid"),
    };
    let error = EmbeddedPostgres::start(options, |_| {}).await.expect_err("no Postgres");
    assert!(matches!(error, EmbeddedError::NoPostgres { .. }), "{error}");
    assert!(error.to_string().contains("downloading http://127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_long_data_dir_works_and_others_find_its_socket() {
    let dir = DataDir::new();
    let data_dir = dir.path().join("x".repeat(100));
    let options = || Options {
        data_dir: data_dir.clone(),
        kind: Kind::Throwaway,
        max_connections: 20,
        search: Search::System,
        download: None,
    };
    let owner = EmbeddedPostgres::start(options(), |_| {}).await.expect("a start");
    let attached = EmbeddedPostgres::start(options(), |_| {}).await.expect("an attachment");
    assert!(owner.is_owner() && !attached.is_owner());
    assert_eq!(attached.socket_dir(), owner.socket_dir());
    assert_eq!(attached.postmaster_pid(), owner.postmaster_pid());
    let mut connection =
        PgConnection::connect_with(&attached.connect_options(DATABASE)).await.expect("a connection");
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.expect("a setting");
    assert_eq!(fsync, "off", "a throw-away cluster");
    let socket_dir = owner.socket_dir().to_path_buf();
    owner.stop().await.expect("a clean stop");
    assert!(matches!(attached.wait_exit().await, EmbeddedError::Died { .. }));
    assert!(!socket_dir.exists(), "the short directory is left in the temp dir");
}

#[tokio::test]
async fn a_dropped_handle_stops_the_server() {
    let dir = DataDir::new();
    let options = Options {
        data_dir: dir.path(),
        kind: Kind::Throwaway,
        max_connections: 10,
        search: Search::System,
        download: None,
    };
    let postgres = EmbeddedPostgres::start(options, |_| {}).await.expect("a start");
    drop(postgres);
    assert!(!dir.cluster().join("postmaster.pid").exists());
}

#[tokio::test]
async fn databases_of_tests_are_apart() {
    let ((one, first), (_, second)) = tokio::join!(fresh_database(), fresh_database());
    assert_ne!(first, second);
    let mut connection = PgConnection::connect_with(&one).await.expect("a connection");
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.expect("a name");
    assert_eq!(name, first);
}
