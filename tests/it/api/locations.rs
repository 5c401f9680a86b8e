//! Locations: their fields, their channels, and what goes with them.

use serde_json::{Value, json};

use super::routes::household;
use crate::helpers::{Receiver, client::Client, spawn};

fn path(location: &Value) -> String {
    format!("/v1/locations/{}", location["id"].as_str().unwrap())
}

async fn actions(client: &Client, resource: &str) -> Vec<(String, Value)> {
    let page = client.get("/v1/audit?limit=250").await.expect(200);
    let entries = page["data"].as_array().unwrap().iter().filter(|entry| entry["resource"] == resource);
    entries.map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["fields"].clone())).collect()
}

#[tokio::test]
async fn a_locations_fields_are_kept_and_merged() {
    let mut app = spawn().await;
    let client = app.tenant().await.client;
    let bare = client.post("/v1/locations", json!({"name": "Bare"})).await.expect(201);
    let expected = json!({
        "id": bare["id"], "name": "Bare", "external_id": null, "channels": {}, "metadata": {},
        "created_at": bare["created_at"], "updated_at": bare["created_at"],
    });
    assert_eq!(bare, expected);
    assert!(bare["id"].as_str().unwrap().starts_with("loc_"));

    let fields = json!({"name": "Köln ☺", "external_id": "site:7", "channels": ["whatsapp", "sms"], "metadata": {"a": {"b": 1}}});
    let mut expected = client.post("/v1/locations", fields).await.expect(201);
    assert_eq!(expected["name"], "Köln ☺");
    assert_eq!(expected["external_id"], "site:7");
    assert_eq!(expected["metadata"], json!({"a": {"b": 1}}));
    let channels = |whatsapp: &str, imessage: &str, sms: &str| json!({"channels": {"whatsapp": whatsapp, "imessage": imessage, "sms": sms}});
    assert_eq!(expected["channels"], channels("connected", "disconnected", "connected")["channels"]);
    let changes = [
        (json!({}), json!({})),
        (json!({"name": "Renamed"}), json!({"name": "Renamed"})),
        (json!({"external_id": null}), json!({"external_id": null})),
        (json!({"external_id": "site:8"}), json!({"external_id": "site:8"})),
        (json!({"channels": ["imessage"]}), channels("disconnected", "connected", "disconnected")),
        (json!({"channels": []}), channels("disconnected", "disconnected", "disconnected")),
        (json!({"channels": null}), json!({"channels": {}})),
        (json!({"metadata": {"a": {"c": 2}, "d": 3}}), json!({"metadata": {"a": {"b": 1, "c": 2}, "d": 3}})),
        (json!({"metadata": {"a": null}}), json!({"metadata": {"d": 3}})),
        (json!({"metadata": null}), json!({"metadata": {}})),
    ];
    let path = path(&expected);
    for (patch, told) in changes {
        let answer = client.patch(&path, patch.clone()).await.expect(200);
        let before = expected.clone();
        for (name, value) in told.as_object().unwrap() {
            expected[name] = value.clone();
        }
        assert!(answer["updated_at"].as_str() >= expected["updated_at"].as_str());
        if expected == before {
            assert_eq!(answer["updated_at"], before["updated_at"], "after {patch}");
        }
        expected["updated_at"] = answer["updated_at"].clone();
        assert_eq!(answer, expected, "after {patch}");
        assert_eq!(client.get(&path).await.expect(200), expected);
        if let Some(external_id) = expected["external_id"].as_str() {
            let external_id = external_id.replace(':', "%3A");
            assert_eq!(client.get(&format!("/v1/locations/{external_id}")).await.expect(200), expected);
        }
    }
    client.get("/v1/locations/site:7").await.problem(404);
    let listed = client.get("/v1/locations").await.expect(200);
    let names: Vec<_> = listed["data"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["Renamed", "Bare", "Default"], "newest first");
    let log = actions(&client, expected["id"].as_str().unwrap()).await;
    assert_eq!(log[0], ("location.update".to_owned(), json!(["metadata"])));
    assert_eq!(log.last().unwrap(), &("location.create".to_owned(), json!([])));
    // What changes nothing is not told.
    assert_eq!(log.len(), 10);
    app.stop().await;
}

