//! A database of its own for every test, on one throw-away cluster per test process.
//!
//! It belongs to a plain user, as on a Postgres that somebody brings: a superuser would not see the walls between tenants.
//!
//! The cluster starts with the first test that asks, in the temp dir, with fsync off. Rust never drops statics, so a
//! small shell does the last duty: it waits until this process is gone (however it went), then for the server, then
//! removes the directory. The static holds plain data only, since every `#[tokio::test]` has its own runtime: pools
//! must never outlive their test.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use posthaste::db::embedded::{Download, EmbeddedPostgres, Kind, Options, Search};
use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;

/// Many tests at once, each with a pool or two.
const MAX_CONNECTIONS: u32 = 200;
/// Of a cluster that one test has for itself.
const PRIVATE_CONNECTIONS: u32 = 60;
/// `STRATEGY` came with Postgres 15; copying files beats writing WAL for a small template.
const FIRST_WITH_STRATEGY: i32 = 150_000;

/// Owns the databases. May make roles, which the migrations do.
const OWNER: &str = "posthaste_owner";

struct Cluster {
    postgres: EmbeddedPostgres,
    create_suffix: &'static str,
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// A fresh, migrated database, and its name. It is never dropped: the whole cluster goes when the run ends.
pub async fn fresh_database() -> (PgConnectOptions, String) {
    let cluster =
        tokio::task::spawn_blocking(|| CLUSTER.get_or_init(start)).await.expect("the cluster starts");
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    let mut connection = connect(&cluster.postgres, "postgres").await;
    let suffix = cluster.create_suffix;
    let sql = format!("CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template_posthaste{suffix}");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a database from the template");
    connection.close().await.expect("a clean end");
    (cluster.postgres.connect_options(&name).username(OWNER), name)
}

/// A database without anything in it, of a user that is new, too, and may do nothing else; and the way in for its superuser.
pub async fn bare_database() -> (PgConnectOptions, PgConnectOptions) {
    let cluster =
        tokio::task::spawn_blocking(|| CLUSTER.get_or_init(start)).await.expect("the cluster starts");
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    let mut connection = connect(&cluster.postgres, "postgres").await;
    for sql in [format!("CREATE ROLE {name} LOGIN"), format!("CREATE DATABASE {name} OWNER {name}")] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a database and its user");
    }
    connection.close().await.expect("a clean end");
    let superuser = cluster.postgres.connect_options(&name);
    (superuser.clone().username(&name), superuser)
}

/// For what only a superuser may do to a database.
pub async fn superuser(database: &str) -> PgConnection {
    let cluster =
        tokio::task::spawn_blocking(|| CLUSTER.get_or_init(start)).await.expect("the cluster starts");
    connect(&cluster.postgres, database).await
}

/// Cuts everybody off from this database, and to them it is not there until [`give_back`].
pub async fn take_away(database: &PgConnectOptions) {
    let name = database.get_database().expect("a name");
    let mut connection = superuser("postgres").await;
    for sql in [
        format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"),
        format!("ALTER DATABASE {name} RENAME TO {name}_away"),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a database that goes");
    }
}

pub async fn give_back(database: &PgConnectOptions) {
    let name = database.get_database().expect("a name");
    let mut connection = superuser("postgres").await;
    for sql in [
        format!("ALTER DATABASE {name}_away ALLOW_CONNECTIONS true"),
        format!("ALTER DATABASE {name}_away RENAME TO {name}"),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a database that is back");
    }
}

/// A place for [`private_postgres`].
pub fn private_dir() -> TempDir {
    let open = fs::Permissions::from_mode(0o711);
    tempfile::Builder::new().prefix("posthaste-test-").permissions(open).tempdir().expect("a temp dir")
}

/// A Postgres of the test's own, which it may kill, start again, or ask what the whole of it has done.
pub async fn private_postgres(dir: &Path, kind: Kind) -> EmbeddedPostgres {
    let options = options(dir.to_path_buf(), kind, PRIVATE_CONNECTIONS);
    EmbeddedPostgres::start(options, |_| {}).await.expect("a private Postgres")
}

fn options(data_dir: PathBuf, kind: Kind, max_connections: u32) -> Options {
    Options {
        data_dir,
        kind,
        max_connections,
        search: std::env::var_os("POSTGRES_BIN").map_or(Search::System, |dir| Search::Only(dir.into())),
        download: Download::pinned(),
    }
}

/// On a runtime of its own: the one of the test that came first ends with that test.
fn start() -> Cluster {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let dir = private_dir();
        let reaper = Reaper::watch(dir.path());
        let options = options(dir.keep(), Kind::Throwaway, MAX_CONNECTIONS);
        let postgres = EmbeddedPostgres::start(options, |_| {}).await.expect("a throw-away Postgres starts");
        reaper.until_we_die();

        let mut connection = connect(&postgres, "postgres").await;
        let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
            .fetch_one(&mut connection)
            .await
            .expect("a version");
        for sql in [
            format!("CREATE ROLE {OWNER} LOGIN CREATEROLE"),
            format!("CREATE DATABASE template_posthaste OWNER {OWNER}"),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.expect("a template and its owner");
        }
        connection.close().await.expect("a clean end");
        let options = postgres.connect_options("template_posthaste").username(OWNER);
        let mut template = PgConnection::connect_with(&options).await.expect("a connection");
        posthaste::db::MIGRATOR.run(&mut template).await.expect("the migrations apply");
        let mut transaction = template.begin().await.expect("a transaction");
        posthaste::maintenance::partitions::ensure_now(&mut transaction).await.expect("today's partitions");
        transaction.commit().await.expect("a commit");
        template.close().await.expect("a clean end: a template must have no connections");

        let create_suffix = if version >= FIRST_WITH_STRATEGY { " STRATEGY FILE_COPY" } else { "" };
        Cluster { postgres, create_suffix }
    })
}

async fn connect(postgres: &EmbeddedPostgres, database: &str) -> PgConnection {
    PgConnection::connect_with(&postgres.connect_options(database)).await.expect("a connection")
}

/// The shell that clears up after us. Its standard input is a pipe that only we hold open.
struct Reaper(std::process::Child);

impl Reaper {
    fn watch(dir: &Path) -> Self {
        // The first line of postmaster.pid is the server; the file goes when it has shut down (its pid may stay
        // for a while, until init has collected it). Told to stop here too, for where the kernel does not.
        const SCRIPT: &str = r#"
            trap '' INT TERM HUP
            read -r _
            file="$1/postgres/data/postmaster.pid"
            if read -r pid < "$file"; then
                kill -INT "$pid"
                while [ -e "$file" ] && kill -0 "$pid"; do sleep 0.05; done
            fi
            rm -rf "$1"
        "#;
        let dir = dir.canonicalize().expect("a path");
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "reaper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Self(shell.expect("sh runs"))
    }

    /// Leaves the pipe open for as long as this process lives; the kernel closes it.
    fn until_we_die(self) {
        std::mem::forget(self.0);
    }
}
