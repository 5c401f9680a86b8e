//! Each system whose page a preset stands in for, from the first dialog of its page to troubleshooting. What is of no system in
//! particular, `api` and `delivery` show.

mod whatsapp_platform;
mod whatssync;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

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
