//! Histories with filters: deliveries, attempts and events, walked through in small pages both ways.

use serde_json::{Value, json};

use super::{array, text};
use crate::helpers::{Answer, Receiver, Tenant, client::Client, spawn};

const LONG_S: u32 = 3_600;

/// All rows of a list, in pages of two, and the same on the way back.
pub async fn walk(client: &Client, path: &str) -> Vec<Value> {
    let at = |cursor: &str| format!("{path}{}limit=2{cursor}", if path.contains('?') { '&' } else { '?' });
    let mut pages = vec![client.get(&at("")).await.expect(200)];
    while let Some(cursor) = pages.last().unwrap()["next_cursor"].as_str() {
        pages.push(client.get(&at(&format!("&cursor={cursor}"))).await.expect(200));
    }
    let rows =
        |pages: &[Value]| pages.iter().flat_map(|page| array(page, "data").clone()).collect::<Vec<_>>();
    let forth = rows(&pages);
    let mut back = vec![pages.pop().unwrap()];
    while let Some(cursor) = back.last().unwrap()["prev_cursor"].as_str() {
        back.push(client.get(&at(&format!("&cursor={cursor}"))).await.expect(200));
    }
    back.reverse();
    assert_eq!(rows(&back), forth, "{path}, backwards");
    forth
}

/// Endpoints at two locations, and deliveries in every state.
struct Scene {
    tenant: Tenant,
    /// Of the default location: one that gives up at once, one that will try again.
    strict: Value,
    patient: Value,
    /// Of a location called `second`: paused.
    paused: Value,
}

async fn scene(tenant: Tenant, receiver: &Receiver) -> Scene {
    receiver
        .decide(|seen| Some(Answer::status(if seen.json()["type"] == "message.failed" { 500 } else { 200 })));
    let strict = tenant.endpoint(&receiver.url("/strict"), json!({"retry_schedule_s": []})).await;
    let patient = tenant.endpoint(&receiver.url("/patient"), json!({"retry_schedule_s": [LONG_S]})).await;
    let second = json!({"name": "Second", "external_id": "second"});
    tenant.client.post("/v1/locations", second).await.expect(201);
    let paused = tenant.endpoint(&receiver.url("/paused"), json!({"location_id": "second"})).await;
    tenant.tell(&paused, "pause").await;
    let elsewhere = async |event_type: &str| {
        let body = json!({"type": event_type, "data": {}});
        tenant.client.post("/v1/locations/second/events", body).await.expect(202)
    };
    for event_type in ["message.sent", "message.failed", "contact.created", "message.read", "message.failed"]
    {
        let event = tenant.publish(event_type, json!({})).await;
        elsewhere(event_type).await;
        if event_type == "message.failed" {
            tenant.delivery_when(&event, &strict, |one| one["status"] == "failed").await;
            tenant.delivery_when(&event, &patient, |one| one["attempt_count"] == 1).await;
        } else if event_type != "contact.created" {
            for endpoint in [&strict, &patient] {
                tenant.delivery_when(&event, endpoint, |one| one["status"] == "succeeded").await;
            }
        }
    }
    let canceled = elsewhere("message.read").await;
    tenant.tell_delivery(&canceled, &paused, "cancel").await.expect(200);
    Scene { tenant, strict, patient, paused }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

#[tokio::test]
async fn deliveries_are_filtered_by_whatever_they_show() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let scene = scene(app.tenant().await, &receiver).await;
    let client = &scene.tenant.client;
    let all = walk(client, "/v1/deliveries").await;
    // Four events at both endpoints of the default location, five at the paused one.
    assert_eq!(all.len(), 4 * 2 + 5);
    let key = |one: &Value| (text(one, "event_id").to_owned(), text(one, "endpoint_id").to_owned());
    assert!(all.is_sorted_by(|one, other| key(one) > key(other)), "newest first, each once");
    let states: Vec<_> = ["pending", "held", "succeeded", "failed", "canceled"]
        .into_iter()
        .map(|status| all.iter().filter(|one| one["status"] == status).count())
        .collect();
    assert_eq!(states, [2, 4, 4, 2, 1]);

    let (since, until) = (text(&all[8], "created_at"), text(&all[3], "created_at"));
    let periods = [
        (String::new(), None, None),
        (format!("&since={since}"), Some(since), None),
        (format!("&until={until}"), None, Some(until)),
        (format!("&since={since}&until={until}"), Some(since), Some(until)),
        (format!("&since={since}&until={since}"), Some(since), Some(since)),
    ];
    let ids = [&scene.strict, &scene.patient, &scene.paused].map(|endpoint| text(endpoint, "id"));
    let location = text(&scene.paused, "location_id");
    let lists = [
        ("/v1/deliveries?".to_owned(), None),
        (format!("/v1/deliveries?location_id={location}"), Some(ids[2])),
        ("/v1/deliveries?location_id=second".to_owned(), Some(ids[2])),
        (format!("/v1/deliveries?endpoint_id={}", ids[0]), Some(ids[0])),
        (format!("/v1/endpoints/{}/deliveries?", ids[1]), Some(ids[1])),
    ];
    for (list, endpoint) in &lists {
        for status in
            [None, Some("pending"), Some("held"), Some("succeeded"), Some("failed"), Some("canceled")]
        {
            for pattern in
                [None, Some("*"), Some("message.*"), Some("message.failed"), Some("contact.created")]
            {
                for (period, since, until) in &periods {
                    let filters = [status.is_some(), pattern.is_some(), since.or(*until).is_some()];
                    if endpoint.is_some() && filters.iter().filter(|is_set| **is_set).count() > 1 {
                        continue;
                    }
                    let path = format!(
                        "{list}{}{}{period}",
                        status.map(|status| format!("&status={status}")).unwrap_or_default(),
                        pattern.map(|pattern| format!("&event_type={pattern}")).unwrap_or_default()
                    );
                    let shown = |one: &&Value| {
                        let at = text(one, "created_at");
                        endpoint.is_none_or(|id| one["endpoint_id"] == id)
                            && status.is_none_or(|status| one["status"] == status)
                            && pattern.is_none_or(|pattern| matches(pattern, text(one, "event_type")))
                            && since.is_none_or(|since| at >= since)
                            && until.is_none_or(|until| at < until)
                    };
                    let expected: Vec<Value> = all.iter().filter(shown).cloned().collect();
                    assert_eq!(walk(client, &path).await, expected, "{path}");
                }
            }
        }
    }
    let mixed = format!("/v1/deliveries?location_id={location}&endpoint_id={}", ids[0]);
    for nothing in [mixed.as_str(), "/v1/deliveries?location_id=none", "/v1/deliveries?event_type=none.*"] {
        assert_eq!(walk(client, nothing).await, Vec::<Value>::new(), "{nothing}");
    }
    app.stop().await;
}

