//! One way to call the API.
//!
//! Deliberately follows no redirect (the key would go along) and repeats nothing by itself.

use std::{error::Error, fs, time::Duration};

use reqwest::{Certificate, Method, redirect};
use serde::Serialize;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::{
    ClientSettings,
    failure::{Failure, Problem},
};
use crate::config::Settings;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For the whole of a request, its answer included.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
const USER_AGENT: &str = concat!("posthaste-cli/", env!("CARGO_PKG_VERSION"));

/// A request to be made.
pub struct Call {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<String>,
    idempotency_key: Option<String>,
}

impl Call {
    /// `path`: the segments below `/v1`, unescaped.
    pub fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        Self { method, path, query: Vec::new(), body: None, idempotency_key: None }
    }

    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    pub fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    pub fn query(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub fn body(mut self, body: &impl Serialize) -> Result<Self, Failure> {
        let text = serde_json::to_string(body).map_err(|error| Failure::Usage(error.to_string()))?;
        self.body = Some(text);
        Ok(self)
    }

    pub fn idempotency_key(mut self, key: Option<String>) -> Self {
        self.idempotency_key = key;
        self
    }
}

/// What came back, as it came and as it is read. Both are empty where there is nothing to say (204).
pub struct Answer {
    pub text: String,
    pub value: Value,
    /// The Idempotency-Key had been used for the same request before.
    pub replayed: bool,
}

pub struct Api {
    http: reqwest::Client,
    base: Url,
    key: Option<Zeroizing<String>>,
    tenant: Option<String>,
}

impl Api {
    pub fn new(client: &ClientSettings, settings: &Settings) -> Result<Self, Failure> {
        // Mozilla's roots besides the machine's own, so that a bare container works.
        let roots =
            webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().filter_map(|der| Certificate::from_der(der).ok());
        let http = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWERED_WITHIN)
            .redirect(redirect::Policy::none())
            .tls_certs_merge(roots)
            .build()
            .map_err(|error| Failure::Unreachable(root_cause(&error)))?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Ok(Self {
            http,
            base: client.url.clone(),
            key: given(&client.api_key).map(Zeroizing::new).or_else(|| operator_key(&client.url, settings)),
            tenant: given(&client.tenant),
        })
    }

    pub async fn call(&self, call: Call) -> Result<Answer, Failure> {
        let mut request = self.http.request(call.method, self.address(&call.path, &call.query)?);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.as_str());
        }
        let named = [("posthaste-tenant", &self.tenant), ("idempotency-key", &call.idempotency_key)];
        for (name, value) in named {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        if let Some(body) = call.body {
            request = request.header("content-type", "application/json").body(body);
        }
        let failed = |error: reqwest::Error| {
            if error.is_builder() {
                Failure::Usage(
                    "the key, tenant or idempotency key has characters that no header can have".into(),
                )
            } else {
                Failure::Unreachable(format!("{} can't be reached: {}", self.base, root_cause(&error)))
            }
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let text = response.text().await.map_err(failed)?;
        if !status.is_success() {
            return Err(serde_json::from_str::<Problem>(&text).map_or_else(
                |_| {
                    Failure::Unreachable(format!(
                        "{} answered {status}, and not as Posthaste would",
                        self.base
                    ))
                },
                Failure::Answered,
            ));
        }
        let value = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
        let value = value.map_err(|_| {
            Failure::Unreachable(format!("{} answered something that is not JSON", self.base))
        })?;
        Ok(Answer { text, value, replayed })
    }

    fn address(&self, path: &[String], query: &[(&'static str, String)]) -> Result<Url, Failure> {
        let mut address = self.base.clone();
        // A URL has no segments of these: what follows would be taken for something else.
        if let Some(wrong) = path.iter().find(|segment| matches!(segment.as_str(), "" | "." | "..")) {
            return Err(Failure::Usage(format!("{wrong:?} is not an id")));
        }
        address
            .path_segments_mut()
            .map_err(|()| Failure::Usage("the API's URL can't have a path".into()))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        if !query.is_empty() {
            address.query_pairs_mut().extend_pairs(query);
        }
        Ok(address)
    }
}

/// The operator's key of this machine's own Posthaste. It goes to this machine alone: an address that was mistyped, or
/// another installation's, must not get it unasked.
fn operator_key(url: &Url, settings: &Settings) -> Option<Zeroizing<String>> {
    let is_here = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    if !is_here {
        return None;
    }
    let told = settings.operator_key.clone().map(Zeroizing::new);
    told.or_else(|| {
        let text = Zeroizing::new(fs::read_to_string(settings.data_dir.join("operator.key")).ok()?);
        Some(Zeroizing::new(text.trim().to_owned()))
    })
}

/// The innermost cause is the one that helps: "Connection refused", not "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() { format!("no answer within the time ({cause})") } else { cause.to_string() }
}
