//! Every route of the API, with who may call it and a body that it takes: what holds for all is tested on all.

use std::{collections::BTreeSet, fs, path::Path};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    floors::sources,
    helpers::{
        Receiver, Tenant, TestApp,
        client::{Client, Reply},
    },
};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Everyone,
    /// Any live key.
    Known,
    Operator,
    /// A tenant's key with this scope, or the operator in its name.
    Scope(&'static str),
}

/// What a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Object(&'static str),
    /// An object that may be left out.
    Perhaps(&'static str),
    List(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub who: Who,
    pub takes: Takes,
}

use Takes::{List, Nothing, Object, Perhaps};
use Who::{Everyone, Known, Operator, Scope};

const READ: Who = Scope("read");
const WRITE: Who = Scope("write");
const PUBLISH: Who = Scope("publish");
const SECRETS: Who = Scope("secrets");

const NAMED: Takes = Object(r#"{"name": "Renamed"}"#);
const KEY: Takes = Object(r#"{"name": "A key", "scopes": ["read"]}"#);
const ENDPOINT: Takes = Object(r#"{"name": "E", "url": "https://e.example.com/", "event_types": ["*"]}"#);
const EVENT: Takes = Object(r#"{"type": "message.sent", "data": {}}"#);
const TYPE: Takes = Object(r#"{"name": "another.type", "description": "d"}"#);
const BATCH: Takes =
    Object(r#"{"events": [{"location_id": "default", "type": "message.sent", "data": {}}]}"#);

const OWN_FORMAT: &str = r#"{"envelope": {"id": "{{id}}"}, "signatures": [{"header": "x-signature", "algorithm": "hmac-sha256",
    "key": "text", "content": "{{body}}", "encoding": "hex"}]}"#;
const NEW_FORMAT: &str = r#"{"timeout_ms": 5000, "name": "another", "envelope": "{{data}}", "signatures": [{"header": "x-signature",
    "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}", "encoding": "hex"}]}"#;
const TRIAL: &str = r#"{"filter": "true", "event_type": "*"}"#;
const PREVIEW: &str = r#"{"format": "standard", "event": {"type": "message.sent", "data": {}}}"#;
const RECOVER: Takes = Object(r#"{"rate_per_s": 100, "since": "2026-01-01T00:00:00Z"}"#);

const fn route(method: &'static str, path: &'static str, who: Who, takes: Takes) -> Route {
    Route { method, path, who, takes }
}

pub const ROUTES: &[Route] = &[
    route("GET", "/healthz", Everyone, Nothing),
    route("GET", "/readyz", Everyone, Nothing),
    route("GET", "/openapi.json", Everyone, Nothing),
    route("GET", "/metrics", Everyone, Nothing),
    route("GET", "/docs", Everyone, Nothing),
    route("GET", "/docs/{file}", Everyone, Nothing),
    route("POST", "/v1/tenants", Operator, NAMED),
    route("GET", "/v1/tenants", Operator, Nothing),
    route("GET", "/v1/tenants/{tenant_id}", Operator, Nothing),
    route("PATCH", "/v1/tenants/{tenant_id}", Operator, NAMED),
    route("DELETE", "/v1/tenants/{tenant_id}", Operator, Nothing),
    route("POST", "/v1/tenants/{tenant_id}/keys", Operator, KEY),
    route("GET", "/v1/tenants/{tenant_id}/keys", Operator, Nothing),
    route("DELETE", "/v1/tenants/{tenant_id}/keys/{key_id}", Operator, Nothing),
    route("GET", "/v1/me", Known, Nothing),
    route("POST", "/v1/keys", WRITE, KEY),
    route("GET", "/v1/keys", READ, Nothing),
    route("DELETE", "/v1/keys/{key_id}", WRITE, Nothing),
    route("POST", "/v1/locations", WRITE, NAMED),
    route("GET", "/v1/locations", READ, Nothing),
    route("GET", "/v1/locations/{location_id}", READ, Nothing),
    route("PATCH", "/v1/locations/{location_id}", WRITE, NAMED),
    route("DELETE", "/v1/locations/{location_id}", WRITE, Nothing),
    route("POST", "/v1/locations/{location_id}/endpoints", WRITE, ENDPOINT),
    route("GET", "/v1/locations/{location_id}/endpoints", READ, Nothing),
    route("POST", "/v1/endpoints", WRITE, ENDPOINT),
    route("GET", "/v1/endpoints", READ, Nothing),
    route("GET", "/v1/endpoints/{endpoint_id}", READ, Nothing),
    route("PATCH", "/v1/endpoints/{endpoint_id}", WRITE, NAMED),
    route("DELETE", "/v1/endpoints/{endpoint_id}", WRITE, Nothing),
    route("POST", "/v1/endpoints/{endpoint_id}/pause", WRITE, Nothing),
    route("POST", "/v1/endpoints/{endpoint_id}/resume", WRITE, Nothing),
    route("GET", "/v1/endpoints/{endpoint_id}/subscriptions", READ, Nothing),
    route("PUT", "/v1/endpoints/{endpoint_id}/subscriptions", WRITE, List(r#"[{"event_type": "*"}]"#)),
    route(
        "PUT",
        "/v1/endpoints/{endpoint_id}/subscriptions/{pattern}",
        WRITE,
        Perhaps(r#"{"filter": "true"}"#),
    ),
    route("DELETE", "/v1/endpoints/{endpoint_id}/subscriptions/{pattern}", WRITE, Nothing),
    route("POST", "/v1/endpoints/{endpoint_id}/subscriptions/preview", READ, Object(TRIAL)),
    route("GET", "/v1/endpoints/{endpoint_id}/secret", SECRETS, Nothing),
    route("POST", "/v1/endpoints/{endpoint_id}/secret/rotate", SECRETS, Perhaps(r#"{"grace_period_s": 60}"#)),
    route("POST", "/v1/endpoints/{endpoint_id}/test", WRITE, Perhaps(r#"{"event_type": "message.sent"}"#)),
    route("GET", "/v1/endpoints/{endpoint_id}/deliveries", READ, Nothing),
    route("GET", "/v1/endpoints/{endpoint_id}/attempts", READ, Nothing),
    route("GET", "/v1/deliveries", READ, Nothing),
    route("GET", "/v1/endpoints/{endpoint_id}/stats", READ, Nothing),
    route("POST", "/v1/endpoints/{endpoint_id}/recover", WRITE, RECOVER),
    route("POST", "/v1/locations/{location_id}/events", PUBLISH, EVENT),
    route("GET", "/v1/locations/{location_id}/events", READ, Nothing),
    route("POST", "/v1/events/batch", PUBLISH, BATCH),
    route("GET", "/v1/events/{event_id}", READ, Nothing),
    route("DELETE", "/v1/events/{event_id}/data", WRITE, Nothing),
    route("GET", "/v1/events/{event_id}/deliveries/{endpoint_id}", READ, Nothing),
    route("POST", "/v1/events/{event_id}/deliveries/{endpoint_id}/retry", WRITE, Nothing),
    route("POST", "/v1/events/{event_id}/deliveries/{endpoint_id}/cancel", WRITE, Nothing),
    route("POST", "/v1/events/{event_id}/replay", WRITE, Perhaps(r#"{"endpoint_ids": null}"#)),
    route("GET", "/v1/jobs", READ, Nothing),
    route("GET", "/v1/jobs/{job_id}", READ, Nothing),
    route("DELETE", "/v1/jobs/{job_id}", WRITE, Nothing),
    route("GET", "/v1/audit", READ, Nothing),
    route("GET", "/v1/event-types", READ, Nothing),
    route("POST", "/v1/event-types", WRITE, TYPE),
    route("GET", "/v1/event-types/{name}", READ, Nothing),
    route("PATCH", "/v1/event-types/{name}", WRITE, Object(r#"{"group": "shop"}"#)),
    route("DELETE", "/v1/event-types/{name}", WRITE, Nothing),
    route("GET", "/v1/formats", READ, Nothing),
    route("POST", "/v1/formats", WRITE, Object(NEW_FORMAT)),
    route("POST", "/v1/formats/preview", READ, Object(PREVIEW)),
    route("GET", "/v1/formats/{format}", READ, Nothing),
    route("PUT", "/v1/formats/{format}", WRITE, Object(OWN_FORMAT)),
    route("DELETE", "/v1/formats/{format}", WRITE, Nothing),
    route("GET", "/v1/presets", Known, Nothing),
    route("GET", "/v1/presets/{preset}", Known, Nothing),
];

/// Routes that only tenants of one preset have: `whatsable.rs` covers them.
const OF_PRESETS: &[Route] = &[
    route("GET", "/api/webhooks/get", READ, Nothing),
    route("POST", "/api/webhooks/create", WRITE, Object(r#"{"webhook": "https://e.example.com/"}"#)),
    route("DELETE", "/api/webhooks/delete", WRITE, Nothing),
];

/// Lists that come in pages.
pub fn lists() -> impl Iterator<Item = &'static Route> {
    const LISTS: [&str; 15] = [
        "/v1/tenants",
        "/v1/tenants/{tenant_id}/keys",
        "/v1/keys",
        "/v1/locations",
        "/v1/locations/{location_id}/endpoints",
        "/v1/endpoints",
        "/v1/endpoints/{endpoint_id}/deliveries",
        "/v1/endpoints/{endpoint_id}/attempts",
        "/v1/deliveries",
        "/v1/locations/{location_id}/events",
        "/v1/audit",
        "/v1/jobs",
        "/v1/event-types",
        "/v1/formats",
        "/v1/presets",
    ];
    ROUTES.iter().filter(|route| route.method == "GET" && LISTS.contains(&route.path))
}

impl Route {
    pub fn body(&self) -> Option<String> {
        match self.takes {
            Nothing => None,
            Object(text) | Perhaps(text) | List(text) => Some(text.to_owned()),
        }
    }

    pub fn has_ids(&self) -> bool {
        self.path.contains('{')
    }

    /// Calls it with its ids and its body.
    pub async fn call(&self, client: &Client, ids: &Ids) -> Reply {
        self.send(client, &ids.fill(self.path), self.body()).await
    }

    pub async fn send(&self, client: &Client, path: &str, body: Option<String>) -> Reply {
        client.send(Method::from_bytes(self.method.as_bytes()).unwrap(), path, body).await
    }

    pub fn told(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What the placeholders stand for.
#[derive(Clone)]
pub struct Ids(Vec<(&'static str, String)>);

impl Ids {
    pub fn fill(&self, path: &str) -> String {
        let filled = self.0.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id));
        assert!(!filled.contains('{'), "{path} has an id that no test knows");
        filled
    }

    /// Those that are the tenant's own: presets, files and patterns are everybody's.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(place, _)| !["{preset}", "{file}", "{pattern}"].contains(place))
            .map(|(_, id)| id.as_str())
    }

    /// Ids of the same form that name nothing.
    pub fn of_nothing() -> Self {
        const NOTHING: &str = "0193a1b2-c3d4-7e5f-8a6b-0123456789ab";
        Self(PLACES.iter().map(|(place, prefix)| (*place, format!("{prefix}{NOTHING}"))).collect())
    }

    /// The same text for every id.
    pub fn all_like(text: &str) -> Self {
        Self(PLACES.iter().map(|(place, _)| (*place, text.to_owned())).collect())
    }
}

const PLACES: [(&str, &str); 11] = [
    ("{tenant_id}", "ten_"),
    ("{key_id}", "key_"),
    ("{location_id}", "loc_"),
    ("{endpoint_id}", "ep_"),
    ("{event_id}", "evt_"),
    ("{job_id}", "job_"),
    ("{name}", ""),
    ("{pattern}", ""),
    ("{format}", ""),
    ("{preset}", ""),
    ("{file}", ""),
];

/// A tenant with one of everything, at rest: its one delivery has succeeded.
pub struct Household {
    pub tenant: Tenant,
    pub ids: Ids,
}

pub async fn household(app: &TestApp, receiver: &mut Receiver) -> Household {
    let tenant = app.tenant().await;
    let endpoint =
        tenant.endpoint(&receiver.url("/hook"), json!({"event_types": ["message.*", "message.sent"]})).await;
    let event = tenant.publish("message.incoming", json!({"text": "private"})).await;
    receiver.next().await;
    tenant.delivery_when(&event, &endpoint, |delivery| delivery["status"] == "succeeded").await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    tenant.client.get_until(&path, |endpoint| !endpoint["last_success_at"].is_null()).await;
    let key = tenant.client.post("/v1/keys", json!({"name": "spare", "scopes": ["read"]})).await.expect(201);
    let own = json!({"name": "own.type", "description": "d"});
    tenant.client.post("/v1/event-types", own).await.expect(201);
    let mut format: Value = serde_json::from_str(OWN_FORMAT).unwrap();
    format["name"] = json!("own_format");
    tenant.client.post("/v1/formats", format).await.expect(201);
    let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let since = json!({"since": "2026-01-01T00:00:00Z"});
    let job = tenant.client.post(&format!("{path}/recover"), since).await.expect(202);
    tenant.job_ended(&job).await;
    let ids = [
        tenant.id.clone(),
        text(&key),
        tenant.location_id.clone(),
        text(&endpoint),
        text(&event),
        text(&job),
        "own.type".into(),
        "message.sent".into(),
        "own_format".into(),
        "standard".into(),
        "index.html".into(),
    ];
    let ids = Ids(PLACES.iter().map(|(place, _)| *place).zip(ids).collect());
    Household { tenant, ids }
}

/// What the reference says of a route: who may call it and whether it takes a body.
fn documented() -> BTreeSet<(String, String, String, bool)> {
    let document = posthaste::api::reference::document();
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            let who = match security.first() {
                None => "everyone",
                Some(one) if one.get("operator").is_some() => "operator",
                Some(one) => one["key"].get(0).map_or("any key", |scope| scope.as_str().unwrap()),
            };
            let has_body = operation.get("requestBody").is_some();
            found.insert((method.to_uppercase(), path.clone(), who.to_owned(), has_body));
        }
    }
    found
}

#[test]
fn every_route_is_documented_and_tested() {
    let listed = ROUTES.iter().chain(OF_PRESETS).map(|route| {
        let who = match route.who {
            Everyone => "everyone",
            Known => "any key",
            Operator => "operator",
            Scope(scope) => scope,
        };
        (route.method.to_owned(), route.path.to_owned(), who.to_owned(), route.takes != Nothing)
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), documented());
}

/// `routes!` alone documents what it routes.
#[test]
fn no_route_is_made_in_another_way() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    // The command line's demo has a receiver of its own.
    for file in files.iter().filter(|file| !file.components().any(|part| part.as_os_str() == "cli")) {
        let text = fs::read_to_string(file).unwrap();
        for call in [".route(", ".route_service(", ".nest(", ".nest_service(", ".fallback_service("] {
            assert!(!text.contains(call), "{} has {call}", file.display());
        }
    }
}
