//! Rotating the master key, as an operator does it: the real command beside running servers.

use std::process::{Output, Stdio};

use posthaste::{
    app::Roles,
    config::Settings,
    seal::{Purpose, Vault},
};
use serde_json::{Value, json};
use sqlx::Row;
use tokio::{
    process::{Child, Command},
    time::timeout,
};
use uuid::Uuid;

use crate::helpers::{
    Authority, Receiver, TestApp,
    app::{Tenant, arguments, settings, start},
    client::PATIENCE,
    cluster::fresh_database,
    receiver::Seen,
    receiver::nowhere,
    sql::Sql,
};

const ROLES: Roles = Roles { api: true, worker: true };
const HEADER: &str = "a-token-of-the-receivers";

/// The settings with these master keys.
fn keyed(settings: &Settings, keys: &[&str]) -> Settings {
    Settings { master_key: Some(keys.join(",")), ..settings.clone() }
}

fn spawn_rekey(settings: &Settings) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.arg("rekey").args(arguments(settings)).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

async fn ended(child: Child) -> (i32, String) {
    let Output { status, stdout, stderr } =
        timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("output");
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    (status.code().expect("a code"), text)
}

async fn rekey(settings: &Settings) -> (i32, String) {
    ended(spawn_rekey(settings)).await
}

/// How many sealed records, publishes' answers apart, begin like this.
fn under(vault: &Vault, not: bool) -> String {
    let stamp: String = vault.stamp().unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let is = if not { "<>" } else { "=" };
    format!(
        r"SELECT count(*) FROM (
            SELECT sealed FROM endpoint_secrets
            UNION ALL SELECT headers_sealed FROM endpoints UNION ALL SELECT client_key_sealed FROM endpoints UNION ALL SELECT headers_sealed FROM endpoint_versions
            UNION ALL SELECT answer FROM idempotency WHERE left(encode(answer, 'hex'), 2) = '01'
        ) t(record) WHERE substring(record FROM 1 FOR 5) {is} '\x{stamp}'"
    )
}

/// A database with every kind of sealed record, made under one key.
struct Sealed {
    settings: Settings,
    app: TestApp,
    old: String,
    tenant: Tenant,
    endpoint: Value,
    path: String,
    /// Has a client certificate; nothing is published to it, and nobody listens where it points.
    certified: String,
    receiver: Receiver,
}

async fn sealed() -> Sealed {
    let (database, _) = fresh_database().await;
    let settings = settings(&database, &[]);
    let old = settings.master_key.clone().unwrap();
    let app = start(settings.clone(), database, ROLES).await;
    let receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let fields = json!({"headers": {"x-token": HEADER}});
    let endpoint = tenant.endpoint(&receiver.url("/hook"), fields).await;
    let path = format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap());
    let identity = Authority::new().client("posthaste");
    let fields = json!({"client_certificate": identity.body(), "event_types": ["contact.created"]});
    let certified = tenant.endpoint(&nowhere(), fields).await;
    let certified = format!("/v1/endpoints/{}", certified["id"].as_str().unwrap());
    // A second version, a second secret, an answer to be repeated, and a publish's, which is not sealed.
    tenant.client.patch(&path, json!({"name": "Another name"})).await.expect(200);
    let once = tenant.client.with("idempotency-key", "rotated");
    once.post(&format!("{path}/secret/rotate"), json!({"grace_period_s": 0})).await.expect(200);
    let publish = tenant.client.with("idempotency-key", "published");
    publish
        .post("/v1/locations/default/events", json!({"type": "message.sent", "data": {}}))
        .await
        .expect(202);
    let mut sealed = Sealed { settings, app, old, tenant, endpoint, path, certified, receiver };
    sealed.receiver.next().await;
    sealed
}

impl Sealed {
    async fn restart(&mut self, keys: &[&str]) {
        self.app.stop().await;
        let settings = keyed(&self.settings, keys);
        self.app = start(settings, self.app.database.clone(), ROLES).await;
        self.tenant.client = self.app.with_key(&self.tenant.key);
    }

    async fn sent(&mut self) -> Seen {
        self.tenant.publish("message.sent", json!({"a": 1})).await;
        self.receiver.next().await
    }

    /// That a receiver takes what is sent, and that everything else opens as well.
    async fn works(&mut self) {
        let secret = self.tenant.client.get(&format!("{}/secret", self.path)).await.expect(200);
        let secret = secret["secret"].as_str().unwrap().to_owned();
        let seen = self.sent().await;
        let library = standardwebhooks::Webhook::new(&secret).unwrap();
        library.verify(&seen.body, &seen.headers).expect("a good signature");
        assert_eq!(seen.header("x-token"), HEADER);
        let once = self.tenant.client.with("idempotency-key", "rotated");
        let repeat = once.post(&format!("{}/secret/rotate", self.path), json!({"grace_period_s": 0})).await;
        assert_eq!(repeat.headers["idempotent-replayed"], "true");
        assert_eq!(repeat.expect(200)["secret"], secret);
        // One that can't be opened is not sent to.
        let tested =
            self.tenant.client.post(&format!("{}/test", self.certified), json!({})).await.expect(200);
        assert_eq!(tested["error"], "connect", "{tested}");
    }
}

