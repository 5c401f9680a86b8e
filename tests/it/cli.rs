//! The commands that call the API, as a person or a script runs them: the real binary, with nothing in its environment.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::helpers::{Answer, Authority, Receiver, TestApp, client::PATIENCE, spawn};

/// The binary with these variables set.
struct Cli(Vec<(&'static str, String)>);

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Cli {
    fn operator(app: &TestApp) -> Self {
        Self(vec![("POSTHASTE_URL", app.base.clone()), ("POSTHASTE_API_KEY", app.operator_key.clone())])
    }

    fn with(&self, name: &'static str, value: &str) -> Self {
        let mut variables = self.0.clone();
        variables.push((name, value.to_owned()));
        Self(variables)
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
        command.args(arguments).env_clear().envs(self.0.iter().cloned()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.fed(arguments, "").await
    }

    async fn fed(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that refuses does not read what it is fed.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("output");
        Ran {
            code: output.status.code().expect("a code"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let ran = self.run(&[arguments, &["--json"]].concat()).await.expect(0);
        serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("not JSON: {}", ran.out))
    }
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }
}

fn id(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

#[tokio::test]
async fn from_a_tenant_to_a_retried_delivery() {
    let (app, mut receiver) = (spawn().await, Receiver::start().await);
    receiver.script("/hook", [Answer::status(410).body("gone"), Answer::status(200)]);
    let operator = Cli::operator(&app);
    let tenant = operator.json(&["tenants", "create", "--name", "Bakery", "--metadata", r#"{"a":1}"#]).await;
    let shown = operator.run(&["tenants", "update", id(&tenant), "--keep-days", "7"]).await.expect(0).out;
    assert!(shown.contains("Bakery") && shown.contains("days kept            7"), "{shown}");

    let acting = operator.with("POSTHASTE_TENANT", id(&tenant));
    let made = ["keys", "create", "--name", "all", "--scopes", "read,write,publish,secrets"];
    let key = acting.json(&made).await;
    let keys = acting.run(&["keys", "list"]).await.expect(0).out;
    assert!(keys.contains(id(&key)) && !keys.contains(key["key"].as_str().unwrap()), "{keys}");
    let tenant_key = operator.with("POSTHASTE_API_KEY", key["key"].as_str().unwrap());

    let hook = receiver.url("/hook");
    let create = ["endpoints", "create", "--name", "CRM", "--target", &hook, "--event-types", "message.*"];
    let endpoint = tenant_key.json(&[&create[..], &["--header", "X-Token: hush"]].concat()).await;
    assert_eq!(endpoint["headers"], json!({"X-Token": "hush"}));
    assert_eq!(endpoint["rate_limit_per_s"], Value::Null);
    tenant_key.run(&["endpoints", "update", id(&endpoint), "--starts-per-s", "700"]).await.expect(0);
    let renamed = tenant_key.json(&["endpoints", "update", id(&endpoint), "--name", "CRM sync"]).await;
    assert_eq!(renamed["rate_limit_per_s"], 700, "what is not named stays");
    let secret = tenant_key.run(&["endpoints", "secret", id(&endpoint)]).await.expect(0).out;
    assert_eq!(Some(secret.trim()), endpoint["secret"].as_str());
    let shown = tenant_key.run(&["endpoints", "show", id(&endpoint)]).await.expect(0).out;
    assert!(shown.contains("X-Token") && !shown.contains("hush") && !shown.contains("whsec_"), "{shown}");

    // From standard input; the receiver refuses it for good, and the endpoint is disabled.
    let publish = ["events", "publish", "--type", "message.incoming"];
    let ran = tenant_key.fed(&[&publish[..], &["--json"]].concat(), r#"{"n": 12.50}"#).await.expect(0);
    let event: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(receiver.next().await.json()["data"], json!({"n": 12.5}));
    let path = format!("/v1/events/{}/deliveries/{}", id(&event), id(&endpoint));
    let client = app.with_key(key["key"].as_str().unwrap());
    client.get_until(&path, |delivery| delivery["status"] == "failed").await;
    let shown = tenant_key.run(&["deliveries", "show", id(&event), id(&endpoint)]).await.expect(0).out;
    assert!(shown.contains("scheduled") && shown.contains(" 410 ") && !shown.contains("hush"), "{shown}");
    let listed = tenant_key.run(&["endpoints", "list", "--status", "disabled"]).await.expect(0).out;
    assert!(listed.contains(id(&endpoint)), "{listed}");

    tenant_key.run(&["endpoints", "resume", id(&endpoint)]).await.expect(0);
    tenant_key.run(&["deliveries", "retry", id(&event), id(&endpoint)]).await.expect(0);
    receiver.next().await;
    client.get_until(&path, |delivery| delivery["status"] == "succeeded").await;
    let history = tenant_key.json(&["deliveries", "list", "--endpoint", id(&endpoint)]).await;
    assert_eq!(history["data"][0]["attempt_count"], 2);
    let failed = ["deliveries", "list", "--status", "failed", "--event-type", "message.*"];
    assert!(!tenant_key.run(&failed).await.expect(0).out.contains(id(&event)));

    let tested =
        tenant_key.run(&["endpoints", "test", id(&endpoint), "--type", "message.sent"]).await.expect(0).out;
    assert!(tested.contains("succeeded") && tested.contains(" 200 "), "{tested}");
    receiver.next().await;
    let job = tenant_key.json(&["events", "replay", id(&event), "--endpoints", id(&endpoint)]).await;
    receiver.next().await;
    client.get_until(&format!("/v1/jobs/{}", id(&job)), |job| job["status"] == "succeeded").await;
    let jobs = tenant_key.run(&["jobs", "list"]).await.expect(0).out;
    assert!(jobs.contains(id(&job)) && jobs.contains("replay"), "{jobs}");
    tenant_key.run(&["jobs", "cancel", id(&job)]).await.expect(3);
    client.get_until(&path, |delivery| delivery["status"] == "succeeded").await;
    let recover = ["endpoints", "recover", id(&endpoint), "--since", "2026-01-01T00:00:00Z", "--dry-run"];
    let counted = tenant_key.json(&[&recover[..], &["--status", "succeeded"]].concat()).await;
    assert_eq!(counted["total"], 1);
    let refused = tenant_key.run(&["deliveries", "cancel", id(&event), id(&endpoint)]).await.expect(3).err;
    assert!(refused.contains("ended already"), "{refused}");
    tenant_key.run(&["endpoints", "delete", id(&endpoint)]).await.expect(0);
}

#[tokio::test]
async fn events_are_published_from_files_and_in_batches_and_listed_by_the_page() {
    let app = spawn().await;
    let tenant = app.tenant().await;
    let cli = Cli::operator(&app).with("POSTHASTE_API_KEY", &tenant.key);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("event.json");
    std::fs::write(&file, r#"{"text":"from a file"}"#).unwrap();
    let data = format!("@{}", file.display());
    let publish = ["events", "publish", "--type", "message.sent", "--idempotency-key", "k", "--data", &data];
    let event = cli.json(&publish).await;
    let again = cli.run(&publish).await.expect(0);
    assert!(
        again.out.contains(id(&event)) && again.err.contains("used before"),
        "{}{}",
        again.out,
        again.err
    );
    let shown = cli.run(&["events", "show", id(&event)]).await.expect(0).out;
    assert!(shown.contains("\"text\": \"from a file\""), "{shown}");

    let line = |n: usize| format!("{{\"type\":\"message.read\",\"data\":{{\"n\":{n}}}}}\n");
    let lines: String = (0..1_001).map(line).collect();
    let ran = cli.fed(&["events", "publish", "--batch"], &lines).await.expect(0);
    assert_eq!(ran.out.lines().count(), 1_001);
    let all = cli.run(&["events", "list", "--all", "--json"]).await.expect(0);
    let pages: Vec<Value> = all.out.lines().map(|page| serde_json::from_str(page).unwrap()).collect();
    assert_eq!(pages.iter().map(|page| page["data"].as_array().unwrap().len()).sum::<usize>(), 1_002);
    let page = cli.run(&["events", "list", "--limit", "2"]).await.expect(0);
    assert!(page.out.starts_with("RECEIVED (UTC)") && page.out.lines().count() == 3, "{}", page.out);
    let cursor = page.err.split("--cursor ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    cli.run(&["events", "list", "--cursor", &cursor]).await.expect(0);

    let wrong = format!("{}\n{}", line(1), r#"{"type":"No such","data":{}}"#);
    let ran = cli.fed(&["events", "publish", "--batch"], &wrong).await.expect(3);
    assert!(ran.err.contains("/events/1/type") && ran.err.contains("0 before it"), "{}", ran.err);
}

#[tokio::test]
async fn tail_prints_what_arrives_and_nothing_else() {
    let app = spawn().await;
    let tenant = app.tenant().await;
    tenant.publish("message.sent", json!({})).await;
    let cli = Cli::operator(&app).with("POSTHASTE_API_KEY", &tenant.key);
    let mut tail = cli.start(&["events", "tail", "--json"]);
    let mut notes = BufReader::new(tail.stderr.take().unwrap()).lines();
    let mut shown = BufReader::new(tail.stdout.take().unwrap()).lines();
    let following = async {
        assert!(notes.next_line().await.unwrap().unwrap().contains("waiting"));
        let event = json!({"location_id": "default", "type": "message.read", "data": 1});
        // More than two pages of what it reads.
        let events = json!({"events": vec![event; 250]});
        let published = tenant.client.post("/v1/events/batch", events).await.expect(202);
        for event in published["data"].as_array().unwrap() {
            let line: Value = serde_json::from_str(&shown.next_line().await.unwrap().unwrap()).unwrap();
            assert_eq!(id(&line), id(event));
        }
        let last = tenant.publish("message.failed", json!({})).await;
        assert!(shown.next_line().await.unwrap().unwrap().contains(id(&last)));
    };
    timeout(PATIENCE, following).await.expect("what arrives is shown");
    let pid = tail.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert!(timeout(PATIENCE, tail.wait()).await.expect("it ends").unwrap().success());
}

#[tokio::test]
async fn exit_codes_say_who_is_to_blame() {
    let app = spawn().await;
    let tenant = app.tenant().await;
    let operator = Cli::operator(&app);
    let cli = operator.with("POSTHASTE_API_KEY", &tenant.key);
    let stranger =
        operator.with("POSTHASTE_API_KEY", "ph_nobody").run(&["locations", "list"]).await.expect(3);
    assert!(stranger.err.contains("401") && stranger.err.contains("--api-key"), "{}", stranger.err);
    assert!(!stranger.err.contains("ph_nobody"));
    let nobody = operator.run(&["locations", "list"]).await.expect(3).err;
    assert!(nobody.contains("--tenant"), "{nobody}");
    let missing = cli.run(&["locations", "show", "nowhere"]).await.expect(4).err;
    assert!(missing.contains("404"), "{missing}");
    let create = ["endpoints", "create", "--name", "", "--target", "ftp://x", "--event-types", "message.*"];
    let wrong = cli.run(&create).await.expect(3).err;
    assert!(wrong.contains("  /name ") && wrong.contains("  /url "), "{wrong}");
    let away =
        cli.with("POSTHASTE_URL", "http://127.0.0.1:9").run(&["locations", "list"]).await.expect(1).err;
    assert!(away.contains("can't be reached"), "{away}");
    cli.run(&["locations", "lost"]).await.expect(2);
    cli.run(&["locations", "show", ".."]).await.expect(2);
    cli.fed(&["events", "publish", "--type", "message.sent"], "not JSON").await.expect(2);
    cli.with("POSTHASTE_TENNANT", "x").run(&["locations", "list"]).await.expect(1);
}

#[tokio::test]
async fn the_operators_key_is_found_here_and_goes_nowhere_else() {
    let app = spawn().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("operator.key"), format!("{}\n", app.operator_key)).unwrap();
    let cli = Cli(vec![("POSTHASTE_DATA_DIR", dir.path().to_str().unwrap().to_owned())]);
    cli.run(&["tenants", "list", "--url", &app.base]).await.expect(0);
    cli.run(&["--url", &app.base, "tenants", "list"]).await.expect(0);
    let elsewhere = app.base.replace("127.0.0.1", "0.0.0.0");
    cli.run(&["tenants", "list", "--url", &elsewhere]).await.expect(3);
    let help =
        cli.with("POSTHASTE_API_KEY", "ph_secret").run(&["tenants", "list", "--help"]).await.expect(0).out;
    assert!(help.contains("POSTHASTE_API_KEY") && !help.contains("ph_secret"), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(cli.run(&["completions", shell]).await.expect(0).out.contains("deliveries"), "{shell}");
    }
}

#[tokio::test]
async fn a_client_certificate_comes_from_files() {
    let app = spawn().await;
    let tenant = app.tenant().await;
    let cli = Cli::operator(&app).with("POSTHASTE_API_KEY", &tenant.key);
    let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (first, second) = (authority.client("first"), authority.client("second"));
    let (chain, key) = (file("client.pem", &first.certificate), file("client.key", &first.private_key));
    let create =
        ["endpoints", "create", "--name", "E", "--target", "https://e.example.com/", "--event-types", "*"];
    let certified = ["--client-certificate", &chain, "--client-key", &key];
    let made = cli.json(&[&create[..], &certified].concat()).await;
    assert_eq!(made["client_certificate"]["fingerprint_sha256"], first.fingerprint);
    let shown = cli.run(&["endpoints", "show", id(&made)]).await.expect(0).out;
    assert!(shown.contains(&first.fingerprint), "{shown}");

    let update = ["endpoints", "update", id(&made)];
    let (chain, other_key) =
        (file("second.pem", &second.certificate), file("second.key", &second.private_key));
    let mixed =
        cli.run(&[&update[..], &["--client-certificate", &chain, "--client-key", &key]].concat()).await;
    assert!(mixed.expect(3).err.contains("/client_certificate/private_key"));
    let replaced = cli
        .json(&[&update[..], &["--client-certificate", &chain, "--client-key", &other_key]].concat())
        .await;
    assert_eq!(replaced["client_certificate"]["fingerprint_sha256"], second.fingerprint);
    let renamed = cli.json(&[&update[..], &["--name", "F"]].concat()).await;
    assert_eq!(renamed["client_certificate"], replaced["client_certificate"]);
    cli.run(&[&update[..], &["--client-certificate", &chain]].concat()).await.expect(2);
    cli.run(
        &[&update[..], &["--no-client-certificate", "--client-certificate", &chain, "--client-key", &key]]
            .concat(),
    )
    .await
    .expect(2);
    let gone = dir.path().join("gone");
    let unread = ["--client-certificate", &chain, "--client-key", gone.to_str().unwrap()];
    let unread = cli.run(&[&update[..], &unread].concat()).await.expect(2).err;
    assert!(unread.contains("gone can't be read"), "{unread}");
    let without = cli.json(&[&update[..], &["--no-client-certificate"]].concat()).await;
    assert_eq!(without["client_certificate"], Value::Null);
}
