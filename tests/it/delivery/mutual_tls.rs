//! Receivers that ask who is calling: whom they see, and what is told where they refuse.

use rstest::rstest;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use crate::helpers::{
    Authority, Identity, Tenant, TestApp, spawn_with,
    tls_receiver::{Asking, H1_ON_TLS_12, H2_ON_TLS_13, MutualReceiver},
};

struct Scene {
    app: TestApp,
    tenant: Tenant,
    authority: Authority,
    receiver: MutualReceiver,
}

async fn scene(asking: Asking) -> Scene {
    let authority = Authority::new();
    let file = authority.file();
    let app = spawn_with(&["--egress-ca-file", file.path().to_str().unwrap()]).await;
    let tenant = app.tenant().await;
    let receiver = MutualReceiver::start(&authority, asking).await;
    Scene { app, tenant, authority, receiver }
}

impl Scene {
    async fn endpoint(&self, at: &str, identity: Option<&Identity>) -> Value {
        let certificate = identity.map(Identity::body);
        let fields = json!({"client_certificate": certificate, "retry_schedule_s": []});
        self.tenant.endpoint(&self.receiver.url(at), fields).await
    }

    async fn change(&self, endpoint: &Value, fields: Value) {
        self.tenant.client.patch(&path(endpoint), fields).await.expect(200);
    }

    /// The delivery of a new event, once it has failed.
    async fn failed(&self, endpoint: &Value) -> Value {
        let event = self.tenant.publish("message.sent", json!({})).await;
        self.tenant.delivery_when(&event, endpoint, |one| one["status"] == "failed").await
    }
}

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", endpoint["id"].as_str().unwrap())
}

#[rstest]
#[case::h1_on_tls_12(H1_ON_TLS_12)]
#[case::h2_on_tls_13(H2_ON_TLS_13)]
#[tokio::test]
async fn a_receiver_sees_the_certificate_and_history_says_which(#[case] asking: Asking) {
    let mut scene = scene(asking).await;
    let (first, second) = (scene.authority.client("first"), scene.authority.client("second"));
    let endpoint = scene.endpoint("/hook", Some(&first)).await;
    let mut events = Vec::new();
    for identity in [&first, &first, &second, &second] {
        if events.len() == 2 {
            // While a connection that was made with the first one is open.
            scene.change(&endpoint, json!({"client_certificate": second.body()})).await;
        }
        let event = scene.tenant.publish("message.sent", json!({})).await;
        assert_eq!(scene.receiver.next().await.fingerprint, identity.fingerprint);
        scene.tenant.delivery_when(&event, &endpoint, |one| one["status"] == "succeeded").await;
        events.push(event);
    }
    let tested = scene.tenant.client.post(&format!("{}/test", path(&endpoint)), json!({})).await.expect(200);
    assert_eq!(tested["request"]["client_certificate_sha256"], second.fingerprint);
    assert_eq!(scene.receiver.next().await.fingerprint, second.fingerprint);
    // Long after: each attempt by what it was sent with, not by what the endpoint has now.
    scene.change(&endpoint, json!({"client_certificate": null, "url": "http://127.0.0.1:9999/"})).await;
    for (event, identity) in events.iter().zip([&first, &first, &second, &second]) {
        let delivery = scene.tenant.delivery_when(event, &endpoint, |_| true).await;
        assert_eq!(delivery["request"]["client_certificate_sha256"], identity.fingerprint);
        assert_eq!(delivery["attempts"][0]["request"]["client_certificate_sha256"], identity.fingerprint);
    }
    scene.app.stop().await;
}

#[rstest]
#[case::h1_on_tls_12(H1_ON_TLS_12)]
#[case::h2_on_tls_13(H2_ON_TLS_13)]
#[tokio::test]
async fn endpoints_on_one_host_share_no_connection_and_no_session(#[case] asking: Asking) {
    let mut scene = scene(asking).await;
    let identities = [scene.authority.client("first"), scene.authority.client("second")];
    scene.endpoint("/0", Some(&identities[0])).await;
    scene.endpoint("/1", Some(&identities[1])).await;
    let mut connections = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        scene.tenant.publish("message.sent", json!({})).await;
        for _ in 0..2 {
            let seen = scene.receiver.next().await;
            let whose: usize = seen.path[1..].parse().unwrap();
            assert_eq!(seen.fingerprint, identities[whose].fingerprint);
            connections[whose].push(seen.connection);
        }
    }
    assert!(connections[0].iter().all(|one| !connections[1].contains(one)), "{connections:?}");
    scene.app.stop().await;
}

#[rstest]
#[case::h1_on_tls_12(H1_ON_TLS_12)]
#[case::h2_on_tls_13(H2_ON_TLS_13)]
#[tokio::test]
async fn without_a_certificate_that_it_knows_a_receiver_gets_nothing(#[case] asking: Asking) {
    let mut scene = scene(asking).await;
    let stranger = Authority::new().client("stranger");
    for (identity, sentence) in
        [(None, "demands a client certificate"), (Some(&stranger), "refused the client certificate")]
    {
        let endpoint = scene.endpoint("/hook", identity).await;
        let delivery = scene.failed(&endpoint).await;
        let attempt = &delivery["attempts"][0];
        assert_eq!(attempt["error"], "tls", "{attempt}");
        assert!(attempt["diagnosis"].as_str().unwrap().contains(sentence), "{attempt}");
        // It mends by giving one, and what has failed can go again.
        let good = scene.authority.client("good");
        scene.change(&endpoint, json!({"client_certificate": good.body()})).await;
        scene.tenant.client.poke(&format!("{}/test", path(&endpoint))).await.expect(200);
        assert_eq!(scene.receiver.next().await.fingerprint, good.fingerprint);
        scene.tenant.client.delete(&path(&endpoint)).await.expect(204);
    }
    assert!(scene.receiver.rest().is_empty());
    scene.app.stop().await;
}

