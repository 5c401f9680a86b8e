//! What the lists cost with a million attempts: no table is read from end to end, and no page reads more than its bound,
//! whatever its filters, whether or not Postgres knows anything about the tables.
//!
//! Apart from the other tests, for the time that it takes: `cargo test --test it -- --ignored --nocapture plans` also tells the
//! numbers.

mod seed;

use std::time::Duration;

use crate::helpers::explain::{self, Explainer};
use posthaste::{app::Roles, types::Timestamp};
use seed::Month;
use serde_json::{Value, json};

use super::{histories::walk, text};
use crate::helpers::{
    Tenant,
    app::{settings, start},
    cluster::{fresh_database, superuser},
    sql::Sql,
};

/// Times that a connection plans a statement for its values before it may settle for one plan.
const CUSTOM_PLANS: usize = 6;
/// Tables that have a few rows, however much is delivered.
const SMALL: [&str; 6] =
    ["tenants", "locations", "api_keys", "wire_format_versions", "_sqlx_migrations", "shards"];

/// What is asked for, and how many pages of 8 KiB one page of it may look at.
struct Ask<'a> {
    tenant: &'a Tenant,
    path: String,
    bound: i64,
}

/// Lists of 50 without a filter, or with one that a key serves.
const PAGE: i64 = 2_000;
/// A page of 250.
const LONG_PAGE: i64 = 8_000;
/// A page that finds little in as much as it may look at.
const SCAN: i64 = 30_000;
/// A page of the deliveries of 1,000 endpoints.
const WIDE: i64 = 60_000;
/// A page of 1,000 endpoints, each with its subscriptions.
const ENDPOINTS: i64 = 20_000;
/// What has been counted before, or does not grow with the history.
const SMALL_READ: i64 = 500;

fn asks<'a>(busy: &'a Tenant, wide: &'a Tenant, month: &Month<'_>, middle: &str, hour: &str) -> Vec<Ask<'a>> {
    let endpoint = format!("/v1/endpoints/{}", text(month.busy, "id"));
    let wide_one = format!("/v1/endpoints/{}", text(month.wide, "id"));
    let mut asks = Vec::new();
    let mut ask = |tenant, bound, path: String| asks.push(Ask { tenant, path, bound });
    for list in [format!("{endpoint}/deliveries?"), "/v1/deliveries?".to_owned()] {
        ask(busy, PAGE, list.clone());
        ask(busy, LONG_PAGE, format!("{list}limit=250"));
        ask(busy, PAGE, format!("{list}until={middle}"));
        ask(busy, PAGE, format!("{list}since={hour}&until={middle}"));
        for status in ["pending", "succeeded", "failed"] {
            ask(busy, PAGE, format!("{list}until={middle}&status={status}"));
        }
        // One settled delivery in eleven is a canceled one.
        ask(busy, SCAN, format!("{list}status=canceled"));
        ask(busy, SCAN, format!("{list}status=held"));
        ask(busy, PAGE, format!("{list}event_type=message.*"));
        ask(busy, SCAN, format!("{list}event_type=form.*"));
        ask(busy, SCAN, format!("{list}event_type=form.submitted&status=succeeded&until={middle}"));
        ask(busy, SCAN, format!("{list}event_type=form.submitted&status=failed"));
    }
    let attempts = format!("{endpoint}/attempts?");
    ask(busy, PAGE, attempts.clone());
    ask(busy, LONG_PAGE, format!("{attempts}limit=250"));
    ask(busy, PAGE, format!("{attempts}until={middle}&outcome=failed"));
    ask(busy, SCAN, format!("{attempts}event_type=form.*"));
    ask(busy, PAGE, format!("{attempts}since={hour}&until={middle}&event_type=message.read"));
    let events = "/v1/locations/default/events?";
    ask(busy, PAGE, events.to_owned());
    ask(busy, PAGE, format!("{events}limit=250&until={middle}"));
    ask(busy, SCAN, format!("{events}event_type=form.submitted"));
    ask(busy, SMALL_READ, format!("{endpoint}/stats"));
    ask(busy, SMALL_READ, format!("{endpoint}/stats?bucket=day"));
    ask(busy, SMALL_READ, "/v1/endpoints".to_owned());
    ask(busy, PAGE, "/v1/audit".to_owned());
    ask(busy, PAGE, "/v1/jobs".to_owned());

    let list = "/v1/deliveries?";
    ask(wide, WIDE, list.to_owned());
    ask(wide, WIDE, format!("{list}limit=250"));
    ask(wide, WIDE, format!("{list}until={middle}"));
    ask(wide, WIDE, format!("{list}since={hour}&until={middle}&limit=250"));
    ask(wide, WIDE, format!("{list}status=failed"));
    ask(wide, WIDE, format!("{list}status=pending"));
    ask(wide, WIDE, format!("{list}event_type=form.*&until={middle}"));
    ask(wide, PAGE, format!("{wide_one}/deliveries"));
    ask(wide, PAGE, format!("{wide_one}/attempts?outcome=failed"));
    ask(wide, ENDPOINTS, "/v1/endpoints?q=none".to_owned());
    ask(wide, ENDPOINTS, "/v1/endpoints?limit=250&event_type=message.sent".to_owned());
    asks
}