#[tokio::test]
async fn an_external_id_is_the_tenants_own() {
    let mut app = spawn().await;
    let (one, other) = (app.tenant().await, app.tenant().await);
    let body = json!({"name": "Main", "external_id": "main"});
    let made = one.client.post("/v1/locations", body.clone()).await.expect(201);
    one.client.post("/v1/locations", body.clone()).await.problem(409);
    let theirs = other.client.post("/v1/locations", body.clone()).await.expect(201);
    assert_ne!(made["id"], theirs["id"]);
    assert_eq!(one.client.get("/v1/locations/main").await.expect(200)["id"], made["id"]);
    assert_eq!(other.client.get("/v1/locations/main").await.expect(200)["id"], theirs["id"]);
    // Free again once its location is gone.
    one.client.delete("/v1/locations/main").await.expect(204);
    one.client.get("/v1/locations/main").await.problem(404);
    let again = one.client.post("/v1/locations", body).await.expect(201);
    assert_ne!(again["id"], made["id"]);
    app.stop().await;
}

#[tokio::test]
async fn concurrent_changes_lose_nothing() {
    let mut app = spawn().await;
    let client = app.tenant().await.client;
    let changes = (0..16).map(|n| {
        let (client, key) = (client.clone(), format!("k{n}"));
        tokio::spawn(async move {
            client.patch("/v1/locations/default", json!({"metadata": {key: n}})).await.expect(200)
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let location = client.get("/v1/locations/default").await.expect(200);
    assert_eq!(location["metadata"].as_object().unwrap().len(), 16);
    app.stop().await;
}

#[tokio::test]
async fn a_location_takes_its_endpoints_along() {
    let mut app = spawn().await;
    let mut receiver = Receiver::start().await;
    let house = household(&app, &mut receiver).await;
    let client = &house.tenant.client;
    let other = client.post("/v1/locations", json!({"name": "Other"})).await.expect(201);
    let endpoint = json!({"name": "Kept", "url": "https://e.example.com/", "event_types": ["*"]});
    let kept = client.post(&format!("{}/endpoints", path(&other)), endpoint.clone()).await.expect(201);

    client.delete(&house.ids.fill("/v1/locations/{location_id}")).await.expect(204);
    for gone in [
        "/v1/locations/{location_id}",
        "/v1/locations/{location_id}/endpoints",
        "/v1/locations/{location_id}/events",
        "/v1/endpoints/{endpoint_id}",
        "/v1/endpoints/{endpoint_id}/subscriptions",
        "/v1/endpoints/{endpoint_id}/secret",
        "/v1/endpoints/{endpoint_id}/deliveries",
        "/v1/events/{event_id}/deliveries/{endpoint_id}",
    ] {
        client.get(&house.ids.fill(gone)).await.problem(404);
    }
    client.delete(&house.ids.fill("/v1/locations/{location_id}")).await.problem(404);
    client.patch(&house.ids.fill("/v1/locations/{location_id}"), json!({})).await.problem(404);
    let event = json!({"type": "message.sent", "data": {}});
    client.post(&house.ids.fill("/v1/locations/{location_id}/events"), event).await.problem(404);
    client
        .post(&house.ids.fill("/v1/locations/{location_id}/endpoints"), endpoint.clone())
        .await
        .problem(404);
    assert_eq!(
        client.post("/v1/endpoints", endpoint).await.pointers(),
        ["/location_id"],
        "no default is left"
    );

    let listed = client.get("/v1/endpoints").await.expect(200);
    assert_eq!(listed["data"][0]["id"], kept["id"]);
    assert_eq!((&listed["active_count"], &listed["total_count"]), (&json!(1), &json!(1)));
    let locations = client.get("/v1/locations").await.expect(200);
    assert_eq!(locations["data"].as_array().unwrap().len(), 1);
    let log = actions(client, &house.tenant.location_id).await;
    assert_eq!(log[0], ("location.delete".to_owned(), json!([])));
    assert!(receiver.rest().is_empty());
    app.stop().await;
}

#[tokio::test]
async fn no_endpoint_is_made_in_a_location_that_goes() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    for _ in 0..8 {
        let location = tenant.client.post("/v1/locations", json!({"name": "Short-lived"})).await.expect(201);
        let makers: Vec<_> = (0..4)
            .map(|_| {
                let (client, path) = (tenant.client.clone(), format!("{}/endpoints", path(&location)));
                let endpoint = json!({"name": "E", "url": "https://e.example.com/", "event_types": ["*"]});
                tokio::spawn(async move { client.post(&path, endpoint).await.status })
            })
            .collect();
        tenant.client.delete(&path(&location)).await.expect(204);
        for maker in makers {
            let status = maker.await.unwrap();
            assert!([201, 404].contains(&status), "{status}");
        }
    }
    let listed = tenant.client.get("/v1/endpoints").await.expect(200);
    assert_eq!(listed["data"], json!([]));
    assert_eq!(listed["total_count"], 0);
    app.stop().await;
}
