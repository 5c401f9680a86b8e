//! Posthaste itself, in the test's process, on a database of its own.

use clap::Parser;
use posthaste::{
    app::{App, Extras, Roles},
    auth::ApiKey,
    config::Settings,
    seal::Vault,
};
use serde_json::json;
use sqlx::{ConnectOptions, PgConnection, PgPool, postgres::PgConnectOptions};

use super::{
    client::{Client, Reply},
    cluster,
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    settings: Settings,
}

/// A running program and the way to it. Stopped by [`TestApp::stop`], or with the test.
pub struct TestApp {
    pub app: Option<App>,
    pub base: String,
    pub operator_key: String,
    pub settings: Settings,
    pub database: PgConnectOptions,
}

/// What programs under test are told unless the test says otherwise: receivers on loopback, http, any port.
const DEFAULTS: [(&str, &str); 3] =
    [("--listen", "127.0.0.1:0"), ("--allow-targets", "127.0.0.0/8"), ("--allow-http", "true")];

/// Settings for a program on this database: [`DEFAULTS`], but for those that `extra` sets.
pub fn settings(database: &PgConnectOptions, extra: &[&str]) -> Settings {
    let url = database.to_url_lossy().to_string();
    let operator = ApiKey::generate().reveal().to_owned();
    let master = Vault::generate_key().to_string();
    let mut line =
        vec!["posthaste", "--database-url", &url, "--operator-key", &operator, "--master-key", &master];
    for (flag, value) in DEFAULTS.iter().filter(|(flag, _)| !extra.contains(flag)) {
        line.extend([flag, value]);
    }
    line.extend(extra);
    Line::parse_from(line).settings
}

/// The same settings as arguments, for a process of its own.
pub fn arguments(settings: &Settings) -> Vec<String> {
    let given = |value: &Option<String>| value.clone().expect("given");
    let targets: Vec<String> = settings.allow_targets.iter().map(ToString::to_string).collect();
    let pairs = [
        ("--database-url", given(&settings.database_url)),
        ("--operator-key", given(&settings.operator_key)),
        ("--master-key", given(&settings.master_key)),
        ("--listen", settings.listen.to_string()),
        ("--allow-targets", targets.join(",")),
        ("--allow-http", settings.allow_http.to_string()),
        // Takeovers and the like are what such tests are about.
        ("--log", "off".to_owned()),
    ];
    pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
}

/// API and worker on a fresh database.
pub async fn spawn() -> TestApp {
    spawn_with(&[]).await
}

/// The same with more settings, such as `["--retention-days", "1"]`.
pub async fn spawn_with(extra: &[&str]) -> TestApp {
    let (database, _) = cluster::fresh_database().await;
    let settings = settings(&database, extra);
    start(settings, database, Roles { api: true, worker: true }).await
}

/// A program in any role on a database that is there already. Programs on one database share their settings.
pub async fn start(settings: Settings, database: PgConnectOptions, roles: Roles) -> TestApp {
    let app = App::start(&settings, roles, Extras::default(), |_| {}).await.expect("the program starts");
    let base = app.address.map(|address| format!("http://{address}")).unwrap_or_default();
    let operator_key = app.operator.key.reveal().to_owned();
    TestApp { app: Some(app), base, operator_key, settings, database }
}

impl TestApp {
    pub async fn stop(&mut self) {
        if let Some(app) = self.app.take() {
            app.stop().await.expect("a clean stop");
        }
    }

    /// Raw SQL, to look at what is stored.
    pub async fn sql(&self) -> PgConnection {
        self.database.connect().await.expect("a connection")
    }

    pub async fn pool(&self) -> PgPool {
        PgPool::connect_with(self.database.clone()).await.expect("a pool")
    }

    /// Another program on this one's database.
    pub async fn another(&self, roles: Roles) -> Self {
        start(self.settings.clone(), self.database.clone(), roles).await
    }

    /// Events, pending deliveries and idempotency keys that are stored.
    pub async fn stored(&self) -> (i64, i64, i64) {
        sqlx::query_as("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM queue), (SELECT count(*) FROM idempotency)")
            .fetch_one(&mut self.sql().await)
            .await
            .expect("counts")
    }

    pub fn operator(&self) -> Client {
        Client::new(&self.base, Some(&self.operator_key))
    }

    pub fn anonymous(&self) -> Client {
        Client::new(&self.base, None)
    }

    pub fn with_key(&self, key: &str) -> Client {
        Client::new(&self.base, Some(key))
    }

