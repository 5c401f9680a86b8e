//! Requests without a good key, too many from one address.

use posthaste::web::failed_auth::FAILURES_MAX;

use crate::helpers::{TestApp, client::Client, spawn};

const HERE: [u8; 4] = [127, 0, 0, 2];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 3];

/// All that an address may get wrong in a minute.
async fn exhaust(app: &TestApp) -> Client {
    let strangers = [app.anonymous(), app.with_key("letmein"), app.with_key(&unknown())];
    let strangers = strangers.map(|client| client.calling_from(HERE));
    for n in 0..FAILURES_MAX as usize {
        strangers[n % strangers.len()].get("/v1/me").await.problem(401);
    }
    let [anonymous, ..] = strangers;
    anonymous
}

/// Of the right form, and nobody's.
fn unknown() -> String {
    posthaste::auth::ApiKey::generate().reveal().to_owned()
}

#[tokio::test]
async fn an_address_that_fails_too_often_is_told_to_wait_and_a_good_key_is_not() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let anonymous = exhaust(&app).await;
    // Whatever is wrong with the key, and whatever is claimed of where it comes from.
    let forwarded = anonymous.with("x-forwarded-for", "198.51.100.7").with("forwarded", "for=198.51.100.7");
    for client in [anonymous.clone(), app.with_key(&unknown()).calling_from(HERE), forwarded] {
        let reply = client.get("/v1/endpoints").await;
        let wait_s: u64 = reply.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait_s), "{wait_s}");
        assert!(!reply.headers.contains_key("www-authenticate"));
        assert_eq!(reply.problem(429)["type"], "urn:posthaste:problem:too-many-failures");
    }
    // Publishes are no exception.
    let body = serde_json::json!({"type": "message.sent", "data": {}});
    anonymous.post("/v1/locations/default/events", body.clone()).await.problem(429);

    let good = app.with_key(&tenant.key).calling_from(HERE);
    good.get("/v1/me").await.expect(200);
    good.post("/v1/locations/default/events", body).await.expect(202);
    anonymous.get("/healthz").await.expect(200);
    // Somebody else's mistakes are their own.
    app.anonymous().calling_from(ELSEWHERE).get("/v1/me").await.problem(401);
    anonymous.get("/v1/me").await.problem(429);
    app.stop().await;
}

#[tokio::test]
async fn what_a_good_key_may_not_do_is_no_failure() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let reader = app.with_key(&app.key(&tenant.id, &["read"]).await).calling_from(HERE);
    for _ in 0..=FAILURES_MAX {
        reader.post("/v1/endpoints", serde_json::json!({})).await.problem(403);
    }
    app.anonymous().calling_from(HERE).get("/v1/me").await.problem(401);
    app.stop().await;
}
