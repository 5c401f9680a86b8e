//! Requests that are not in form: refused by every route alike, nothing stored.

use reqwest::Method;
use serde_json::{Value, json};

use super::routes::{Household, Ids, ROUTES, Route, Takes, Who, household, lists};
use crate::helpers::{Receiver, Stored, TestApp, client::Client, spawn};

/// Largest body of a request, and of a batch.
const BODY_MAX_BYTES: usize = 1024 * 1024;
const BATCH_BODY_MAX_BYTES: usize = 8 * 1024 * 1024;

struct Scene {
    app: TestApp,
    house: Household,
    before: Stored,
}

impl Scene {
    async fn set() -> Self {
        let app = spawn().await;
        let house = household(&app, &mut Receiver::start().await).await;
        let before = Stored::read(&mut app.sql().await).await;
        Self { app, house, before }
    }

    /// Whoever may call the route.
    fn caller(&self, route: &Route) -> Client {
        if route.who == Who::Operator { self.app.operator() } else { self.house.tenant.client.clone() }
    }

    fn path(&self, route: &Route) -> String {
        self.house.ids.fill(route.path)
    }

    async fn nothing_stored(mut self, what: &str) {
        Stored::read(&mut self.app.sql().await).await.assert_same(&self.before, what);
        self.app.stop().await;
    }
}

fn with_bodies() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.takes != Takes::Nothing)
}

#[tokio::test]
async fn what_is_not_json_is_malformed() {
    let scene = Scene::set().await;
    let texts: [&[u8]; 9] = [
        b"{",
        b"nope",
        b"{\"name\": }",
        b"{'name': 'a'}",
        b"{\"name\": \"a\",}",
        b"{} {}",
        b"{\"name\": \"a\x01\"}",
        b"{\"name\": \"\xff\"}",
        b"\xef\xbb\xbf{}",
    ];
    for route in with_bodies() {
        let (client, path) = (scene.caller(route), scene.path(route));
        let method = Method::from_bytes(route.method.as_bytes()).unwrap();
        let nothing: &[&[u8]] = if matches!(route.takes, Takes::Perhaps(_)) { &[] } else { &[b""] };
        for text in texts.iter().chain(nothing) {
            let reply = client.send_bytes(method.clone(), &path, Some(text.to_vec())).await;
            let told = String::from_utf8_lossy(text);
            assert_eq!(reply.status, 400, "{} with {told}: {}", route.told(), reply.text);
            assert_eq!(reply.problem(400)["type"], "urn:posthaste:problem:malformed-request");
        }
    }
    scene.nothing_stored("what is not JSON").await;
}

#[tokio::test]
async fn json_of_another_kind_points_at_it() {
    let scene = Scene::set().await;
    for route in with_bodies() {
        let (client, path) = (scene.caller(route), scene.path(route));
        let is_list = matches!(route.takes, Takes::List(_));
        for body in
            [json!("text"), json!(1), json!(true), json!(null), if is_list { json!({}) } else { json!([]) }]
        {
            let reply = route.send(&client, &path, Some(body.to_string())).await;
            assert_eq!(reply.pointers(), [""], "{} with {body}", route.told());
        }
        let mut body: Value = serde_json::from_str(&route.body().unwrap()).unwrap();
        let (object, pointer) = if is_list { (&mut body[0], "/0/no~1pe") } else { (&mut body, "/no~1pe") };
        object["no/pe"] = json!(1);
        assert_eq!(
            route.send(&client, &path, Some(body.to_string())).await.pointers(),
            [pointer],
            "{}",
            route.told()
        );

        let text = route.body().unwrap();
        let (first, _) = text.split_once(':').unwrap();
        let name = first.trim_start_matches(['[', '{']).trim_matches('"');
        let at = text.find('{').unwrap() + 1;
        let twice = format!("{}\"{name}\": null, {}", &text[..at], &text[at..]);
        let pointer = format!("{}/{name}", if is_list { "/0" } else { "" });
        assert_eq!(route.send(&client, &path, Some(twice)).await.pointers(), [pointer], "{}", route.told());
    }
    scene.nothing_stored("JSON of another kind").await;
}