#[tokio::test]
async fn attempts_are_listed_in_full() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let scene = scene(app.tenant().await, &receiver).await;
    let client = &scene.tenant.client;
    let path = format!("/v1/endpoints/{}", text(&scene.strict, "id"));
    client.post(&format!("{path}/test"), json!({"event_type": "message.sent"})).await.expect(200);
    let list = format!("{path}/attempts");
    let failed = walk(client, &format!("{list}?outcome=failed")).await;
    let event = json!({"id": failed[0]["event_id"]});
    scene.tenant.tell_delivery(&event, &scene.strict, "retry").await.expect(202);
    scene
        .tenant
        .delivery_when(&event, &scene.strict, |one| one["attempt_count"] == 2 && one["status"] == "failed")
        .await;

    let all = walk(client, &list).await;
    let seen = |one: &Value| {
        let number = one["number"].as_i64().unwrap();
        (
            text(one, "event_type").to_owned(),
            number,
            text(one, "trigger").to_owned(),
            text(one, "outcome").to_owned(),
        )
    };
    let expected = [
        ("message.sent", 1, "test", "succeeded"),
        ("message.failed", 2, "manual", "failed"),
        ("message.failed", 1, "scheduled", "failed"),
        ("message.read", 1, "scheduled", "succeeded"),
        ("message.failed", 1, "scheduled", "failed"),
        ("message.sent", 1, "scheduled", "succeeded"),
    ];
    let told = expected.map(|(kind, number, trigger, outcome)| {
        (kind.to_owned(), number, trigger.to_owned(), outcome.to_owned())
    });
    assert_eq!(all.iter().map(seen).collect::<Vec<_>>(), told);
    // As the delivery shows them.
    for one in all.iter().filter(|one| one["trigger"] != "test") {
        let path = format!("/v1/events/{}/deliveries/{}", text(one, "event_id"), text(&scene.strict, "id"));
        let delivery = client.get(&path).await.expect(200);
        let known = array(&delivery, "attempts").iter().find(|known| known["id"] == one["id"]).unwrap();
        for (field, value) in known.as_object().unwrap() {
            assert_eq!(&one[field], value, "{field}");
        }
        assert!(one["request"]["headers"]["webhook-id"].is_string() && one["response"]["status"].is_number());
    }
    let at = |one: &Value| {
        let path = format!("/v1/events/{}", text(one, "event_id"));
        async move { client.get(&path).await.expect(200)["created_at"].as_str().unwrap().to_owned() }
    };
    let (since, until) = (at(&all[3]).await, at(&all[0]).await);
    let periods = [
        (String::new(), 0..6),
        (format!("&since={since}"), 0..4),
        (format!("&since={since}&until={until}"), 1..4),
    ];
    for outcome in [None, Some("succeeded"), Some("failed")] {
        for pattern in [None, Some("message.sent"), Some("message.*"), Some("contact.*")] {
            for (period, places) in &periods {
                let path = format!(
                    "{list}?{}{}{period}",
                    outcome.map(|outcome| format!("&outcome={outcome}")).unwrap_or_default(),
                    pattern.map(|pattern| format!("&event_type={pattern}")).unwrap_or_default()
                );
                let shown = |one: &&Value| {
                    outcome.is_none_or(|outcome| one["outcome"] == outcome)
                        && pattern.is_none_or(|pattern| matches(pattern, text(one, "event_type")))
                };
                let expected: Vec<Value> = all[places.clone()].iter().filter(shown).cloned().collect();
                assert_eq!(walk(client, &path).await, expected, "{path}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn events_are_filtered_by_type_and_period() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let scene = scene(app.tenant().await, &receiver).await;
    let client = &scene.tenant.client;
    let list = "/v1/locations/default/events";
    let all = walk(client, list).await;
    assert_eq!(all.len(), 5);
    let (since, until) = (text(&all[3], "created_at"), text(&all[1], "created_at"));
    for (query, expected) in [
        ("event_type=message.failed".to_owned(), vec![0, 3]),
        ("event_type=message.*".to_owned(), vec![0, 1, 3, 4]),
        ("event_type=contact.*".to_owned(), vec![2]),
        (format!("since={since}"), vec![0, 1, 2, 3]),
        (format!("until={until}"), vec![2, 3, 4]),
        (format!("since={since}&until={until}&event_type=message.*"), vec![3]),
        (format!("since={until}&until={until}"), vec![]),
    ] {
        let expected: Vec<Value> = expected.into_iter().map(|at: usize| all[at].clone()).collect();
        assert_eq!(walk(client, &format!("{list}?{query}")).await, expected, "{query}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_filter_that_is_wrong_is_named_and_cursors_belong_to_theirs() {
    let mut app = spawn().await;
    let receiver = Receiver::start().await;
    let scene = scene(app.tenant().await, &receiver).await;
    let client = &scene.tenant.client;
    let endpoint = format!("/v1/endpoints/{}", text(&scene.strict, "id"));
    let (deliveries, attempts) = (format!("{endpoint}/deliveries"), format!("{endpoint}/attempts"));
    let (tenants, events) = ("/v1/deliveries", "/v1/locations/default/events");
    let any = [deliveries.as_str(), tenants, events, attempts.as_str()];
    let states = [deliveries.as_str(), tenants];
    for (lists, query, named) in [
        (&any[..], "since=yesterday", "since"),
        (&any, "since=", "since"),
        (&any, "since=2026-11-20", "since"),
        (&any, "until=1795168800", "until"),
        (&any, "until=2026-11-20T10:00:00%00Z", "until"),
        (&any, "since=2026-11-20T10:00:00.002Z&until=2026-11-20T10:00:00.001Z", "since"),
        (&any, "event_type=", "event_type"),
        (&any, "event_type=message.**", "event_type"),
        (&any, "event_type=%00", "event_type"),
        (&any, "event_type=a&event_type=b", "event_type"),
        (&any, "tag=a", "tag"),
        (&states, "status=", "status"),
        (&states, "status=broken", "status"),
        (&states, "status=Failed", "status"),
        (&[attempts.as_str()], "outcome=", "outcome"),
        (&[attempts.as_str()], "outcome=pending", "outcome"),
        (&[tenants], "endpoint_id=ep_1", "endpoint_id"),
        (&[tenants], "endpoint_id=loc_0193a1b2-c3d4-7e5f-8a6b-0123456789ab", "endpoint_id"),
        (&[tenants], "location_id=", "location_id"),
        (&[deliveries.as_str()], "endpoint_id=ep_0193a1b2-c3d4-7e5f-8a6b-0123456789ab", "endpoint_id"),
    ] {
        for list in lists {
            let problem = client.get(&format!("{list}?{query}")).await.problem(400);
            assert!(text(&problem, "detail").contains(named), "{list}?{query}: {problem}");
        }
    }
    for (list, filter) in [
        (deliveries.as_str(), "status=succeeded"),
        (tenants, "status=succeeded"),
        (tenants, "location_id=second"),
        (attempts.as_str(), "outcome=failed"),
        (events, "event_type=message.*"),
    ] {
        let page = client.get(&format!("{list}?limit=1&{filter}")).await.expect(200);
        let cursor = text(&page, "next_cursor");
        client.get(&format!("{list}?{filter}&cursor={cursor}")).await.expect(200);
        for other in ["limit=1", "since=2026-11-20T10:00:00Z", "event_type=message.read"] {
            client.get(&format!("{list}?{other}&cursor={cursor}")).await.problem(400);
        }
    }
    app.stop().await;
}
