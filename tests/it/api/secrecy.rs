//! Nothing secret in sight: a busy server that logs all it can, and then everything that it left behind is searched.

use std::{fs, path::Path, process::Stdio};

use posthaste::auth::ApiKey;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    time::{Duration, MissedTickBehavior, interval, timeout},
};

use super::{
    secrets::{dump, spellings},
    text,
};
use crate::helpers::{
    Answer, Authority, Receiver, TestApp,
    app::{arguments, settings},
    client::{Client, PATIENCE, Reply},
    cluster::fresh_database,
    receiver::nowhere,
};

const LOOK_EVERY: Duration = Duration::from_millis(15);
/// Stored in clear, since they are what is worked with, but not for the log.
const QUERY: &str = "token-in-the-query-of-a-url";
const PAYLOAD: &str = "what-somebody-wrote-to-somebody";

/// The server as a child that logs everything into a file.
async fn serve(log: &Path) -> (Child, TestApp) {
    let (database, _) = fresh_database().await;
    let settings = settings(&database, &[]);
    let mut arguments = arguments(&settings);
    let level = arguments.iter().position(|word| word == "--log").unwrap() + 1;
    arguments[level] = "trace".to_owned();
    let file = fs::File::create(log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.arg("serve").args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let child = command.spawn().expect("the program starts");
    let starting = async {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let said = fs::read_to_string(log).unwrap_or_default();
            // With its end: a line may be half written.
            if let Some(line) = said.split_inclusive('\n').find(|line| line.starts_with("listening on ")) {
                return line.trim_start_matches("listening on ").trim().to_owned();
            }
        }
    };
    let base = timeout(PATIENCE, starting).await.expect("it listens");
    let operator_key = settings.operator_key.clone().unwrap();
    (child, TestApp { app: None, base, operator_key, settings, database })
}

/// What was used that nobody may see, and what was answered where it may not be shown.
#[derive(Default)]
struct Seen {
    secrets: Vec<String>,
    answers: Vec<String>,
}

impl Seen {
    /// A secret of an answer that shows it.
    fn secret(&mut self, answer: &Value, name: &str) -> String {
        self.secrets.push(text(answer, name).to_owned());
        text(answer, name).to_owned()
    }

    /// A secret of the caller's own.
    fn own(&mut self, secret: &str) -> String {
        self.secrets.push(secret.to_owned());
        secret.to_owned()
    }

    #[track_caller]
    fn refused(&mut self, reply: Reply, status: u16) {
        self.answers.push(format!("{:?}", reply.headers));
        self.answers.push(reply.problem(status).to_string());
    }
}