#[tokio::test]
async fn after_a_rekey_the_new_key_is_enough() {
    let mut sealed = sealed().await;
    let (old, new) = (sealed.old.clone(), Vault::generate_key().to_string());
    let both = keyed(&sealed.settings, &[&new, &old]);
    sealed.restart(&[&new, &old]).await;
    sealed.works().await;

    let mut sql = Sql::open(&sealed.app.database).await;
    let vault = Vault::parse(&new).unwrap();
    assert!(sql.count(&under(&vault, true)).await >= 9);
    // Beside the running server.
    let (code, said) = rekey(&both).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("3 signing secrets")
            && said.contains("1 client keys of endpoints")
            && said.contains("3 headers of endpoints' versions"),
        "{said}"
    );
    assert!(said.contains("no record is left under an older master key"), "{said}");
    assert_eq!(sql.count(&under(&vault, true)).await, 0);
    sealed.works().await;

    let everything = sql.count(&under(&vault, false)).await;
    let (code, said) = rekey(&both).await;
    assert_eq!((code, said.contains("re-wrapped 0 records")), (0, true), "{said}");
    assert_eq!(sql.count(&under(&vault, false)).await, everything);

    sealed.restart(&[&new]).await;
    sealed.works().await;
    let (code, said) = rekey(&keyed(&sealed.settings, &[&old])).await;
    assert_eq!(code, 1, "with the old key alone nothing opens: {said}");
    assert!(said.contains("no master key given opens this secret"), "{said}");
    sealed.works().await;
    sealed.app.stop().await;
}

#[tokio::test]
async fn killed_in_the_middle_it_goes_on_when_it_is_run_again() {
    let mut sealed = sealed().await;
    let (old, new) = (sealed.old.clone(), Vault::generate_key().to_string());
    let both = keyed(&sealed.settings, &[&new, &old]);
    sealed.restart(&[&new, &old]).await;
    let (mut sql, mut other) = (Sql::open(&sealed.app.database).await, Sql::open(&sealed.app.database).await);
    // Somebody holds the secrets, so it can't be done with them.
    other.run("BEGIN").await;
    other.run("SELECT FROM endpoint_secrets FOR UPDATE").await;
    let mut running = spawn_rekey(&both);
    let vault = Vault::parse(&new).unwrap();
    // Three secrets, and the answer that comes after them.
    sql.until(&under(&vault, true), 4).await;
    running.kill().await.unwrap();
    other.run("ROLLBACK").await;
    assert!(sql.count(&under(&vault, true)).await >= 3 && sql.count(&under(&vault, false)).await >= 4);
    sealed.works().await;
    let (code, said) = rekey(&both).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(": 0 headers of endpoints, 0 headers of endpoints' versions, 0 client keys of endpoints, 3 signing"), "{said}");
    sealed.restart(&[&new]).await;
    sealed.works().await;
    sealed.app.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_changed_meanwhile_is_kept() {
    let mut sealed = sealed().await;
    let (old, new) = (sealed.old.clone(), Vault::generate_key().to_string());
    let both = keyed(&sealed.settings, &[&new, &old]);
    sealed.restart(&[&new, &old]).await;
    let mut other = Sql::open(&sealed.app.database).await;
    let row = sqlx::query(
        "SELECT tenant_id, endpoint_id, id FROM endpoint_secrets s WHERE expires_at IS NULL
         AND EXISTS (SELECT FROM endpoints e WHERE e.id = s.endpoint_id AND e.headers_sealed IS NOT NULL)",
    )
    .fetch_one(&mut other.0)
    .await
    .unwrap();
    let [tenant, owner, item] = ["tenant_id", "endpoint_id", "id"].map(|name| row.get::<Uuid, _>(name));
    let changed = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let purpose = Purpose { what: "signing secret", tenant, owner, item };
    // A node that has only the old key yet changes it.
    let record = Vault::parse(&old).unwrap().seal(changed.as_bytes(), purpose).unwrap();
    other.run("BEGIN").await;
    sqlx::query("UPDATE endpoint_secrets SET sealed = $1 WHERE id = $2")
        .bind(record)
        .bind(item)
        .execute(&mut other.0)
        .await
        .unwrap();
    let running = spawn_rekey(&both);
    let mut sql = Sql::open(&sealed.app.database).await;
    // This one, and the answer that comes after it.
    sql.until(&under(&Vault::parse(&new).unwrap(), true), 2).await;
    other.run("COMMIT").await;
    let (code, said) = ended(running).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(sql.count(&under(&Vault::parse(&new).unwrap(), true)).await, 0);
    let shown = sealed.tenant.client.get(&format!("{}/secret", sealed.path)).await.expect(200);
    assert_eq!(shown["secret"], changed);
    sealed.app.stop().await;
}

#[tokio::test]
async fn a_row_that_was_moved_to_another_tenant_does_not_open() {
    let mut sealed = sealed().await;
    let (old, new) = (sealed.old.clone(), Vault::generate_key().to_string());
    let other = sealed.app.tenant().await;
    let target = other.endpoint(&sealed.receiver.url("/other"), json!({})).await;
    let mut sql = Sql::open(&sealed.app.database).await;
    let uuid = |thing: &Value| thing["id"].as_str().unwrap().trim_start_matches("ep_").to_owned();
    let (from, to) = (uuid(&sealed.endpoint), uuid(&target));
    sql.run(&format!(
        "UPDATE endpoint_secrets t SET sealed = s.sealed FROM endpoint_secrets s
         WHERE t.endpoint_id = '{to}' AND s.endpoint_id = '{from}' AND s.expires_at IS NULL"
    ))
    .await;
    let target = target["id"].as_str().unwrap();
    other.client.get(&format!("/v1/endpoints/{target}/secret")).await.problem(500);
    let (code, said) = rekey(&keyed(&sealed.settings, &[&new, &old])).await;
    assert_eq!(code, 1, "{said}");
    let line = format!("of {target} of {}: a sealed secret was altered or moved", other.id);
    assert!(said.contains(&line) && said.contains("1 records can't be opened; keep"), "{said}");
    // All the others are under the new key.
    assert_eq!(sql.count(&under(&Vault::parse(&new).unwrap(), true)).await, 1);
    sealed.restart(&[&new]).await;
    sealed.works().await;
    sealed.app.stop().await;
}