#[tokio::test]
async fn a_body_is_said_to_be_json() {
    let scene = Scene::set().await;
    for route in with_bodies() {
        for kind in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json"] {
            let client = scene.caller(route).with("content-type", kind);
            let problem = route.send(&client, &scene.path(route), route.body()).await.problem(415);
            assert_eq!(problem["type"], "urn:posthaste:problem:unsupported-media-type");
        }
    }
    let client = scene.house.tenant.client.with("content-type", "application/json; charset=utf-8");
    client.post("/v1/locations", json!({"name": ""})).await.problem(422);
    scene.nothing_stored("bodies of another type").await;
}

#[tokio::test]
async fn a_body_has_a_limit() {
    let scene = Scene::set().await;
    for route in with_bodies() {
        let limit = if route.path.ends_with("/batch") { BATCH_BODY_MAX_BYTES } else { BODY_MAX_BYTES };
        let (client, path) = (scene.caller(route), scene.path(route));
        let text = |length: usize| Some(format!("[{}", " ".repeat(length - 1)));
        route.send(&client, &path, text(limit)).await.problem(400);
        let reply = route.send(&client, &path, text(limit + 1)).await;
        let problem = reply.problem(413);
        assert!(
            problem["detail"].as_str().unwrap().contains(&limit.to_string()),
            "{}: {problem}",
            route.told()
        );
    }
    scene.nothing_stored("large bodies").await;
}

#[tokio::test]
async fn an_id_that_is_none_names_nothing() {
    let scene = Scene::set().await;
    let long = "x".repeat(3_000);
    let uuid = "0193a1b2-c3d4-7e5f-8a6b-0123456789ab";
    let upper = "ep_0193A1B2-C3D4-7E5F-8A6B-0123456789AB";
    let texts =
        ["nope", "%00", "%ff", "%F0%9F%98%80", "a%20b", "..%2f..", "%27--", "null", "-1", uuid, upper, &long];
    for text in texts {
        let ids = Ids::all_like(text);
        for route in ROUTES.iter().filter(|route| route.has_ids()) {
            let reply = route.call(&scene.caller(route), &ids).await;
            assert_eq!(reply.status, 404, "{} with {text}: {}", route.told(), reply.text);
            reply.problem(404);
        }
    }
    scene.nothing_stored("ids that are none").await;
}

#[tokio::test]
async fn query_parameters_are_checked() {
    let scene = Scene::set().await;
    let stranger = household(&scene.app, &mut Receiver::start().await).await;
    // Two rows in every list, so that it has a cursor.
    for house in [&scene.house, &stranger] {
        let client = &house.tenant.client;
        client.post("/v1/locations", json!({"name": "Second"})).await.expect(201);
        let second = house.tenant.publish("message.incoming", json!({})).await;
        let endpoint = json!({"id": house.ids.fill("{endpoint_id}")});
        house.tenant.delivery_when(&second, &endpoint, |delivery| delivery["status"] == "succeeded").await;
        house.tenant.endpoint("https://e.example.com/", json!({})).await;
        let since = json!({"since": "2026-01-01T00:00:00Z"});
        let recover = house.ids.fill("/v1/endpoints/{endpoint_id}/recover");
        house.tenant.job_ended(&client.post(&recover, since).await.expect(202)).await;
    }
    let scene = Scene { before: Stored::read(&mut scene.app.sql().await).await, ..scene };
    let mut cursors = Vec::new();
    for route in lists() {
        let page = scene.caller(route).get(&format!("{}?limit=1", scene.path(route))).await.expect(200);
        assert_eq!(page["data"].as_array().unwrap().len(), 1, "{}", route.told());
        cursors.push((route.path, page["next_cursor"].as_str().expect("a second page").to_owned()));
    }
    for route in lists() {
        let (client, path) = (scene.caller(route), scene.path(route));
        let bad = [
            "limit=0",
            "limit=251",
            "limit=x",
            "limit=-1",
            "limit=",
            "limit=1.5",
            "limit=99999999999",
            "limit=1&limit=2",
            "offset=1",
            "Limit=1",
            "cursor=",
            "cursor=garbage",
            "cursor=%00",
            "cursor=AAAA",
            "cursor=%ff",
        ];
        for query in bad {
            let reply = client.get(&format!("{path}?{query}")).await;
            assert_eq!(reply.status, 400, "{}?{query}: {}", route.told(), reply.text);
            reply.problem(400);
        }
        for (of, cursor) in &cursors {
            let reply = client.get(&format!("{path}?cursor={cursor}")).await;
            let same_list = of == &route.path || (of.ends_with("/keys") && route.path.ends_with("/keys"));
            assert_eq!(
                reply.status,
                if same_list { 200 } else { 400 },
                "{} with a cursor of {of}",
                route.told()
            );
        }
        client.get(&format!("{path}?limit=250")).await.expect(200);
        if route.who != Who::Operator {
            let (_, cursor) = cursors.iter().find(|(of, _)| *of == route.path).unwrap();
            let theirs = stranger.ids.fill(route.path);
            stranger.tenant.client.get(&format!("{theirs}?cursor={cursor}")).await.problem(400);
        }
    }
    let client = &scene.house.tenant.client;
    for query in ["status=broken", "status=", "status=Active", "q=%00", "event_type=%00", "event_type=a.*.b"]
    {
        client.get(&format!("/v1/endpoints?{query}")).await.problem(400);
    }
    let page = client.get("/v1/endpoints?limit=1&q=e").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    for query in ["q=f", "q=e&status=active", "q=e&event_type=message.sent", "limit=1"] {
        client.get(&format!("/v1/endpoints?{query}&cursor={cursor}")).await.problem(400);
    }
    scene.nothing_stored("query parameters").await;
}