    pub async fn tenant(&self) -> Tenant {
        self.tenant_with(json!({})).await
    }

    /// A tenant with these fields, its default location, and a key with all scopes.
    pub async fn tenant_with(&self, fields: serde_json::Value) -> Tenant {
        let mut body = json!({"name": "A tenant"});
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        let made = self.operator().post("/v1/tenants", body).await.expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        let key = self.key(&id, &["read", "write", "publish", "secrets"]).await;
        let client = self.with_key(&key);
        let location = client.get("/v1/locations/default").await.expect(200);
        Tenant { id, key, client, location_id: location["id"].as_str().unwrap().to_owned() }
    }

    pub async fn key(&self, tenant_id: &str, scopes: &[&str]) -> String {
        let body = json!({"name": "a key", "scopes": scopes});
        let made = self.operator().post(&format!("/v1/tenants/{tenant_id}/keys"), body).await.expect(201);
        made["key"].as_str().unwrap().to_owned()
    }
}

/// A tenant and a client that acts for it.
pub struct Tenant {
    pub id: String,
    pub key: String,
    pub client: Client,
    pub location_id: String,
}

impl Tenant {
    /// An endpoint for `message.*` with these fields besides; the answer in full, secret included.
    pub async fn endpoint(&self, url: &str, fields: serde_json::Value) -> serde_json::Value {
        let mut body = json!({"name": "An endpoint", "url": url, "event_types": ["message.*"]});
        body.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap_or_default());
        self.client.post("/v1/endpoints", body).await.expect(201)
    }

    /// Publishes to the default location; the answer to a 202.
    pub async fn publish(&self, event_type: &str, data: serde_json::Value) -> serde_json::Value {
        let path = format!("/v1/locations/{}/events", self.location_id);
        self.client.post(&path, json!({"type": event_type, "data": data})).await.expect(202)
    }

    /// Publishes this text as `data`, as it stands.
    pub async fn publish_raw(&self, data: &str) -> Reply {
        let path = format!("/v1/locations/{}/events", self.location_id);
        let body = format!(r#"{{"type":"message.incoming","data":{data}}}"#);
        self.client.send(reqwest::Method::POST, &path, Some(body)).await
    }

    /// Publishes to the default location, whatever comes of it.
    pub async fn try_publish(&self, body: serde_json::Value) -> Reply {
        self.client.post(&format!("/v1/locations/{}/events", self.location_id), body).await
    }

    /// Publishes so many events at once; their ids.
    pub async fn publish_batch(&self, event_type: &str, count: usize) -> Vec<String> {
        let event = |n: usize| json!({"location_id": self.location_id, "type": event_type, "data": {"n": n}});
        let body = json!({"events": (0..count).map(event).collect::<Vec<_>>()});
        let answer = self.client.post("/v1/events/batch", body).await.expect(202);
        let ids = answer["data"].as_array().unwrap().iter();
        ids.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The endpoint once `is_it` says so.
    pub async fn endpoint_when(
        &self,
        endpoint: &serde_json::Value,
        is_it: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        self.client.get_until(&format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap()), is_it).await
    }

    /// `pause` or `resume`, obeyed when this returns.
    pub async fn tell(&self, endpoint: &serde_json::Value, what: &str) -> serde_json::Value {
        let path = format!("/v1/endpoints/{}/{what}", endpoint["id"].as_str().unwrap());
        self.client.poke(&path).await.expect(200)
    }

    /// The job once it has ended.
    pub async fn job_ended(&self, job: &serde_json::Value) -> serde_json::Value {
        let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
        self.client.get_until(&path, |job| job["status"] != "running").await
    }

    /// `retry` or `cancel` of a delivery.
    pub async fn tell_delivery(
        &self,
        event: &serde_json::Value,
        endpoint: &serde_json::Value,
        what: &str,
    ) -> super::client::Reply {
        let (event, endpoint) = (event["id"].as_str().unwrap(), endpoint["id"].as_str().unwrap());
        self.client.poke(&format!("/v1/events/{event}/deliveries/{endpoint}/{what}")).await
    }

    /// The delivery once `is_it` says so.
    pub async fn delivery_when(
        &self,
        event: &serde_json::Value,
        endpoint: &serde_json::Value,
        is_it: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let (event, endpoint) = (event["id"].as_str().unwrap(), endpoint["id"].as_str().unwrap());
        self.client.get_until(&format!("/v1/events/{event}/deliveries/{endpoint}"), is_it).await
    }
}
