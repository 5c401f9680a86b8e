//! Settings: flags or environment, checked before anything starts.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use axum::http::HeaderValue;
use clap::{Args, CommandFactory, builder::BoolishValueParser};
use ipnet::IpNet;

/// Days that events and their history are kept.
pub const RETENTION_DAYS_DEFAULT: u16 = 30;

/// Requests a second of one key, where nothing else is said.
pub const RATE_LIMIT_PER_S_DEFAULT: u32 = 500;

/// What the program can be told. Every setting is a flag and an environment variable.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Postgres (14 or newer) to use, for `api` also through PgBouncer; without it, a private one is run under the data
    /// directory
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,

    /// Where the private Postgres and the keys made at first start live
    #[arg(long, env = "POSTHASTE_DATA_DIR", value_name = "DIR", default_value = "./data", global = true)]
    pub data_dir: PathBuf,

    /// Address of the API
    #[arg(
        long,
        env = "POSTHASTE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080",
        global = true
    )]
    pub listen: SocketAddr,

    /// Address of the metrics, for scraping; without it, they are at /metrics of the API
    #[arg(long, env = "POSTHASTE_METRICS_LISTEN", value_name = "ADDR:PORT", global = true)]
    pub metrics_listen: Option<SocketAddr>,

    /// The operator's API key; without it, one is made and kept as operator.key in the data directory
    #[arg(long, env = "POSTHASTE_OPERATOR_KEY", value_name = "KEY", hide_env_values = true, global = true)]
    pub operator_key: Option<String>,

    /// Keys that seal secrets at rest: base64 of 32 bytes each, newest first; required with DATABASE_URL, else made and
    /// kept as master.key in the data directory
    #[arg(long, env = "POSTHASTE_MASTER_KEY", value_name = "KEY,…", hide_env_values = true, global = true)]
    pub master_key: Option<String>,

    /// Address ranges that may be sent to although they are private
    #[arg(long, env = "POSTHASTE_ALLOW_TARGETS", value_name = "CIDR,…", value_delimiter = ',', value_parser = cidr, global = true)]
    pub allow_targets: Vec<IpNet>,

    /// Address ranges that are never sent to
    #[arg(long, env = "POSTHASTE_DENY_TARGETS", value_name = "CIDR,…", value_delimiter = ',', value_parser = cidr, global = true)]
    pub deny_targets: Vec<IpNet>,

    /// Allow endpoints with http:// URLs in every wire format
    #[arg(long, env = "POSTHASTE_ALLOW_HTTP", value_name = "BOOL", default_value = "false", num_args = 0..=1,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), global = true)]
    pub allow_http: bool,

    /// Proxy that everything sent to receivers goes through: an http URL, with user and password where it asks for them
    #[arg(long, env = "POSTHASTE_EGRESS_PROXY", value_name = "URL", hide_env_values = true, global = true)]
    pub egress_proxy: Option<String>,

    /// PEM file with certificates of authorities to trust besides the public ones
    #[arg(long, env = "POSTHASTE_EGRESS_CA_FILE", value_name = "FILE", global = true)]
    pub egress_ca_file: Option<PathBuf>,

    /// Addresses that deliveries come from, shown to tenants for their firewalls
    #[arg(long, env = "POSTHASTE_EGRESS_IPS", value_name = "IP,…", value_delimiter = ',', global = true)]
    pub egress_ips: Vec<IpAddr>,

    /// Origins of web pages that may call the API from a browser, or `*`
    #[arg(
        long,
        env = "POSTHASTE_CORS_ORIGINS",
        value_name = "ORIGIN,…",
        value_delimiter = ',',
        global = true
    )]
    pub cors_origins: Vec<HeaderValue>,

    /// Requests a second of one API key, publishing apart; 0 is no limit
    #[arg(long, env = "POSTHASTE_RATE_LIMIT_PER_S", value_name = "COUNT",
          default_value_t = RATE_LIMIT_PER_S_DEFAULT, global = true)]
    pub rate_limit_per_s: u32,

    /// Days that events and their history are kept
    #[arg(long, env = "POSTHASTE_RETENTION_DAYS", value_name = "DAYS", default_value_t = RETENTION_DAYS_DEFAULT,
          value_parser = clap::value_parser!(u16).range(1..=3650), global = true)]
    pub retention_days: u16,

    /// Directory of the Postgres binaries to run; without it, the usual places are searched
    #[arg(long, env = "POSTGRES_BIN", value_name = "DIR", global = true)]
    pub postgres_bin: Option<PathBuf>,

    /// Archive to unpack Postgres from where none is installed (tar.gz)
    #[arg(long, env = "POSTHASTE_POSTGRES_URL", value_name = "URL", global = true)]
    pub postgres_url: Option<String>,

    /// SHA-256 of that archive, hex
    #[arg(long, env = "POSTHASTE_POSTGRES_SHA256", value_name = "HEX", global = true)]
    pub postgres_sha256: Option<String>,

    /// What to log, as `level` or `module=level,…` [default: info; warn in the demo and where the API is called]
    #[arg(long, env = "POSTHASTE_LOG", value_name = "FILTER", global = true)]
    pub log: Option<String>,

    /// How log lines look
    #[arg(
        long,
        env = "POSTHASTE_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        value_enum,
        global = true
    )]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// A range, or one address as a range of its own.
fn cidr(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "is not an address range such as 10.0.0.0/8".to_owned())
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("{0} is not a setting of Posthaste; `posthaste --help` lists them")]
    Unknown(String),
}

/// A misspelt setting must not be silently ignored: refuses `POSTHASTE_` variables that nothing reads.
pub fn refuse_unknown<C: CommandFactory>(names: impl Iterator<Item = String>) -> Result<(), SettingsError> {
    let command = C::command();
    let known: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_env()).collect();
    for name in names {
        if name.starts_with("POSTHASTE_") && !known.iter().any(|known| *known == name.as_str()) {
            return Err(SettingsError::Unknown(name));
        }
    }
    Ok(())
}