#[tokio::test]
async fn a_request_id_is_taken_over_where_it_is_fit() {
    let scene = Scene::set().await;
    let anonymous = scene.app.anonymous();
    for (given, kept) in [
        ("trace-1/x", true),
        (&"x".repeat(128), true),
        (&"x".repeat(129), false),
        ("a b", false),
        ("é", false),
    ] {
        let reply = anonymous.with("x-request-id", given).get("/v1/endpoints").await;
        let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(id == given, kept, "{given}");
        assert_eq!(reply.problem(401)["request_id"], id);
    }
    let reply = scene.house.tenant.client.with("x-request-id", "mine").get("/v1/me").await;
    assert_eq!(reply.headers["x-request-id"], "mine");
    scene.nothing_stored("request ids").await;
}

#[tokio::test]
async fn a_query_parameter_that_is_not_known_is_refused_everywhere() {
    let scene = Scene::set().await;
    for route in ROUTES.iter().filter(|route| route.who != Who::Everyone) {
        let (client, path) = (scene.caller(route), scene.path(route));
        let reply = route.send(&client, &format!("{path}?nonsense=1"), route.body()).await;
        assert_eq!(reply.status, 400, "{}: {}", route.told(), reply.text);
    }
    scene.nothing_stored("unknown query parameters").await;
}

#[tokio::test]
async fn what_decides_who_acts_and_for_whom_is_told_once() {
    let scene = Scene::set().await;
    let operator = scene.app.operator().with("posthaste-tenant", &scene.house.tenant.id);
    operator.get("/v1/endpoints").await.expect(200);
    let other = scene.app.tenant().await;
    let before = Stored::read(&mut scene.app.sql().await).await;
    operator.with("posthaste-tenant", &other.id).get("/v1/endpoints").await.problem(400);
    let location = json!({"name": "L"});
    let twice = scene.house.tenant.client.with("idempotency-key", "a").with("idempotency-key", "b");
    twice.post("/v1/locations", location.clone()).await.problem(400);
    let keys = scene.house.tenant.client.with("authorization", "Bearer ph_another");
    keys.post("/v1/locations", location).await.problem(400);
    Stored::read(&mut scene.app.sql().await).await.assert_same(&before, "headers given twice");
}

#[tokio::test]
async fn a_route_without_a_body_takes_none() {
    let scene = Scene::set().await;
    let pause = scene.house.ids.fill("/v1/endpoints/{endpoint_id}/pause");
    let client = &scene.house.tenant.client;
    assert_eq!(client.post(&pause, json!({"x": 1})).await.pointers(), ["/x"]);
    client.with("content-type", "text/plain").post(&pause, json!("x")).await.problem(415);
    client.post(&pause, json!({})).await.expect(200);
}
