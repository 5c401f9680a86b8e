//! Each system whose page a preset stands in for, from the first dialog of its page to troubleshooting. What is of no system in
//! particular, `api` and `delivery` show.

mod aisoule;
mod messagesync;
mod standard;
mod whatsable;
mod whatsapp_platform;
mod whatssync;

use hmac::{Hmac, KeyInit, Mac};
use posthaste::types::Timestamp;
use serde_json::Value;
use sha2::Sha256;

use crate::helpers::Tenant;

/// `hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()`
fn hmac_hex(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text of a field.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name}: {value}"))
}

fn path(endpoint: &Value) -> String {
    format!("/v1/endpoints/{}", text(endpoint, "id"))
}

/// The catalogue's sample of a type.
async fn sample(tenant: &Tenant, event_type: &str) -> Value {
    tenant.client.get(&format!("/v1/event-types/{event_type}")).await.expect(200)["example"].clone()
}

/// How much later than planned an attempt may be due, beside its jitter: results are written with the time of writing.
const BUSY_S: i64 = 30;
/// Times are told to the millisecond.
const ROUNDED_US: i64 = 1_000;

/// Whether the next attempt of a delivery is due so many seconds after the latest one: not sooner, and not much later.
fn waits_s(delivery: &Value, seconds: i64) -> bool {
    let at = |name: &str| Timestamp::parse(text(delivery, name)).unwrap().unix_us();
    let wait_us = at("next_attempt_at") - at("last_attempt_at");
    let most_s = seconds + seconds / 10 + BUSY_S;
    (seconds * 1_000_000 - ROUNDED_US..most_s * 1_000_000).contains(&wait_us)
}
