//! Client certificates of endpoints: shown but for the key, replaced, taken away, refused with a pointer, sealed.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    endpoints::{actions, etag, path},
    secrets::dump,
    text,
};
use crate::helpers::{Authority, Identity, Stored, Tenant, receiver::nowhere, spawn};

const URL: &str = "https://e.example.com/hook";

async fn with_certificate(tenant: &Tenant, identity: &Identity) -> Value {
    tenant.endpoint(URL, json!({"client_certificate": identity.body()})).await
}

#[tokio::test]
async fn a_certificate_is_shown_without_its_key() {
    let mut app = spawn().await;
    let (tenant, authority) = (app.tenant().await, Authority::new());
    let not_after = OffsetDateTime::from_unix_timestamp(1_893_456_000).unwrap();
    let identity = authority.client_until("posthaste", not_after);
    let mut made = with_certificate(&tenant, &identity).await;
    made.as_object_mut().unwrap().remove("secret");
    let shown = json!({
        "certificate": identity.certificate, "fingerprint_sha256": identity.fingerprint, "subject": "CN=posthaste",
        "not_after": "2030-01-01T00:00:00.000Z",
    });
    assert_eq!(made["client_certificate"], shown);
    let listed = tenant.client.get("/v1/endpoints").await.expect(200);
    assert_eq!(tenant.client.get(&path(&made)).await.expect(200), made);
    assert_eq!(listed["data"][0], made);
    // What was made, and every row there is.
    let key_lines: Vec<&str> = identity.private_key.lines().filter(|line| !line.starts_with('-')).collect();
    let dump = dump(&app).await;
    assert!(dump.contains("BEGIN CERTIFICATE"));
    for line in key_lines {
        assert!(!dump.contains(line) && !made.to_string().contains(line));
    }
    app.stop().await;
}

