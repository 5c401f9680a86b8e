//! Fuzz: a merge patch does what RFC 7396 says or nothing; a `Retry-After` of a stranger is a wait or none.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::response::IntoResponse;
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    attempt::wait,
    draft::{Checked, Rules, UpdateBody},
    queries::{Stored, TenantSettings},
};
use crate::{
    egress::{Policy, PolicySettings},
    event_types::Catalogue,
    formats::presets,
    types::{
        EndpointId, LocationId, Timestamp,
        hostile::{bytes, cases, same, text},
        secret::SigningSecret,
    },
    web::{ApiError, json},
};

const PATCHES: &[&str] = &[
    r#"{"name":"CRM","url":"https://example.com/hook","event_types":["message.*","*"]}"#,
    r#"{"headers":{"X-Team":null,"x-store":"17"},"metadata":{"a":null,"b":{"c":{"d":null,"e":1}},"f":[null]}}"#,
    r#"{"rate_limit_per_s":20,"max_in_flight":null,"timeout_ms":30000,"retry_schedule_s":[10,60]}"#,
    r#"{"format":"whatssync","rate_limit_per_s":null,"timeout_ms":null,"retry_schedule_s":null,"metadata":null,"headers":null}"#,
];
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "{\"a\":",
    "\\ud800",
    "\\u0000",
    "1e400",
    "0",
    "-1",
    "4294967296",
    "1.5",
    "true",
    "\"metadata\":",
    "\"headers\":",
    "\"url\":\"http://127.0.0.1/\"",
    "\"format\":null",
    "é",
];
const WAITS: &[&str] =
    &["120", "Fri, 20 Nov 2026 10:01:30 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "0", "18446744073709551615"];

fn stored() -> Stored {
    let at = Timestamp::from_unix_us(0);
    Stored {
        id: EndpointId::from_uuid(Uuid::nil()),
        location_id: LocationId::from_uuid(Uuid::nil()),
        name: "CRM sync".into(),
        url: "https://crm.example.com/".into(),
        event_types: vec!["message.incoming".into()],
        rate_limit_per_s: Some(5),
        max_in_flight: 8,
        format: "standard".into(),
        format_version: 1,
        headers_sealed: None,
        client_certificate: None,
        timeout_ms: None,
        retry_schedule_s: Some(vec![1, 2]),
        metadata: json!({"a": 1, "b": {"c": 2, "d": [3]}}),
        version: 1,
        paused_at: None,
        created_at: at,
        updated_at: at,
        failing_since: None,
        disabled_at: None,
        disabled_reason: None,
        last_success_at: None,
        last_failure_at: None,
        last_error: None,
        pending_count: 0,
        throttled_until: None,
    }
}

/// As it is stored after the patch.
fn after(checked: &Checked) -> Stored {
    let column = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok());
    let steps = checked.retry_schedule_s.as_ref();
    Stored {
        name: checked.name.as_str().to_owned(),
        url: checked.url.as_str().to_owned(),
        event_types: checked.patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        rate_limit_per_s: column(checked.rate_limit_per_s),
        max_in_flight: column(Some(checked.max_in_flight)).unwrap_or_default(),
        format: checked.format.name.clone(),
        timeout_ms: column(checked.timeout_ms),
        retry_schedule_s: steps.map(|steps| steps.iter().filter_map(|step| column(Some(*step))).collect()),
        metadata: checked.metadata.clone(),
        ..stored()
    }
}

type Headers = BTreeMap<String, String>;

fn patched(body: &[u8], stored: &Stored, headers: Headers) -> Result<(Checked, Vec<&'static str>), ApiError> {
    let json::Object(body): json::Object<UpdateBody> = json::from_bytes(body)?;
    let preset = presets::preset("standard").expect("built in");
    let tenant = TenantSettings {
        catalogue: Catalogue { preset, custom: Vec::new() },
        allow_unknown_event_types: false,
        format: None,
    };
    let format = presets::format_by_name(body.format(stored, &tenant)).map(Arc::clone);
    let secret = SigningSecret::parse("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    let policy = Policy::new(PolicySettings::default());
    let rules = Rules { policy: &policy, tenant: &tenant, now: Timestamp::from_unix_us(0) };
    body.check(format, stored, headers, &secret, rules)
}

/// RFC 7396, as it stands there.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            let member = merged(target.get(key).unwrap_or(&Value::Null), value);
            target.insert(key.clone(), member);
        }
    }
    Value::Object(target)
}

fn settings(stored: &Stored) -> Value {
    json!({"name": stored.name, "url": stored.url, "event_types": stored.event_types, "timeout_ms": stored.timeout_ms,
        "rate_limit_per_s": stored.rate_limit_per_s, "max_in_flight": stored.max_in_flight, "format": stored.format,
        "retry_schedule_s": stored.retry_schedule_s, "metadata": stored.metadata})
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_patch_of_an_endpoint_sets_what_it_names_and_nothing_else(body in bytes(PATCHES, PIECES)) {
        let headers: Headers = [("X-Team", "a"), ("X-Other", "b")].map(|(name, value)| (name.into(), value.into())).into();
        let (checked, set) = match patched(&body, &stored(), headers.clone()) {
            Ok(patched) => patched,
            Err(error) => {
                if let ApiError::Invalid(errors) = &error {
                    prop_assert!(!errors.is_empty() && errors.iter().all(|one| one.pointer.is_empty() || one.pointer.starts_with('/')));
                }
                prop_assert!(error.into_response().status().is_client_error());
                return Ok(());
            }
        };
        let (before, now) = (settings(&stored()), settings(&after(&checked)));
        for (name, value) in before.as_object().expect("an object") {
            prop_assert!(set.contains(&name.as_str()) || now[name] == *value, "{} was not named, and became {}", name, now[name]);
        }
        prop_assert!(set.contains(&"headers") || checked.headers == headers);
        if let Ok(patch) = serde_json::from_slice::<Value>(&body) && let Some(patch) = patch.get("metadata").filter(|one| one.is_object()) {
            prop_assert!(same(&checked.metadata, &merged(&before["metadata"], patch)), "{} became {}", patch, checked.metadata);
        }
        let again = patched(&body, &after(&checked), checked.headers.clone());
        let (again, _) = again.map_err(|error| TestCaseError::fail(format!("not a second time: {error:?}")))?;
        prop_assert_eq!(settings(&after(&again)), now);
        prop_assert_eq!(again.headers, checked.headers);
    }

    #[test]
    fn a_retry_after_is_a_wait_or_nothing(given in text(WAITS, &["-", "+", ".", " ", "GMT", "0", "9999", "é", "e9", ":60", "\t"])) {
        let now = Timestamp::parse("2026-11-20T10:00:00Z").expect("a time");
        let waited = wait(&given, now);
        let digits = given.trim();
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            prop_assert_eq!(waited, digits.parse().ok().map(Duration::from_secs));
        }
    }
}