/// The page, the one behind it, and the way back, each with what it cost.
async fn turn(explainer: &Explainer, ask: &Ask<'_>, wrong: &mut Vec<String>) -> Vec<(Value, i64, usize)> {
    let mut pages = Vec::new();
    let mut path = ask.path.clone();
    loop {
        explainer.take();
        let reply = ask.tenant.client.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        let page = reply.json();
        let explained = explainer.take();
        for one in &explained {
            let large: Vec<String> =
                one.scanned().into_iter().filter(|table| !SMALL.contains(&table.as_str())).collect();
            if !large.is_empty() {
                wrong.push(format!("{path} reads {large:?} from end to end: {}", one.statement));
            }
        }
        let buffers = explained.iter().map(explain::Explained::buffers).sum();
        if buffers > ask.bound {
            wrong.push(format!("{path} looks at {buffers} pages of {}", ask.bound));
        }
        pages.push((page, buffers, explained.len()));
        let page = &pages.last().unwrap().0;
        let cursor = match pages.len() {
            1 => page["next_cursor"].as_str(),
            2 => page["prev_cursor"].as_str(),
            _ => None,
        };
        let Some(cursor) = cursor else { return pages };
        let mark = if ask.path.contains('?') { '&' } else { '?' };
        path = format!("{}{mark}cursor={cursor}", ask.path);
    }
}

#[tokio::test]
#[ignore = "takes a minute: .ci/run runs it apart"]
async fn lists_are_read_by_key_and_pages_are_bounded() {
    let (database, name) = fresh_database().await;
    let mut sql = Sql::open(&database).await;
    let explainer = Explainer::on(&mut Sql(superuser(&name).await)).await;
    let mut app = start(settings(&database, &[]), database, Roles { api: true, worker: false }).await;
    let (busy, wide) = (app.tenant().await, app.tenant().await);
    let (one, other) = (
        busy.endpoint("https://e.example.com/", json!({})).await,
        wide.endpoint("https://e.example.com/", json!({})).await,
    );
    let month = Month { busy: &one, wide: &other };
    let ago = async |sql: &mut Sql, hours: i64| {
        let us = sql.count("SELECT (extract(epoch FROM now()) * 1000000)::bigint").await;
        Timestamp::from_unix_us(us - hours * 3_600_000_000).to_string()
    };
    let (middle, hour) = (ago(&mut sql, 14 * 24).await, ago(&mut sql, 14 * 24 + 1).await);
    let asks = asks(&busy, &wide, &month, &middle, &hour);
    seed::days(&mut sql).await;
    let mut wrong = Vec::new();
    // The program has planned for empty tables, and goes on when they are large.
    for ask in &asks {
        for _ in 0..CUSTOM_PLANS {
            turn(&explainer, ask, &mut wrong).await;
        }
    }
    seed::fill(&mut sql, &month).await;
    assert_eq!(sql.count("SELECT count(*) FROM attempts").await, 1_000_000);
    let mut told = Vec::new();
    for ask in &asks {
        told.push(turn(&explainer, ask, &mut wrong).await);
    }
    sql.run("ANALYZE").await;
    for (ask, before) in asks.iter().zip(&told) {
        let after = turn(&explainer, ask, &mut wrong).await;
        let pages = |pages: &[(Value, i64, usize)]| {
            pages.iter().map(|(page, ..)| page["data"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(pages(&after), pages(before), "{}", ask.path);
        let costs = |pages: &[(Value, i64, usize)]| {
            pages
                .iter()
                .map(|(_, buffers, statements)| format!("{buffers:>6} in {statements:>2}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        println!("{:<115} {} | {}", ask.path, costs(before), costs(&after));
    }

    // What is rare among a thousand endpoints is found nevertheless, over pages that end with their days, both ways.
    sql.run(
        "INSERT INTO settled (shard, endpoint_id, event_id, tenant_id, status, reason, at)
         SELECT a.shard, a.endpoint_id, a.event_id, a.tenant_id, 'canceled', 'seeded', now() FROM attempts a
         WHERE a.endpoint_id <> (SELECT q.endpoint_id FROM queue q LIMIT 1) ORDER BY md5(a.id::text) LIMIT 40",
    )
    .await;
    let rare = walk(&wide.client, "/v1/deliveries?status=canceled").await;
    assert_eq!(rare.len(), 40);
    let key = |one: &Value| (text(one, "event_id").to_owned(), text(one, "endpoint_id").to_owned());
    assert!(rare.is_sorted_by(|one, other| key(one) > key(other)));
    let since = Timestamp::parse(&middle).unwrap().minus(Duration::from_secs(10 * 60)).to_string();
    let period = format!("/v1/deliveries?since={since}&until={middle}");
    let count = sql
        .count(&format!(
            "SELECT count(*) FROM attempts WHERE endpoint_id <> (SELECT q.endpoint_id FROM queue q LIMIT 1)
             AND event_id >= seed_id((extract(epoch FROM timestamptz '{since}') * 1000)::bigint, 0, 0)
             AND event_id < seed_id((extract(epoch FROM timestamptz '{middle}') * 1000)::bigint, 0, 0)"
        ))
        .await;
    assert_eq!(walk(&wide.client, &period).await.len(), usize::try_from(count).unwrap());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    app.stop().await;
}