#[tokio::test]
async fn a_certificate_that_was_known_without_its_chain_is_shown_with_it() {
    let mut scene = scene(H2_ON_TLS_13).await;
    let (complete, alone) = scene.authority.client_further_down("posthaste");
    let endpoint = scene.endpoint("/hook", Some(&alone)).await;
    let attempt = &scene.failed(&endpoint).await["attempts"][0];
    assert!(attempt["diagnosis"].as_str().unwrap().contains("refused the client certificate"), "{attempt}");
    scene.change(&endpoint, json!({"client_certificate": complete.body()})).await;
    scene.tenant.publish("message.sent", json!({})).await;
    assert_eq!(scene.receiver.next().await.fingerprint, alone.fingerprint);
    scene.app.stop().await;
}

#[tokio::test]
async fn the_diagnosis_says_that_our_certificate_has_expired() {
    let scene = &mut scene(H2_ON_TLS_13).await;
    let good = scene.authority.client("good");
    let endpoint = scene.endpoint("/hook", Some(&good)).await;
    // Time goes by: what was good when it was saved has expired since.
    let expired = scene.authority.client_until("expired", OffsetDateTime::now_utc() - Duration::days(1));
    scene.store(&endpoint, &expired).await;
    let attempt = &scene.failed(&endpoint).await["attempts"][0];
    assert_eq!(attempt["error"], "tls", "{attempt}");
    let diagnosis = attempt["diagnosis"].as_str().unwrap();
    assert!(diagnosis.contains("; the endpoint's client certificate has expired ("), "{diagnosis}");
    assert!(scene.receiver.rest().is_empty());
    scene.app.stop().await;
}

#[tokio::test]
async fn nothing_is_sent_without_a_certificate_that_can_be_used_no_more() {
    let scene = &mut scene(H2_ON_TLS_13).await;
    let (good, other) = (scene.authority.client("good"), scene.authority.client("other"));
    let endpoint = scene.endpoint("/hook", Some(&good)).await;
    let mixed = Identity { private_key: other.private_key, ..good.clone() };
    scene.store(&endpoint, &mixed).await;
    let attempt = &scene.failed(&endpoint).await["attempts"][0];
    assert_eq!(attempt["error"], "tls", "{attempt}");
    assert!(attempt["diagnosis"].as_str().unwrap().contains("can't be used any more"), "{attempt}");
    assert_eq!(scene.receiver.connections(), 0);
    scene.change(&endpoint, json!({"client_certificate": good.body()})).await;
    scene.tenant.publish("message.sent", json!({})).await;
    assert_eq!(scene.receiver.next().await.fingerprint, good.fingerprint);
    scene.app.stop().await;
}

#[tokio::test]
async fn deliveries_wait_while_a_key_can_not_be_opened() {
    let scene = &mut scene(H2_ON_TLS_13).await;
    let good = scene.authority.client("good");
    let endpoint = scene.endpoint("/hook", Some(&good)).await;
    let mut sql = scene.app.sql().await;
    // As if the row had come from another tenant.
    sqlx::query("UPDATE endpoints SET client_key_sealed = set_byte(client_key_sealed, 40, 1 - get_byte(client_key_sealed, 40) % 2)")
        .execute(&mut sql)
        .await
        .unwrap();
    scene.tell(&endpoint).await;
    let event = scene.tenant.publish("message.sent", json!({})).await;
    // Another endpoint's delivery comes and goes meanwhile.
    let other = scene.endpoint("/other", Some(&good)).await;
    let beside = scene.tenant.publish("message.read", json!({})).await;
    assert_eq!(scene.receiver.next().await.path, "/other");
    scene.tenant.delivery_when(&beside, &other, |one| one["status"] == "succeeded").await;
    let waiting = scene.tenant.delivery_when(&event, &endpoint, |_| true).await;
    assert_eq!((&waiting["status"], &waiting["attempt_count"]), (&json!("pending"), &json!(0)));
    scene.change(&endpoint, json!({"client_certificate": good.body()})).await;
    for _ in 0..2 {
        let seen = scene.receiver.next().await;
        assert_eq!((seen.path.as_str(), &seen.fingerprint), ("/hook", &good.fingerprint));
    }
    scene.app.stop().await;
}

impl Scene {
    /// Stores what the API would refuse.
    async fn store(&self, endpoint: &Value, identity: &Identity) {
        let uuid = |id: &str| id.split_once('_').unwrap().1.parse().unwrap();
        let (tenant, owner) = (uuid(&self.tenant.id), uuid(endpoint["id"].as_str().unwrap()));
        let vault = posthaste::seal::Vault::parse(self.app.settings.master_key.as_ref().unwrap()).unwrap();
        let purpose = posthaste::seal::Purpose { what: "client key", tenant, owner, item: uuid::Uuid::nil() };
        let sealed = vault.seal(identity.private_key.as_bytes(), purpose).unwrap();
        sqlx::query("UPDATE endpoints SET client_certificate = $2, client_key_sealed = $3 WHERE id = $1")
            .bind(owner)
            .bind(&identity.certificate)
            .bind(sealed)
            .execute(&mut self.app.sql().await)
            .await
            .unwrap();
        self.tell(endpoint).await;
    }

    /// Has the endpoint's owner read it anew.
    async fn tell(&self, endpoint: &Value) {
        self.change(endpoint, json!({"name": "Told"})).await;
    }
}
