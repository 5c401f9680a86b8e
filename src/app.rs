//! The composition root: from settings to a running program, and back down in order.

use std::{fs, io, net::SocketAddr, os::unix::fs::OpenOptionsExt, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use crate::{
    api::{self, Manners, serve::serve},
    auth::{ApiKey, Context, ContextParts},
    config::Settings,
    db::{
        self, MIGRATOR, Pools,
        embedded::{DATABASE, Download, EmbeddedPostgres, Kind, Options, Search, Step},
    },
    egress::{EgressProxy, Policy, PolicySettings, Sender, SenderOptions},
    endpoints::Tester,
    events::{Announcer, EventsState, Ingest},
    format_book::FormatBook,
    maintenance::{self, partitions},
    open_files,
    queue::{bell, handoff},
    seal::Vault,
    telemetry::metrics::metrics,
    worker::{self, WorkerParts},
};

/// Connections of the private Postgres: several processes may share it.
const EMBEDDED_CONNECTIONS: u32 = 120;
/// At the end: how long requests under way may take.
const LAST_REQUESTS_WITHIN: Duration = Duration::from_secs(10);
/// How often metrics that nobody tells are looked at.
const OBSERVE_EVERY: Duration = Duration::from_secs(1);
/// At the end: how long a scrape may take.
const LAST_SCRAPE_WITHIN: Duration = Duration::from_secs(1);
/// Callers of the API that may be connected at once, as a part of the files that may be open: what receivers, Postgres
/// and look-ups need is not theirs to use up.
const CALLERS_PART: usize = 4;
/// Connections at once to the metrics' own listener.
const MAX_SCRAPERS: usize = 16;
/// What works through a pooler, and what to do about the rest.
const BEHIND_POOLER: &str = "only `posthaste api` works behind one (PgBouncer in transaction mode, for instance), after `posthaste migrate`; \
                             give everything else the address of Postgres itself";
const OPERATOR_KEY_FILE: &str = "operator.key";
const MASTER_KEY_FILE: &str = "master.key";

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub api: bool,
    pub worker: bool,
}

/// What only the program itself asks for.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Receivers that may be sent to although they are private: the demo's own.
    pub receivers: Vec<SocketAddr>,
    /// Listen on any port when the wanted one is taken.
    pub any_port: bool,
}

/// Postgres, wherever it is.
pub struct Database {
    embedded: Option<EmbeddedPostgres>,
    options: PgConnectOptions,
}

impl Database {
    /// Connects to the one in the settings, or runs a private one.
    pub async fn open(settings: &Settings, progress: impl Fn(Step) + Send + Sync) -> anyhow::Result<Self> {
        if let Some(url) = &settings.database_url {
            let options = url.parse::<PgConnectOptions>().context("DATABASE_URL is not a Postgres URL")?;
            return Ok(Self { embedded: None, options });
        }
        let download =
            Download::from_settings(settings.postgres_url.as_deref(), settings.postgres_sha256.as_deref())?;
        let options = Options {
            data_dir: settings.data_dir.clone(),
            kind: Kind::Durable,
            max_connections: EMBEDDED_CONNECTIONS,
            search: settings.postgres_bin.clone().map_or(Search::System, Search::Only),
            download,
        };
        let embedded = EmbeddedPostgres::start(options, progress).await?;
        let options = embedded.connect_options(DATABASE);
        Ok(Self { embedded: Some(embedded), options })
    }

    /// Applies what is missing; the partitions of today included.
    pub async fn migrate(&self) -> anyhow::Result<Pools> {
        let pools = db::connect(self.options.clone()).await?;
        if pools.api.is_shared() {
            // Of a database that is bare nobody knows how far it is.
            let is_migrated = db::is_migrated(&mut *pools.api.lease().await?).await.unwrap_or(false);
            ensure!(
                is_migrated,
                "the database is not migrated, and DATABASE_URL leads through a connection pooler: {BEHIND_POOLER}"
            );
        } else {
            MIGRATOR.run(pools.api.pool()).await.context("the migrations could not be applied")?;
        }
        db::check_roles(&mut *pools.api.lease().await?).await?;
        let mut transaction = pools.api.begin().await?;
        partitions::ensure_now(&mut transaction).await.context("today's partitions could not be made")?;
        transaction.commit().await?;
        Ok(pools)
    }

    /// One connection, to whatever schema is there, that sees every tenant.
    pub async fn connect(&self) -> anyhow::Result<PgConnection> {
        ensure!(
            !db::is_shared(&self.options).await?,
            "DATABASE_URL leads through a connection pooler: {BEHIND_POOLER}"
        );
        let mut connection = self.options.connect().await.context("the database can't be reached")?;
        db::check_roles(&mut connection).await?;
        Ok(connection)
    }

    /// Ends only when a private Postgres dies by itself.
    async fn died(&self) -> anyhow::Error {
        match &self.embedded {
            Some(embedded) => embedded.wait_exit().await.into(),
            None => std::future::pending().await,
        }
    }