/// Every route that is given or gives a secret, used well.
async fn work(app: &TestApp, receiver: &mut Receiver, seen: &mut Seen) -> (Client, String) {
    receiver.script("/failing", [Answer::status(500).body("no")]);
    let tenant = app.tenant().await;
    seen.own(&tenant.key);
    let keys = format!("/v1/tenants/{}/keys", tenant.id);
    let once = |key: &str, client: &Client| client.with("idempotency-key", key);
    let operator = app.operator();
    let body = json!({"name": "second", "scopes": ["read", "publish"]});
    for _ in 0..2 {
        let key = once("key", &operator).post(&keys, body.clone()).await.expect(201);
        let key = seen.secret(&key, "key");
        app.with_key(&key).get("/v1/me").await.expect(200);
    }
    let headers = [seen.own("Bearer hunter2-of-the-receiver"), seen.own("the-second-header-value")];
    let mut path = String::new();
    for to in ["/hook", "/failing"] {
        let url = receiver.url(&format!("{to}?key={QUERY}"));
        let body = json!({"name": "E", "url": url, "event_types": ["message.*"],
            "headers": {"authorization": headers[0], "x-other": headers[1]}, "retry_schedule_s": [1]});
        for _ in 0..2 {
            let made = once(to, &tenant.client).post("/v1/endpoints", body.clone()).await.expect(201);
            seen.secret(&made, "secret");
            path = format!("/v1/endpoints/{}", text(&made, "id"));
        }
    }
    let identity = Authority::new().client("posthaste");
    let key_lines = identity.private_key.lines().filter(|line| !line.starts_with('-'));
    seen.own(&key_lines.clone().collect::<String>());
    key_lines.for_each(|line| drop(seen.own(line)));
    let body = json!({"name": "E", "url": nowhere(), "event_types": ["contact.*"], "client_certificate": identity.body()});
    for _ in 0..2 {
        let made = once("certified", &tenant.client).post("/v1/endpoints", body.clone()).await.expect(201);
        seen.secret(&made, "secret");
        seen.answers.push(made["client_certificate"].to_string());
        let certified = format!("/v1/endpoints/{}", text(&made, "id"));
        let change = json!({"client_certificate": identity.body()});
        seen.answers.push(tenant.client.patch(&certified, change).await.expect(200).to_string());
        tenant.client.post(&format!("{certified}/test"), json!({})).await.expect(200);
        seen.answers.push(tenant.client.get(&format!("{certified}/attempts")).await.expect(200).to_string());
    }
    // Where nobody listens any more.
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let gone = format!("http://127.0.0.1:{port}/gone?key={QUERY}");
    let gone = tenant.endpoint(&gone, json!({"retry_schedule_s": []})).await;
    seen.secret(&gone, "secret");
    let given = seen.own("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    let before = seen.own("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let rotate = format!("{path}/secret/rotate");
    for (n, secret) in [json!({"secret": given}), json!({"secret": before}), json!({})].iter().enumerate() {
        let rotated = once(&format!("rotated-{n}"), &tenant.client);
        for _ in 0..2 {
            seen.secret(&rotated.post(&rotate, secret.clone()).await.expect(200), "secret");
        }
        seen.secret(&tenant.client.get(&format!("{path}/secret")).await.expect(200), "secret");
    }
    let third = seen.own("a-third-header-value");
    tenant.client.patch(&path, json!({"headers": {"authorization": third}})).await.expect(200);
    for _ in 0..2 {
        once("test", &tenant.client).post(&format!("{path}/test"), json!({})).await.expect(200);
    }
    let event = json!({"type": "message.sent", "data": {"text": PAYLOAD}});
    let mut published = Value::Null;
    for _ in 0..2 {
        let publish = once("event", &tenant.client);
        published = publish.post("/v1/locations/default/events", event.clone()).await.expect(202);
    }
    let failing = json!({"id": path.trim_start_matches("/v1/endpoints/")});
    for endpoint in [&failing, &gone] {
        let delivery = tenant.delivery_when(&published, endpoint, |one| one["status"] == "failed").await;
        assert!(delivery["attempt_count"].as_u64().unwrap() >= 1);
    }
    // Who may read an endpoint sees its headers, there and in what was sent; nowhere else.
    for list in ["/v1/audit", "/v1/keys", "/v1/me", "/v1/jobs", &format!("{path}/deliveries")] {
        seen.answers.push(tenant.client.get(list).await.expect(200).to_string());
    }
    (tenant.client, path)
}

/// Requests that are refused with a secret in them, where a caller may well have put it by mistake.
async fn blunders(app: &TestApp, client: &Client, path: &str, seen: &mut Seen) {
    let slip = seen.own("slipped-in-by-mistake-0123456789");
    let endpoint = |fields: Value| {
        let mut body = json!({"name": "E", "url": "https://example.com/", "event_types": ["message.*"]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        body
    };
    for fields in [
        json!({"headers": slip}),
        json!({"headers": format!("{slip}, expected {slip} at line {slip}")}),
        json!({"headers": {"x-a": [slip]}}),
        json!({"headers": {"x-a": format!("{slip}\n")}}),
        json!({"headers": {"host": slip}}),
        json!({"headers": {"x y": slip}}),
        json!({"secret": [slip]}),
        json!({"secret": format!("{slip}\u{e9}")}),
        json!({"secret": format!("{slip} with more behind it")}),
        json!({"client_certificate": slip}),
        json!({"client_certificate": {"certificate": [slip], "private_key": slip}}),
        json!({"client_certificate": {"certificate": slip, "private_key": {"key": slip}}}),
        json!({"client_certificate": {"certificate": slip, "private_key": slip}}),
        json!({"client_certificate": {"certificate": format!("-----BEGIN {slip}"), "private_key": format!("-----BEGIN {slip}")}}),
        json!({"url": format!("https://me:{slip}@example.com/")}),
        json!({"url": format!("ftp://example.com/?{slip}")}),
    ] {
        seen.refused(client.post("/v1/endpoints", endpoint(fields.clone())).await, 422);
        // The secret of an endpoint is changed by rotating it.
        if fields.get("secret").is_some() {
            seen.refused(client.post(&format!("{path}/secret/rotate"), fields).await, 422);
        } else {
            seen.refused(client.patch(path, fields).await, 422);
        }
    }
    let broken = format!(r#"{{"headers": {{"authorization": "{slip}" "x""#);
    seen.refused(client.send(Method::POST, "/v1/endpoints", Some(broken)).await, 400);
    let once = client.with("idempotency-key", "/hook");
    seen.refused(once.post("/v1/endpoints", endpoint(json!({"headers": {"x-a": slip}}))).await, 422);
    seen.refused(client.get(&format!("/v1/nothing?api_key={slip}")).await, 404);
    seen.refused(client.get(&format!("/v1/endpoints?limit={slip}")).await, 400);

    let unknown = seen.own(ApiKey::generate().reveal());
    let mistyped = seen.own(&format!("{}0", app.operator_key));
    for key in [unknown, mistyped, slip.clone()] {
        seen.refused(app.with_key(&key).get("/v1/me").await, 401);
        seen.refused(app.anonymous().with("authorization", &format!("Basic {key}")).get("/v1/me").await, 401);
    }
}

#[tokio::test]
async fn a_busy_server_shows_no_secret_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let (mut child, app) = serve(&log).await;
    let mut receiver = Receiver::start().await;
    let mut seen = Seen::default();
    seen.own(&app.operator_key);
    seen.own(app.settings.master_key.as_ref().unwrap());
    let (client, path) = work(&app, &mut receiver, &mut seen).await;
    blunders(&app, &client, &path, &mut seen).await;
    let metrics = app.anonymous().get("/metrics").await.text;
    let dump = dump(&app).await;
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    assert!(timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap().success());
    let log = fs::read_to_string(log).unwrap();

    // That they were there to be found in: everything is logged, counted and stored.
    assert!(log.contains("DEBUG") && log.contains("/v1/endpoints/{endpoint_id}/secret/rotate"));
    assert!(metrics.contains("secret/rotate") && dump.contains(QUERY));
    let seen_by_receiver = receiver.rest();
    assert!(
        seen_by_receiver.iter().any(|one| one.header("authorization") == "Bearer hunter2-of-the-receiver")
    );
    let mut places = vec![("the log", &log), ("the metrics", &metrics), ("the database", &dump)];
    places.extend(seen.answers.iter().map(|answer| ("an answer", answer)));
    let mut found = Vec::new();
    let mut search = |word: &str, (place, text): &(&str, &String)| {
        found.extend(
            text.lines().find(|line| line.contains(word)).map(|line| format!("{word} is in {place}: {line}")),
        );
    };
    for spelling in seen.secrets.iter().flat_map(|secret| spellings(secret)) {
        places.iter().for_each(|place| search(&spelling, place));
    }
    for word in [QUERY, PAYLOAD] {
        places[..2].iter().for_each(|place| search(word, place));
    }
    assert!(found.is_empty(), "{found:#?}");
}
