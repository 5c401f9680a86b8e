//! What can be said of an endpoint on the command line.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::remote::{failure::Failure, input, session::json_object};

#[derive(Args, Serialize)]
pub struct Create {
    #[arg(long)]
    name: String,
    /// Where to send
    #[arg(long, value_name = "URL")]
    #[serde(rename = "url")]
    target: String,
    /// What to send: names, `prefix.*` or `*`
    #[arg(long, value_name = "PATTERN,…", value_delimiter = ',', required = true)]
    event_types: Vec<String>,
    /// Its id or your external id
    #[arg(long, default_value = "default")]
    #[serde(rename = "location_id")]
    location: String,
    /// Signing secret to bring along, or @FILE; without it, one is made
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub fields: Fields,
}

#[derive(Args, Serialize)]
pub struct Update {
    #[arg(value_name = "ENDPOINT_ID")]
    #[serde(skip)]
    pub id: String,
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where to send
    #[arg(long, value_name = "URL")]
    #[serde(rename = "url", skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// What to send, all of it: names, `prefix.*` or `*`
    #[arg(long, value_name = "PATTERN,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    event_types: Option<Vec<String>>,
    #[command(flatten)]
    #[serde(flatten)]
    pub fields: Fields,
    /// Fields to empty, such as rate_limit_per_s
    #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
    #[serde(skip)]
    pub unset: Vec<String>,
    /// Show receivers no client certificate any more
    #[arg(long, conflicts_with = "certificate")]
    #[serde(skip)]
    pub no_client_certificate: bool,
}

#[derive(Args, Serialize)]
pub struct Fields {
    /// Starts of attempts a second, at most
    // The server has a setting of the field's name, and names are the whole program's.
    #[arg(id = "starts_per_s", long = "starts-per-s", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_per_s: Option<u32>,
    /// Attempts at the same time, at most
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    max_in_flight: Option<u32>,
    /// Wire format [default: the tenant's]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    /// Custom header of every request; several may be given
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_object")]
    headers: Vec<(String, String)>,
    /// How long an attempt may take
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u32>,
    /// Waits between the attempts
    #[arg(long, value_name = "SECONDS,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_schedule_s: Option<Vec<u32>>,
    /// Anything of your own
    #[arg(long, value_name = "JSON", value_parser = json_object)]
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
    #[command(flatten)]
    #[serde(skip_serializing_if = "ClientCertificate::is_absent")]
    pub client_certificate: ClientCertificate,
}

/// Names of files, until they are read.
#[derive(Args, Serialize)]
pub struct ClientCertificate {
    /// Certificate chain (PEM) for receivers that ask who is calling (mTLS)
    #[arg(long = "client-certificate", value_name = "FILE", requires = "private_key")]
    certificate: Option<String>,
    /// Its private key (PEM, not encrypted)
    #[arg(long = "client-key", value_name = "FILE", requires = "certificate")]
    private_key: Option<String>,
}

impl ClientCertificate {
    fn is_absent(&self) -> bool {
        self.certificate.is_none()
    }

    /// What is in the files.
    pub fn read(self) -> Result<Self, Failure> {
        let read = |path: String| input::read(Some(&format!("@{path}")));
        Ok(Self {
            certificate: self.certificate.map(read).transpose()?,
            private_key: self.private_key.map(read).transpose()?,
        })
    }
}

#[derive(Args, Serialize)]
pub struct Rotate {
    #[arg(value_name = "ENDPOINT_ID")]
    #[serde(skip)]
    pub id: String,
    /// How long the old secret signs as well [default: a day, or 0 where the format has one signature]
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_s: Option<u64>,
    /// The new secret, or @FILE; without it, one is made
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

#[derive(Args, Serialize)]
pub struct Test {
    #[arg(value_name = "ENDPOINT_ID")]
    #[serde(skip)]
    pub id: String,
    /// Type whose sample is sent [default: the first that the endpoint gets]
    #[arg(long = "type", value_name = "TYPE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
}

#[derive(Args, Serialize)]
pub struct Recover {
    #[arg(value_name = "ENDPOINT_ID")]
    #[serde(skip)]
    pub id: String,
    /// Events that were published from then on
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Events that were published before then [default: now]
    #[arg(long, value_name = "TIME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// What became of them: failed, canceled or succeeded [default: failed]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    /// Of these types alone: names, prefix.* or *
    #[arg(long, value_name = "TYPE,…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    event_types: Option<Vec<String>>,
    /// How many are released a second [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_s: Option<u32>,
    /// Count them, and send nothing
    #[arg(long)]
    #[serde(skip)]
    pub dry_run: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("must be of the form NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn as_object<S: serde::Serializer>(headers: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name, value)))
}
