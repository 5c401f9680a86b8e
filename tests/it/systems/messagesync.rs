//! MessageSync: subscriptions in the settings of a location, events by channel, the test ping, and what to look at when it is silent.

use std::{collections::HashSet, str::from_utf8};

use serde_json::{Value, json};

use super::{path, sample, text, waits_s};
use crate::helpers::{Answer, Receiver, TestApp, app::Tenant, receiver::Seen, spawn, spawn_with};

const EVENTS: [&str; 7] = [
    "whatsapp.message.inbound",
    "whatsapp.message.outbound",
    "imessage.message.inbound",
    "imessage.message.outbound",
    "sms.message.inbound",
    "sms.message.outbound",
    "message.failed",
];
const AT: &str = "2026-11-20T10:00:00.123Z";

/// A location of a tenant, and where receivers of its events listen.
struct Settings {
    app: TestApp,
    receiver: Receiver,
    tenant: Tenant,
    location: Value,
}

impl Settings {
    /// Of a location with these channels connected.
    async fn of(channels: Value) -> Self {
        let app = spawn().await;
        let tenant = app.tenant_with(json!({"preset": "messagesync", "validate_payloads": true})).await;
        let body = json!({"name": "Downtown", "channels": channels});
        let location = tenant.client.post("/v1/locations", body).await.expect(201);
        Self { app, receiver: Receiver::start().await, tenant, location }
    }

    fn route(&self, what: &str) -> String {
        format!("/v1/locations/{}/{what}", text(&self.location, "id"))
    }

    /// The dialog: name, target URL, events, and whether a test ping is sent.
    async fn subscribe(&self, hook: &str, events: &[&str], pings: bool) -> Value {
        let body = json!({"name": format!("CRM {hook}"), "url": self.receiver.url(hook), "event_types": events,
            "send_test_ping": pings});
        self.tenant.client.post(&self.route("endpoints"), body).await.expect(201)
    }

    async fn publish(&self, event_type: &str) -> Value {
        let data = sample(&self.tenant, event_type).await;
        let body = json!({"type": event_type, "timestamp": AT, "data": data});
        self.tenant.client.post(&self.route("events"), body).await.expect(202)
    }
}

/// What this page leaves to its reader: a receiver that goes by the payload alone, and does nothing twice.
#[derive(Default)]
struct Handler(HashSet<String>);

impl Handler {
    /// Whether it is news.
    fn takes(&mut self, seen: &Seen) -> bool {
        let event = seen.json();
        assert!(EVENTS.contains(&text(&event, "type")) && event["data"].is_object());
        self.0.insert(text(&event, "id").to_owned())
    }
}

#[tokio::test]
async fn the_dialog_asks_for_a_name_an_https_url_and_events() {
    let mut app = spawn_with(&["--allow-http", "false"]).await;
    let client = app.tenant_with(json!({"preset": "messagesync"})).await.client;
    let location = client.post("/v1/locations", json!({"name": "Downtown"})).await.expect(201);
    let route = format!("/v1/locations/{}/endpoints", text(&location, "id"));
    let url = "https://example.com/webhooks";
    for (body, pointer) in [
        (json!({"url": url, "event_types": EVENTS}), "/name"),
        (json!({"name": "CRM Sync", "event_types": EVENTS}), "/url"),
        (json!({"name": "CRM Sync", "url": "http://example.com/webhooks", "event_types": EVENTS}), "/url"),
        (json!({"name": "CRM Sync", "url": "https://localhost/webhooks", "event_types": EVENTS}), "/url"),
        (json!({"name": "CRM Sync", "url": "https://10.1.2.3/webhooks", "event_types": EVENTS}), "/url"),
        (json!({"name": "CRM Sync", "url": url, "event_types": []}), "/event_types"),
        (json!({"name": "CRM Sync", "url": url, "event_types": ["fax.message.inbound"]}), "/event_types/0"),
    ] {
        assert_eq!(client.post(&route, body).await.pointers(), [pointer]);
    }
    let made =
        client.post(&route, json!({"name": "CRM Sync", "url": url, "event_types": EVENTS})).await.expect(201);
    assert_eq!((&made["location_id"], &made["status"]), (&location["id"], &json!("active")));
    app.stop().await;
}

