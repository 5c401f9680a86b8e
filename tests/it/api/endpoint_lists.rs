//! Lists of endpoints: filters, counts, pages, and how many there may be.

use serde_json::{Value, json};

use crate::helpers::{Tenant, client::Client, spawn};

/// Most endpoints of a tenant.
const ENDPOINTS_MAX: i64 = 1_000;

async fn named(tenant: &Tenant, name: &str, url: &str, event_types: &[&str]) -> Value {
    tenant.endpoint(url, json!({"name": name, "event_types": event_types})).await
}

async fn names(client: &Client, query: &str) -> Vec<String> {
    let list = client.get(&format!("/v1/endpoints?{query}")).await.expect(200);
    list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_find_what_they_name() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    named(&tenant, "CRM Zoë", "https://crm.example.com/Hook", &["message.incoming"]).await;
    named(&tenant, "Billing 100%", "https://pay.example.com/a_b", &["message.*", "contact.created"]).await;
    let all = named(&tenant, "Archive", "https://all.example.com/", &["*"]).await;
    let paused = named(&tenant, "Paused", "https://p.example.com/crm", &["contact.created"]).await;
    client.poke(&format!("/v1/endpoints/{}/pause", paused["id"].as_str().unwrap())).await.expect(200);
    let second = json!({"name": "Second", "external_id": "second"});
    client.post("/v1/locations", second).await.expect(201);
    let there = json!({"name": "There", "url": "https://t.example.com/", "event_types": ["media.uploaded"]});
    client.post("/v1/locations/second/endpoints", there).await.expect(201);
    // Another tenant's never show.
    named(&app.tenant().await, "CRM of a stranger", "https://crm.example.com/", &["*"]).await;

    for (query, expected) in [
        ("", vec!["There", "Paused", "Archive", "Billing 100%", "CRM Zoë"]),
        ("q=crm", vec!["Paused", "CRM Zoë"]),
        ("q=ZO%C3%AB", vec!["CRM Zoë"]),
        ("q=HOOK", vec!["CRM Zoë"]),
        ("q=%25", vec!["Billing 100%"]),
        ("q=_", vec!["Billing 100%"]),
        ("q=%5C", vec![]),
        ("q=nothing", vec![]),
        ("q=", vec!["There", "Paused", "Archive", "Billing 100%", "CRM Zoë"]),
        ("status=active", vec!["There", "Archive", "Billing 100%", "CRM Zoë"]),
        ("status=paused", vec!["Paused"]),
        ("status=failing", vec![]),
        ("status=disabled", vec![]),
        ("event_type=message.incoming", vec!["Archive", "Billing 100%", "CRM Zoë"]),
        ("event_type=message.sent", vec!["Archive", "Billing 100%"]),
        ("event_type=message.*", vec!["Archive", "Billing 100%"]),
        ("event_type=contact.created", vec!["Paused", "Archive", "Billing 100%"]),
        ("event_type=*", vec!["Archive"]),
        ("event_type=posthaste.endpoint.disabled", vec![]),
        ("event_type=messages.sent", vec!["Archive"]),
        ("q=crm&status=paused&event_type=contact.created", vec!["Paused"]),
    ] {
        assert_eq!(names(client, query).await, expected, "{query}");
        let list = client.get(&format!("/v1/endpoints?{query}")).await.expect(200);
        assert_eq!((&list["active_count"], &list["total_count"]), (&json!(4), &json!(5)), "{query}");
        assert_eq!((&list["next_cursor"], &list["prev_cursor"]), (&Value::Null, &Value::Null));
    }
    let list = client.get("/v1/locations/second/endpoints").await.expect(200);
    assert_eq!(list["data"][0]["name"], "There");
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    assert_eq!((&list["active_count"], &list["total_count"]), (&json!(4), &json!(5)), "tenant-wide");
    let list = client.get("/v1/locations/default/endpoints?q=t.example").await.expect(200);
    assert_eq!(list["data"], json!([]));
    let read = client.get(&format!("/v1/endpoints/{}", all["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(client.get("/v1/endpoints?q=archive").await.expect(200)["data"], json!([read]));
    app.stop().await;
}

fn page_of(list: &Value) -> Vec<String> {
    list["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

async fn turn(client: &Client, list: &Value, which: &str) -> Value {
    let cursor = list[which].as_str().unwrap_or_else(|| panic!("no {which}: {list}"));
    client.get(&format!("/v1/endpoints?limit=3&q=https&cursor={cursor}")).await.expect(200)
}

#[tokio::test]
async fn pages_stay_put_while_rows_come_and_go() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let client = &tenant.client;
    let mut made = Vec::new();
    for n in 1..=8 {
        made.push(named(&tenant, &format!("e{n}"), "https://e.example.com/", &["*"]).await);
    }
    let first = client.get("/v1/endpoints?limit=3&q=https").await.expect(200);
    assert_eq!(page_of(&first), ["e8", "e7", "e6"]);
    assert_eq!(first["prev_cursor"], Value::Null);
    named(&tenant, "e9", "https://e.example.com/", &["*"]).await;
    let second = turn(client, &first, "next_cursor").await;
    assert_eq!(page_of(&second), ["e5", "e4", "e3"]);
    named(&tenant, "e10", "https://e.example.com/", &["*"]).await;
    let third = turn(client, &second, "next_cursor").await;
    assert_eq!(page_of(&third), ["e2", "e1"]);
    assert_eq!(third["next_cursor"], Value::Null);

    let back = turn(client, &third, "prev_cursor").await;
    assert_eq!(page_of(&back), ["e5", "e4", "e3"]);
    let back = turn(client, &back, "prev_cursor").await;
    assert_eq!(page_of(&back), ["e8", "e7", "e6"]);
    let newer = turn(client, &back, "prev_cursor").await;
    assert_eq!(page_of(&newer), ["e10", "e9"], "what came meanwhile");
    assert_eq!(newer["prev_cursor"], Value::Null);
    let forth = turn(client, &newer, "next_cursor").await;
    assert_eq!(page_of(&forth), ["e8", "e7", "e6"]);

    // The row at a page's edge goes: its neighbours are found all the same.
    client.delete(&format!("/v1/endpoints/{}", made[5]["id"].as_str().unwrap())).await.expect(204);
    assert_eq!(page_of(&turn(client, &first, "next_cursor").await), ["e5", "e4", "e3"]);
    assert_eq!(page_of(&turn(client, &second, "prev_cursor").await), ["e9", "e8", "e7"]);
    app.stop().await;
}

#[tokio::test]
async fn every_list_turns_its_pages() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    for n in 0..4 {
        tenant.client.post("/v1/locations", json!({"name": format!("l{n}")})).await.expect(201);
        tenant
            .client
            .post("/v1/keys", json!({"name": format!("k{n}"), "scopes": ["read"]}))
            .await
            .expect(201);
        app.tenant().await;
    }
    let by_operator = format!("/v1/tenants/{}/keys", tenant.id);
    let lists = [
        (app.operator(), "/v1/tenants"),
        (app.operator(), by_operator.as_str()),
        (tenant.client.clone(), "/v1/keys"),
        (tenant.client.clone(), "/v1/locations"),
        (tenant.client.clone(), "/v1/audit"),
    ];
    for (client, path) in lists {
        let whole = client.get(path).await.expect(200);
        assert_eq!((&whole["next_cursor"], &whole["prev_cursor"]), (&Value::Null, &Value::Null), "{path}");
        let ids = |list: &Value| {
            list["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["id"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let all = ids(&whole);
        assert!(all.len() >= 5 && all.is_sorted_by(|one, other| one > other), "{path}: newest first");
        let mut pages = vec![client.get(&format!("{path}?limit=2")).await.expect(200)];
        while let Some(cursor) = pages.last().unwrap()["next_cursor"].as_str() {
            pages.push(client.get(&format!("{path}?limit=2&cursor={cursor}")).await.expect(200));
        }
        assert_eq!(pages.iter().flat_map(ids).collect::<Vec<_>>(), all, "{path}");
        let mut back = vec![pages.pop().unwrap()];
        while let Some(cursor) = back.last().unwrap()["prev_cursor"].as_str() {
            back.push(client.get(&format!("{path}?limit=2&cursor={cursor}")).await.expect(200));
        }
        back.reverse();
        assert_eq!(back.iter().flat_map(ids).collect::<Vec<_>>(), all, "{path}, backwards");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_tenant_has_a_thousand_endpoints_at_most() {
    let mut app = spawn().await;
    let tenant = app.tenant().await;
    let one = tenant.endpoint("https://e.example.com/", json!({})).await;
    let id = one["id"].as_str().unwrap().trim_start_matches("ep_").to_owned();
    let mut db = app.sql().await;
    // Copies of it, but for two; ids of the same shard, older than any other.
    let copies = "WITH e AS (SELECT * FROM endpoints WHERE id = $1::uuid), ids AS (
            SELECT ('01000000-0000-7000-8000-' || lpad(to_hex(n), 9, '0') || right($1, 3))::uuid AS id
            FROM generate_series(3, $2) n
        ), h AS (
            INSERT INTO endpoint_health (shard, endpoint_id, tenant_id) SELECT e.shard, ids.id, e.tenant_id FROM e, ids
        )
        INSERT INTO endpoints (tenant_id, id, shard, location_id, name, url, format, format_version, max_in_flight, metadata,
            created_at, updated_at)
        SELECT e.tenant_id, ids.id, e.shard, e.location_id, e.name, e.url, e.format, e.format_version, e.max_in_flight,
            e.metadata, e.created_at, e.updated_at
        FROM e, ids";
    let done =
        sqlx::query(copies).bind(&id).bind(i32::try_from(ENDPOINTS_MAX).unwrap()).execute(&mut db).await;
    assert_eq!(done.unwrap().rows_affected(), 998);

    let body = json!({"name": "E", "url": "https://e.example.com/", "event_types": ["*"]});
    let racers: Vec<_> = (0..4)
        .map(|_| {
            let (client, body) = (tenant.client.clone(), body.clone());
            tokio::spawn(async move { client.post("/v1/endpoints", body).await })
        })
        .collect();
    let mut statuses = Vec::new();
    for racer in racers {
        statuses.push(racer.await.unwrap().status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409], "one place was left");
    let problem = tenant.client.post("/v1/locations/default/endpoints", body.clone()).await.problem(409);
    assert!(problem["detail"].as_str().unwrap().contains("1000"));
    let list = tenant.client.get("/v1/endpoints?limit=250").await.expect(200);
    assert_eq!((&list["total_count"], &list["active_count"]), (&json!(1000), &json!(1000)));
    assert_eq!(list["data"].as_array().unwrap().len(), 250);
    // One that is gone makes room; a change of one needs none.
    let path = format!("/v1/endpoints/{}", one["id"].as_str().unwrap());
    tenant.client.patch(&path, json!({"name": "Renamed"})).await.expect(200);
    tenant.client.delete(&path).await.expect(204);
    tenant.client.post("/v1/endpoints", body).await.expect(201);
    app.stop().await;
}