#[tokio::test]
async fn a_patch_replaces_keeps_or_takes_it_away() {
    let mut app = spawn().await;
    let (tenant, authority) = (app.tenant().await, Authority::new());
    let (first, second) = (authority.client("first"), authority.client("second"));
    let endpoint = with_certificate(&tenant, &first).await;
    let path = path(&endpoint);
    let mut tag = etag(&tenant.client.get(&path).await);
    for (patch, expected) in [
        (json!({"name": "Renamed"}), json!(first.fingerprint)),
        (json!({"client_certificate": second.body()}), json!(second.fingerprint)),
        (json!({"url": "https://f.example.com/"}), json!(second.fingerprint)),
        (json!({"client_certificate": null}), Value::Null),
        (json!({"client_certificate": first.body(), "name": "Again"}), json!(first.fingerprint)),
    ] {
        let reply = tenant.client.patch(&path, patch.clone()).await;
        assert_ne!(std::mem::replace(&mut tag, etag(&reply)), etag(&reply), "a new ETag after {patch}");
        let answer = reply.expect(200);
        assert_eq!(
            *answer.pointer("/client_certificate/fingerprint_sha256").unwrap_or(&Value::Null),
            expected
        );
        assert_eq!(tenant.client.get(&path).await.expect(200), answer);
    }
    let log = actions(&tenant.client, &endpoint).await;
    let told: Vec<&Value> = log.iter().map(|(_, fields)| fields).collect();
    assert_eq!(
        told,
        [
            &json!(["name", "client_certificate"]),
            &json!(["client_certificate"]),
            &json!(["url"]),
            &json!(["client_certificate"]),
            &json!(["name"]),
            &json!([]),
        ]
    );
    let mut sql = app.sql().await;
    tenant.client.patch(&path, json!({"client_certificate": null})).await.expect(200);
    let left: i64 =
        sqlx::query_scalar("SELECT count(client_certificate) + count(client_key_sealed) FROM endpoints")
            .fetch_one(&mut sql)
            .await
            .unwrap();
    assert_eq!(left, 0, "it is gone, not hidden");
    app.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_its_pointer_and_changes_nothing() {
    let mut app = spawn().await;
    let (tenant, authority) = (app.tenant().await, Authority::new());
    let (good, other) = (authority.client("good"), authority.client("other"));
    let expired = authority.client_until("expired", OffsetDateTime::now_utc() - Duration::hours(1));
    let endpoint = with_certificate(&tenant, &good).await;
    let before = Stored::read(&mut app.sql().await).await;
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIHs\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let pair = |certificate: &str, key: &str| json!({"certificate": certificate, "private_key": key});
    let both = format!("{}{}", good.certificate, good.private_key);
    for (given, pointers) in [
        (json!("PEM"), "/client_certificate"),
        (json!([good.certificate, good.private_key]), "/client_certificate"),
        (json!({}), "/client_certificate/certificate"),
        (json!({"certificate": good.certificate}), "/client_certificate/private_key"),
        (json!({"private_key": good.private_key}), "/client_certificate/certificate"),
        (json!({"certificate": good.certificate, "key": good.private_key}), "/client_certificate/key"),
        (json!({"certificate": good.certificate, "private_key": null}), "/client_certificate/private_key"),
        (json!({"certificate": 1, "private_key": good.private_key}), "/client_certificate/certificate"),
        (pair("", &good.private_key), "/client_certificate/certificate"),
        (pair("", ""), "/client_certificate/certificate /client_certificate/private_key"),
        (pair(&both, &good.private_key), "/client_certificate/certificate"),
        (
            pair(&good.private_key, &good.certificate),
            "/client_certificate/certificate /client_certificate/private_key",
        ),
        (pair(&good.certificate, &other.private_key), "/client_certificate/private_key"),
        (pair(&good.certificate, encrypted), "/client_certificate/private_key"),
        (expired.body(), "/client_certificate/certificate"),
    ] {
        let body = json!({"name": "E", "url": URL, "event_types": ["*"], "client_certificate": given});
        for reply in [
            tenant.client.post("/v1/endpoints", body).await,
            tenant.client.patch(&path(&endpoint), json!({"client_certificate": given})).await,
        ] {
            assert_eq!(reply.status, 422, "{given}: {}", reply.text);
            let key_text = good.private_key.lines().nth(1).unwrap();
            assert!(!reply.text.contains(key_text), "a refusal quotes no key: {}", reply.text);
            assert_eq!(reply.pointers().join(" "), pointers, "{given}");
        }
    }
    let refused = tenant.client.patch(&path(&endpoint), json!({"client_certificate": expired.body()})).await;
    assert!(refused.text.contains("has expired: it was valid until "), "{}", refused.text);
    Stored::read(&mut app.sql().await).await.assert_same(&before, "refused certificates");
    app.stop().await;
}

#[tokio::test]
async fn without_https_nobody_is_shown_a_certificate() {
    let mut app = spawn().await;
    let (tenant, authority) = (app.tenant().await, Authority::new());
    let identity = authority.client("posthaste");
    let plain = "http://e.example.com/hook";
    let body =
        json!({"name": "E", "url": plain, "event_types": ["*"], "client_certificate": identity.body()});
    assert_eq!(tenant.client.post("/v1/endpoints", body).await.pointers(), ["/client_certificate"]);
    let without = tenant.endpoint(plain, json!({})).await;
    let certificate = json!({"client_certificate": identity.body()});
    assert_eq!(tenant.client.patch(&path(&without), certificate).await.pointers(), ["/client_certificate"]);
    let both = json!({"client_certificate": identity.body(), "url": URL});
    tenant.client.patch(&path(&without), both).await.expect(200);
    assert_eq!(tenant.client.patch(&path(&without), json!({"url": plain})).await.pointers(), ["/url"]);
    let back = json!({"client_certificate": null, "url": plain});
    assert_eq!(tenant.client.patch(&path(&without), back).await.expect(200)["url"], plain);
    app.stop().await;
}

#[tokio::test]
async fn a_key_without_the_scope_write_sets_none() {
    let mut app = spawn().await;
    let (tenant, authority) = (app.tenant().await, Authority::new());
    let endpoint = with_certificate(&tenant, &authority.client("first")).await;
    let reader = app.with_key(&app.key(&tenant.id, &["read", "secrets", "publish"]).await);
    let change = json!({"client_certificate": authority.client("second").body()});
    reader.patch(&path(&endpoint), change).await.problem(403);
    let read = reader.get(&path(&endpoint)).await.expect(200);
    let until = OffsetDateTime::parse(text(&read["client_certificate"], "not_after"), &Rfc3339).unwrap();
    assert!(until > OffsetDateTime::now_utc());
    app.stop().await;
}

#[tokio::test]
async fn a_key_that_was_moved_to_another_tenant_opens_nothing() {
    let mut app = spawn().await;
    let (tenant, other, authority) = (app.tenant().await, app.tenant().await, Authority::new());
    let identity = authority.client("posthaste");
    let fields = json!({"client_certificate": identity.body()});
    let (from, to) =
        (tenant.endpoint(&nowhere(), fields.clone()).await, other.endpoint(&nowhere(), fields).await);
    let tested = other.client.post(&format!("{}/test", path(&to)), json!({})).await.expect(200);
    assert_eq!(tested["error"], "connect", "{tested}");
    let uuid = |endpoint: &Value| text(endpoint, "id").trim_start_matches("ep_").to_owned();
    let moved = format!(
        "UPDATE endpoints t SET client_key_sealed = s.client_key_sealed FROM endpoints s WHERE t.id = '{}' AND s.id = '{}'",
        uuid(&to),
        uuid(&from)
    );
    let mut sql = app.sql().await;
    let done = sqlx::query(sqlx::AssertSqlSafe(moved)).execute(&mut sql).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
    other.client.post(&format!("{}/test", path(&to)), json!({})).await.problem(500);
    // A new one mends it.
    let change = json!({"client_certificate": identity.body()});
    other.client.patch(&path(&to), change).await.expect(200);
    other.client.post(&format!("{}/test", path(&to)), json!({})).await.expect(200);
    app.stop().await;
}