    pub async fn close(self) -> anyhow::Result<()> {
        match self.embedded {
            Some(embedded) => embedded.stop().await.map_err(Into::into),
            None => Ok(()),
        }
    }
}

/// A key that was made at first start, or is told by the settings.
pub struct OperatorKey {
    pub key: ApiKey,
    /// Made just now: to be shown once.
    pub is_new: bool,
}

/// A running program.
pub struct App {
    pub address: Option<SocketAddr>,
    /// Of the metrics, where they have a listener of their own.
    pub metrics_address: Option<SocketAddr>,
    pub operator: OperatorKey,
    database: Database,
    pools: Pools,
    stop_api: CancellationToken,
    stop_ingest: CancellationToken,
    stop_work: CancellationToken,
    server: Option<JoinHandle<()>>,
    batcher: TaskTracker,
    workers: TaskTracker,
}

impl App {
    pub async fn start(
        settings: &Settings,
        roles: Roles,
        extras: Extras,
        progress: impl Fn(Step) + Send + Sync,
    ) -> anyhow::Result<Self> {
        open_files::raise_limit();
        let proxy = settings.egress_proxy.as_deref().map(EgressProxy::parse).transpose();
        let proxy = proxy.context("POSTHASTE_EGRESS_PROXY")?;
        // Bound first: an address that is taken should not cost the start of a database.
        let listener = if roles.api {
            Some(bind("POSTHASTE_LISTEN", settings.listen, extras.any_port).await?)
        } else {
            None
        };
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let scrapes = match settings.metrics_listen {
            Some(address) => Some(bind("POSTHASTE_METRICS_LISTEN", address, false).await?),
            None => None,
        };
        let metrics_address = scrapes.as_ref().map(TcpListener::local_addr).transpose()?;
        let database = Database::open(settings, progress).await?;
        let pools = database.migrate().await?;
        ensure!(
            !(roles.worker && pools.api.is_shared()),
            "DATABASE_URL leads through a connection pooler, and a worker's settings did not arrive: {BEHIND_POOLER}"
        );
        let operator = operator_key(settings)?;
        let vault = Arc::new(vault(settings)?);
        let policy = Arc::new(Policy::new(PolicySettings {
            allow: settings.allow_targets.clone(),
            deny: settings.deny_targets.clone(),
            allow_exact: extras.receivers.clone(),
            own_listeners: address.into_iter().chain(metrics_address).collect(),
            allow_http: settings.allow_http || !extras.receivers.is_empty(),
        }));
        let extra_ca_pem = match &settings.egress_ca_file {
            None => None,
            Some(file) => Some(
                fs::read(file)
                    .with_context(|| format!("POSTHASTE_EGRESS_CA_FILE: {} can't be read", file.display()))?,
            ),
        };
        let options = SenderOptions { extra_ca_pem, proxy, ..SenderOptions::default() };
        let sender = Sender::new(Arc::clone(&policy), options)?;

        let (stop_api, stop_ingest, stop_work) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let (batcher, workers) = (TaskTracker::new(), TaskTracker::new());
        let (handoff, handed) = handoff::channel();
        let formats = FormatBook::default();
        let ingest = Ingest::start(pools.ingest.clone(), handoff, &batcher, stop_ingest.clone());
        if roles.worker {
            let parts = WorkerParts {
                pools: pools.clone(),
                vault: Arc::clone(&vault),
                policy: Arc::clone(&policy),
                formats: formats.clone(),
                sender: sender.clone(),
                handed,
            };
            workers.spawn(worker::run(parts, stop_work.clone()));
            let announcer = Announcer::new(&pools, formats.clone());
            workers.spawn(announcer.run(stop_work.clone()));
            workers.spawn(maintenance::jobs::run(pools.api.pool().clone(), stop_work.clone()));
            let retention_days = settings.retention_days;
            workers.spawn(maintenance::run(
                pools.api.pool().clone(),
                pools.clock.clone(),
                retention_days,
                stop_work.clone(),
            ));
        } else {
            workers.spawn(bell::ring_for_all(pools.api.clone(), handed, stop_work.clone()));
        }
        workers.spawn(observe(pools.clone(), stop_work.clone()));
        if let Some(scrapes) = scrapes {
            workers.spawn(serve_metrics(scrapes, stop_work.clone()));
        }
        let server = listener.map(|listener| {
            let context = Context::new(ContextParts {
                pool: pools.api.clone(),
                tenants: pools.tenants.clone(),
                clock: pools.clock.clone(),
                vault,
                policy,
                formats,
                operator: operator.key.hash(),
                egress_ips: settings.egress_ips.iter().map(ToString::to_string).collect(),
                retention_days: settings.retention_days,
            });
            let events = EventsState::new(context.clone(), ingest, pools.tenants.clone());
            let tester = Tester::new(context.clone(), sender, workers.clone(), stop_api.clone());
            let manners = Manners {
                cors_origins: settings.cors_origins.clone(),
                rate_limit_per_s: settings.rate_limit_per_s,
                metrics_elsewhere: metrics_address.is_some(),
            };
            let router = api::router(&context, events, &tester, &manners);
            let most = (open_files::limit() / CALLERS_PART).max(1);
            tokio::spawn(serve(listener, router, most, stop_api.clone()))
        });
        batcher.close();
        workers.close();
        Ok(Self {
            address,
            metrics_address,
            operator,
            database,
            pools,
            stop_api,
            stop_ingest,
            stop_work,
            server,
            batcher,
            workers,
        })
    }

