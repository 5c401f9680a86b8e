//! Rotating a signing secret: with a grace period, at once, and with a secret of one's own.

use posthaste::{signing, types::secret::SigningSecret};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::text;
use crate::helpers::{
    Receiver,
    app::Tenant,
    client::{PATIENCE, Reply},
    receiver::Seen,
    spawn,
};

const OWN_BASE64: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const FOREIGN: &str = "my-old-system's-secret!";
const DAY_S: u64 = 86_400;

/// As a receiver with the Standard Webhooks library would check.
fn verifies(secret: &str, seen: &Seen) -> bool {
    standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).is_ok()
}

/// As one that goes by the hex header.
fn verifies_hex(secret: &str, seen: &Seen) -> bool {
    let secret = SigningSecret::parse(secret).unwrap();
    signing::verify_hex(&secret, seen.header("x-webhook-signature"), &seen.body).is_ok()
}

async fn rotate(tenant: &Tenant, endpoint: &Value, body: Value) -> Reply {
    tenant.client.post(&format!("/v1/endpoints/{}/secret/rotate", text(endpoint, "id")), body).await
}

async fn sent(tenant: &Tenant, receiver: &mut Receiver) -> Seen {
    tenant.publish("message.incoming", json!({"a": 1})).await;
    receiver.next().await
}

fn count(seen: &Seen) -> usize {
    seen.header("webhook-signature").split(' ').count()
}

#[tokio::test]
async fn both_secrets_sign_until_the_grace_period_ends() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    let old = text(&endpoint, "secret");
    let seen = sent(&tenant, &mut receiver).await;
    assert_eq!((count(&seen), verifies(old, &seen), verifies_hex(old, &seen)), (1, true, true));

    let rotated = rotate(&tenant, &endpoint, json!({"grace_period_s": 2})).await.expect(200);
    let new = text(&rotated, "secret");
    assert!(new.starts_with("whsec_") && new != old);
    let seen = sent(&tenant, &mut receiver).await;
    assert_eq!((count(&seen), verifies(old, &seen), verifies(new, &seen)), (2, true, true));
    // One signature only fits the hex header: the newest secret's.
    assert_eq!((verifies_hex(old, &seen), verifies_hex(new, &seen)), (false, true));

    let ending = async {
        loop {
            let seen = sent(&tenant, &mut receiver).await;
            if count(&seen) == 1 {
                return seen;
            }
            assert!(verifies(old, &seen) && verifies(new, &seen));
        }
    };
    let seen = timeout(PATIENCE, ending).await.expect("the grace period ends");
    assert_eq!((verifies(old, &seen), verifies(new, &seen), verifies_hex(new, &seen)), (false, true, true));
    app.stop().await;
}

#[tokio::test]
async fn at_once_means_that_nothing_older_signs_any_more() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    // A day of grace by default.
    let second = rotate(&tenant, &endpoint, json!({})).await.expect(200);
    assert_eq!(count(&sent(&tenant, &mut receiver).await), 2);
    let third = rotate(&tenant, &endpoint, json!({"grace_period_s": 0})).await.expect(200);
    let seen = sent(&tenant, &mut receiver).await;
    assert_eq!(count(&seen), 1, "the first one's grace ends as well");
    assert!(verifies(text(&third, "secret"), &seen));
    assert!(!verifies(text(&second, "secret"), &seen) && !verifies(text(&endpoint, "secret"), &seen));
    app.stop().await;
}

#[tokio::test]
async fn a_secret_of_ones_own_must_fit_the_format() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let url = receiver.url("/hook");
    let endpoint = tenant.endpoint(&url, json!({"secret": OWN_BASE64})).await;
    assert_eq!(endpoint["secret"], OWN_BASE64);
    assert!(verifies(OWN_BASE64, &sent(&tenant, &mut receiver).await));
    let rotated = rotate(&tenant, &endpoint, json!({"grace_period_s": 0, "secret": OWN_BASE64})).await;
    assert_eq!(rotated.expect(200)["secret"], OWN_BASE64);
    tenant.client.delete(&format!("/v1/endpoints/{}", text(&endpoint, "id"))).await.expect(204);

    // A foreign one does for formats without a base64 key alone.
    let create = |format: &str, secret: &str| json!({"name": "E", "url": url, "event_types": ["*"], "format": format, "secret": secret});
    for format in ["standard", "messagesync", "whatsable"] {
        for foreign in [FOREIGN, "whsec_tooshort1234", "whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD"] {
            let reply = tenant.client.post("/v1/endpoints", create(format, foreign)).await;
            assert_eq!(reply.pointers(), ["/secret"], "{format}: {foreign}");
        }
    }
    for format in ["aisoule", "whatssync", "whatsapp_platform"] {
        let made = tenant.client.post("/v1/endpoints", create(format, FOREIGN)).await.expect(201);
        assert_eq!(made["secret"], FOREIGN);
        let rotated = rotate(&tenant, &made, json!({"secret": "another-0123456789"})).await.expect(200);
        assert_eq!(rotated["secret"], "another-0123456789");
        // The secret that is there must fit the format that comes.
        let path = format!("/v1/endpoints/{}", text(&made, "id"));
        assert_eq!(tenant.client.patch(&path, json!({"format": "standard"})).await.pointers(), ["/format"]);
        tenant.client.delete(&path).await.expect(204);
    }
    let longest = "x".repeat(129);
    let made = tenant.client.post("/v1/endpoints", create("aisoule", FOREIGN)).await.expect(201);
    for bad in ["", "short", "0123456789 abcdef", "0123456789abcdef\n", "0123456789abcdefü", &longest] {
        let reply = tenant.client.post("/v1/endpoints", create("aisoule", bad)).await;
        assert_eq!(reply.pointers(), ["/secret"], "{bad:?}");
        let reply = rotate(&tenant, &made, json!({"secret": bad})).await;
        assert_eq!(reply.pointers(), ["/secret"], "{bad:?}");
    }
    let seen = sent(&tenant, &mut receiver).await;
    assert!(verifies_hex(FOREIGN, &seen), "a refused rotation changes nothing");
    app.stop().await;
}

#[tokio::test]
async fn the_grace_period_has_limits_and_secrets_a_number() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let tenant = app.tenant().await;
    let endpoint = tenant.endpoint(&receiver.url("/hook"), json!({})).await;
    for bad in [json!(7 * DAY_S + 1), json!(-1), json!(1.5), json!("60"), json!(u64::MAX)] {
        let reply = rotate(&tenant, &endpoint, json!({"grace_period_s": bad})).await;
        assert_eq!(reply.pointers(), ["/grace_period_s"], "{bad}");
    }
    assert_eq!(rotate(&tenant, &endpoint, json!({"grace": 0})).await.pointers(), ["/grace"]);
    rotate(&tenant, &endpoint, json!([])).await.problem(422);
    for _ in 1..signing::MAX_LIVE_SECRETS {
        rotate(&tenant, &endpoint, json!({"grace_period_s": 7 * DAY_S})).await.expect(200);
    }
    assert_eq!(count(&sent(&tenant, &mut receiver).await), signing::MAX_LIVE_SECRETS);
    rotate(&tenant, &endpoint, json!({"grace_period_s": 1})).await.problem(409);
    let last = rotate(&tenant, &endpoint, json!({"grace_period_s": 0})).await.expect(200);
    let seen = sent(&tenant, &mut receiver).await;
    assert_eq!((count(&seen), verifies(text(&last, "secret"), &seen)), (1, true));
    app.stop().await;
}
