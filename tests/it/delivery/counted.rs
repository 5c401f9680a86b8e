//! Statistics against the rows, over a program that is killed while deliveries end, are sent again and are canceled by hand.

use serde_json::{Value, json};

use crate::helpers::{
    Answer, Receiver,
    app::settings,
    client::Client,
    cluster::fresh_database,
    process::Process,
    sql::{Sql, UNTRUE_STATS},
};

const ROUNDS: usize = 3;
const EVENTS_A_ROUND: usize = 80;
/// The program is killed in the middle of this round.
const KILLED_IN: usize = 1;

#[tokio::test]
async fn statistics_are_what_counting_the_rows_says_whatever_happened() {
    let (database, _) = fresh_database().await;
    let settings = settings(&database, &[]);
    let receiver = Receiver::start().await;
    let mut count = 0_usize;
    receiver.decide(move |_| {
        count += 1;
        Some(Answer::status(if count.is_multiple_of(3) { 500 } else { 200 }))
    });
    let (mut process, mut base) = Process::role("serve", &settings).await;
    let operator = Client::new(&base, settings.operator_key.as_deref());
    let tenant = operator.post("/v1/tenants", json!({"name": "A tenant"})).await.expect(201);
    let scopes = json!({"name": "a key", "scopes": ["read", "write", "publish"]});
    let path = format!("/v1/tenants/{}/keys", tenant["id"].as_str().unwrap());
    let key = operator.post(&path, scopes).await.expect(201)["key"].as_str().unwrap().to_owned();
    let body = json!({
        "name": "An endpoint", "url": receiver.url("/hook"), "event_types": ["*"], "max_in_flight": 4, "retry_schedule_s": [],
    });
    let endpoint = Client::new(&base, Some(&key)).post("/v1/endpoints", body).await.expect(201);
    let endpoint = endpoint["id"].as_str().unwrap();

    let mut published = 0;
    for round in 0..ROUNDS {
        let client = Client::new(&base, Some(&key));
        let event = |n: usize| json!({"location_id": "default", "type": "message.sent", "data": {"n": n}});
        let batch = json!({"events": (0..EVENTS_A_ROUND).map(event).collect::<Vec<Value>>()});
        let answer = client.post("/v1/events/batch", batch).await.expect(202);
        let events = answer["data"].as_array().unwrap();
        published += events.len();
        for (place, event) in events.iter().enumerate() {
            if round == KILLED_IN && place == EVENTS_A_ROUND / 2 {
                process.kill().await;
                (process, base) = Process::role("serve", &settings).await;
                break;
            }
            let act = if place % 7 == 0 { "cancel" } else { "retry" };
            if place % 2 == 0 {
                let path =
                    format!("/v1/events/{}/deliveries/{endpoint}/{act}", event["id"].as_str().unwrap());
                let status = client.poke(&path).await.status;
                assert!([200, 202, 409].contains(&status), "{act}: {status}");
            }
        }
    }
    let mut sql = Sql::open(&database).await;
    sql.until("SELECT count(*) FROM queue", 0).await;
    assert_eq!(sql.count(UNTRUE_STATS).await, 0);
    let path = format!("/v1/endpoints/{endpoint}/stats");
    let stats = Client::new(&base, Some(&key)).get(&path).await.expect(200);
    assert_eq!((&stats["total"], &stats["pending"]), (&json!(published), &json!(0)), "{stats}");
    for ended in ["succeeded", "failed", "canceled"] {
        assert!(stats[ended].as_i64().unwrap() > 0, "{ended}: {stats}");
    }
    process.signal("TERM");
    assert!(process.wait().await.success());
}