    /// Ends only when the program can't go on.
    pub async fn failed(&self) -> anyhow::Error {
        self.database.died().await
    }

    /// From the outside in: no more requests, no more publishes, no more attempts, no more database.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.stop_api.cancel();
        if let Some(mut server) = self.server
            && timeout(LAST_REQUESTS_WITHIN, &mut server).await.is_err()
        {
            tracing::warn!("requests were cut off that took too long to end");
            server.abort();
        }
        self.stop_ingest.cancel();
        self.batcher.wait().await;
        self.stop_work.cancel();
        self.workers.wait().await;
        self.pools.close().await;
        self.database.close().await
    }
}

/// Looks after the metrics that nobody tells.
async fn observe(pools: Pools, stop: CancellationToken) {
    let mut ticks = interval(OBSERVE_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        pools.gauge();
        metrics().upkeep();
    }
}

/// Until `stop`, so that what happens at the end can be seen.
async fn serve_metrics(listener: TcpListener, stop: CancellationToken) {
    let given_up = async {
        stop.cancelled().await;
        sleep(LAST_SCRAPE_WITHIN).await;
    };
    tokio::select! {
        () = serve(listener, api::metrics::alone(), MAX_SCRAPERS, stop.clone()) => {}
        () = given_up => {}
    }
}

async fn bind(setting: &str, address: SocketAddr, any_port: bool) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(_) if any_port => Ok(TcpListener::bind(SocketAddr::new(address.ip(), 0)).await?),
        Err(error) => Err(error).with_context(|| format!("can't listen on {address} ({setting})")),
    }
}

fn operator_key(settings: &Settings) -> anyhow::Result<OperatorKey> {
    if let Some(text) = &settings.operator_key {
        let key = ApiKey::parse(text).context("POSTHASTE_OPERATOR_KEY is not a key of the form ph_…")?;
        return Ok(OperatorKey { key, is_new: false });
    }
    let file = settings.data_dir.join(OPERATOR_KEY_FILE);
    let (text, is_new) = kept(&file, || Zeroizing::new(ApiKey::generate().reveal().to_owned()))?;
    let key =
        ApiKey::parse(text.trim()).with_context(|| format!("{} does not hold a key", file.display()))?;
    Ok(OperatorKey { key, is_new })
}

/// The master keys of the settings, or of the data directory's file.
pub fn vault(settings: &Settings) -> anyhow::Result<Vault> {
    Vault::parse(&master_key(settings)?).context("POSTHASTE_MASTER_KEY")
}

fn master_key(settings: &Settings) -> anyhow::Result<Zeroizing<String>> {
    match (&settings.master_key, &settings.database_url) {
        (Some(keys), _) => Ok(Zeroizing::new(keys.clone())),
        (None, None) => Ok(kept(&settings.data_dir.join(MASTER_KEY_FILE), Vault::generate_key)?.0),
        (None, Some(_)) => bail!(
            "POSTHASTE_MASTER_KEY is required with DATABASE_URL, the same on every node: 32 bytes in base64, for example \
             from `openssl rand -base64 32`"
        ),
    }
}

/// What the file holds; made, readable by its owner alone, where there is none. True where it was made.
fn kept(file: &Path, make: impl FnOnce() -> Zeroizing<String>) -> anyhow::Result<(Zeroizing<String>, bool)> {
    let unreadable = || format!("{} can't be read or made", file.display());
    match fs::read_to_string(file) {
        Ok(text) => return Ok((Zeroizing::new(text.trim().to_owned()), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(unreadable),
    }
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir).with_context(unreadable)?;
    }
    let text = make();
    // Written in full under another name first: a crash leaves no half key, and of two first starts one wins.
    let draft = file.with_extension(format!("new-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        io::Write::write_all(&mut handle, format!("{}\n", *text).as_bytes())?;
        handle.sync_all()
    };
    write().with_context(unreadable)?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft).with_context(unreadable)?;
    match linked {
        Ok(()) => Ok((text, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok((Zeroizing::new(fs::read_to_string(file).with_context(unreadable)?.trim().to_owned()), false))
        }
        Err(error) => Err(error).with_context(unreadable),
    }
}