#[tokio::test]
async fn a_test_ping_shows_that_a_new_subscription_works() {
    let mut settings = Settings::of(json!(["whatsapp", "imessage", "sms"])).await;
    let subscription =
        settings.subscribe("/n8n", &["sms.message.inbound", "sms.message.outbound"], true).await;
    let ping = settings.receiver.next().await;
    assert!(Handler::default().takes(&ping));
    let body = ping.json();
    assert_eq!(body["type"], "sms.message.inbound");
    assert_eq!(body["data"], sample(&settings.tenant, "sms.message.inbound").await);
    let secret = standardwebhooks::Webhook::new(text(&subscription, "secret")).unwrap();
    secret.verify(&ping.body, &ping.headers).unwrap();
    // What came of it, for whoever wonders where it is.
    let attempts = format!("{}/attempts", path(&subscription));
    let told = settings.tenant.client.get_until(&attempts, |page| page["data"][0].is_object()).await;
    let attempt = &told["data"][0];
    assert_eq!((&attempt["trigger"], &attempt["outcome"]), (&json!("test"), &json!("succeeded")));

    // Switched off, nothing is sent.
    settings.subscribe("/quiet", &["sms.message.inbound"], false).await;
    settings.app.stop().await;
    assert!(settings.receiver.rest().is_empty());
}

#[tokio::test]
async fn a_subscription_mixes_channels_and_gets_what_it_picked() {
    let mut settings = Settings::of(json!(["whatsapp", "imessage", "sms"])).await;
    let picked = ["whatsapp.message.inbound", "sms.message.outbound", "message.failed"];
    let some = settings.subscribe("/some", &picked, false).await;
    let all = settings.subscribe("/all", &EVENTS, false).await;
    for event_type in EVENTS {
        let event = settings.publish(event_type).await;
        let expected = format!(
            r#"{{"id":{},"type":"{event_type}","timestamp":"{AT}","location_id":{},"data":{}}}"#,
            event["id"],
            settings.location["id"],
            sample(&settings.tenant, event_type).await
        );
        let wanted = if picked.contains(&event_type) {
            vec![(&some, "/some"), (&all, "/all")]
        } else {
            vec![(&all, "/all")]
        };
        let mut seen = settings.receiver.take(wanted.len()).await;
        seen.sort_by(|one, other| other.path.cmp(&one.path));
        for (seen, (subscription, hook)) in seen.iter().zip(wanted) {
            assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", hook));
            assert_eq!(seen.header("content-type"), "application/json");
            assert_eq!(from_utf8(&seen.body).unwrap(), expected);
            // The page names no signature: both are there for those who want one.
            let secret = text(subscription, "secret");
            standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).unwrap();
            assert_eq!(seen.header("x-webhook-signature"), super::hmac_hex(secret, &seen.body));
        }
    }
    // Events of other locations are others' business.
    settings.tenant.publish("message.failed", sample(&settings.tenant, "message.failed").await).await;
    settings.app.stop().await;
    assert!(settings.receiver.rest().is_empty());
}

#[tokio::test]
async fn events_of_a_channel_stop_with_its_instance() {
    let mut settings = Settings::of(json!(["whatsapp"])).await;
    let client = settings.tenant.client.clone();
    settings.subscribe("/hook", &EVENTS, false).await;
    let location = format!("/v1/locations/{}", text(&settings.location, "id"));
    let sms =
        json!({"type": "sms.message.inbound", "data": sample(&settings.tenant, "sms.message.inbound").await});
    settings.publish("whatsapp.message.inbound").await;
    settings.publish("message.failed").await;
    settings.receiver.take(2).await;
    let refused = client.post(&settings.route("events"), sms.clone()).await.problem(409);
    assert!(text(&refused, "detail").contains("sms"), "{refused}");

    let shown = client.patch(&location, json!({"channels": ["sms"]})).await.expect(200);
    assert_eq!(
        (&shown["channels"]["sms"], &shown["channels"]["whatsapp"]),
        (&json!("connected"), &json!("disconnected"))
    );
    client.post(&settings.route("events"), sms).await.expect(202);
    assert_eq!(settings.receiver.next().await.json()["type"], "sms.message.inbound");
    settings.app.stop().await;
}

/// "One subscription per integration … keeps logs and rotation simple."
#[tokio::test]
async fn logs_and_rotation_are_of_one_subscription() {
    let mut settings = Settings::of(json!(["sms"])).await;
    let client = settings.tenant.client.clone();
    let crm = settings.subscribe("/crm", &["sms.message.inbound"], false).await;
    let n8n = settings.subscribe("/n8n", &["message.failed"], false).await;
    let rotated = client.poke(&format!("{}/secret/rotate", path(&crm))).await.expect(200);
    for (event_type, subscription, secrets) in [
        ("sms.message.inbound", &crm, vec![text(&crm, "secret"), text(&rotated, "secret")]),
        ("message.failed", &n8n, vec![text(&n8n, "secret")]),
    ] {
        let event = settings.publish(event_type).await;
        let seen = settings.receiver.next().await;
        // For a day the old secret is believed as well.
        assert_eq!(seen.header("webhook-signature").split(' ').count(), secrets.len());
        for secret in secrets {
            standardwebhooks::Webhook::new(secret).unwrap().verify(&seen.body, &seen.headers).unwrap();
        }
        settings.tenant.delivery_when(&event, subscription, |one| one["status"] == "succeeded").await;
        let log = client.get(&format!("{}/deliveries", path(subscription))).await.expect(200);
        let logged: Vec<&Value> =
            log["data"].as_array().unwrap().iter().map(|one| &one["event_id"]).collect();
        assert_eq!(logged, [&event["id"]]);
    }
    settings.app.stop().await;
}

/// "Events stopped firing", "Duplicate events".
#[tokio::test]
async fn repeated_failures_are_seen_and_mended_and_nothing_is_taken_twice() {
    let mut settings = Settings::of(json!(["sms"])).await;
    let answers = [301, 404, 500, 503, 201, 410, 202];
    settings.receiver.script("/hook", answers.map(Answer::status));
    let subscription = settings.subscribe("/hook", &["sms.message.inbound"], false).await;
    let tenant = &settings.tenant;
    let event = settings.publish("sms.message.inbound").await;
    for (count, seconds) in [(1, 10), (2, 60), (3, 300)] {
        let delivery = tenant.delivery_when(&event, &subscription, |one| one["attempt_count"] == count).await;
        assert!(waits_s(&delivery, seconds), "{delivery}");
        tenant.tell_delivery(&event, &subscription, "retry").await.expect(202);
    }
    let failed = tenant.delivery_when(&event, &subscription, |one| one["status"] == "failed").await;
    let statuses: Vec<Value> =
        failed["attempts"].as_array().unwrap().iter().map(|one| one["response"]["status"].clone()).collect();
    assert_eq!(statuses, answers[..4]);
    let failing = tenant.endpoint_when(&subscription, |one| one["status"] == "failing").await;
    assert!(text(&failing, "last_error").contains("503"));

    // Their endpoint is mended: what failed is sent again, once.
    let recover = json!({"since": AT});
    let job = tenant.client.post(&format!("{}/recover", path(&subscription)), recover).await.expect(202);
    tenant.job_ended(&job).await;
    tenant.endpoint_when(&subscription, |one| one["status"] == "active").await;
    let mut handler = Handler::default();
    let news = settings.receiver.take(5).await.iter().filter(|seen| handler.takes(seen)).count();
    assert_eq!(news, 1, "the id in the payload is the same at every attempt");

    // Their endpoint is gone, and then it isn't: what came meanwhile was held.
    settings.publish("sms.message.inbound").await;
    let disabled = tenant.endpoint_when(&subscription, |one| one["status"] == "disabled").await;
    assert!(text(&disabled, "status_reason").contains("410"));
    let held = settings.publish("sms.message.inbound").await;
    assert_eq!(held["deliveries"][0]["status"], "held");
    tenant.tell(&subscription, "resume").await;
    let seen = settings.receiver.take(2).await;
    assert_eq!(seen[1].header("webhook-id"), held["id"]);
    settings.app.stop().await;
}

#[tokio::test]
async fn subscriptions_are_listed_with_their_date_and_deleted() {
    let mut settings = Settings::of(json!(["whatsapp", "imessage", "sms"])).await;
    let client = settings.tenant.client.clone();
    let crm = settings.subscribe("/crm", &["sms.message.inbound"], false).await;
    let n8n = settings.subscribe("/n8n", &["sms.message.inbound"], false).await;
    let list = client.get(&settings.route("endpoints")).await.expect(200);
    let rows: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|one| (&one["name"], &one["created_at"])).collect();
    assert_eq!(rows, [(&n8n["name"], &n8n["created_at"]), (&crm["name"], &crm["created_at"])]);
    assert_eq!(list["active_count"], 2);

    client.delete(&path(&n8n)).await.expect(204);
    let event = settings.publish("sms.message.inbound").await;
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(settings.receiver.next().await.path, "/crm");
    client.get(&path(&n8n)).await.problem(404);
    settings.app.stop().await;
    assert!(settings.receiver.rest().is_empty());
}
