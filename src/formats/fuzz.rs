//! Fuzz: any JSON is an envelope that renders to what it says, or is refused with the place of what is wrong.

use proptest::prelude::*;
use serde_json::Value;
use time::macros::datetime;

use super::{Envelope, EventView, Format};
use crate::types::{
    ecma_json::{Refusal, normalise},
    hostile::{cases, json, same, text},
};

const ENVELOPES: &[&str] = &[
    r#""{{data}}""#,
    r#"{"id":"{{id}}","type":"{{type}}","timestamp":"{{timestamp}}","data":"{{data}}"}"#,
    r#"{"object":"{{data}}","api_version":"{{api_version|2026-02-04}}","n":[1.0,-0,1e300,1e-9,36028797018963968,"{{created_at}}",null]}"#,
    r#"{"b":{"10":"{{channel}}","9":"{{live_mode}}"},"a":["{{timestamp_s}}","{{tenant_id}}"],"l":"{{location_id}}"}"#,
];
const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{id}}",
    "\"{{data}}\"",
    "|",
    "\"",
    "\\u007b",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "1e400",
    "\\ud800",
    "\0",
];
const FORMATS: &[&str] = &[
    r#"{"name":"own","version":1000,"envelope":{"id":"{{id}}","data":"{{data}}"},"success":[200,404],"timeout_ms":1000}"#,
    r#"{"name":"own_2","version":2147483647,"envelope":"{{data}}","signatures":[{"header":"x-sig","algorithm":"hmac-sha256",
        "key":"text","content":"{{id}}.{{body}}","encoding":"hex","value":"t={{signature}}","multiple":true}],"success":"2xx",
        "retry_schedule_s":[10,60],"allow_http":true,"honor_retry_after":false,"disable_on_410":false}"#,
];

fn event(data: &str) -> EventView<'_> {
    EventView {
        id: "evt_1",
        event_type: "message.incoming",
        occurred_at: datetime!(2026-11-20 10:00:00.123_456 UTC),
        tenant_id: "ten_1",
        location_id: "loc_1",
        channel: Some("sms\"\u{1}"),
        api_version: None,
        live_mode: true,
        data: data.as_bytes(),
    }
}

/// What a receiver should find, by the table in the contract.
fn expected(source: &Value, data: &Value) -> Value {
    match source {
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| (key.clone(), expected(member, data)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(|item| expected(item, data)).collect(),
        Value::String(text) => match text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
            None => source.clone(),
            Some("id") => "evt_1".into(),
            Some("type") => "message.incoming".into(),
            Some("timestamp") => "2026-11-20T10:00:00.123Z".into(),
            Some("timestamp_s") => "2026-11-20T10:00:00Z".into(),
            Some("created_at") => 1_795_168_800.into(),
            Some("data") => data.clone(),
            Some("location_id") => "loc_1".into(),
            Some("tenant_id") => "ten_1".into(),
            Some("live_mode") => true.into(),
            Some(other) => match other.split_once('|') {
                None if other == "api_version" => Value::Null,
                Some(("api_version", fallback)) => fallback.into(),
                _ => "sms\"\u{1}".into(),
            },
        },
        literal => literal.clone(),
    }
}

fn check(text: &str, data: &str) -> Result<(), TestCaseError> {
    let envelope = match Envelope::parse(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            if let Ok(source) = serde_json::from_str::<Value>(text) {
                // The text itself may be refused below a value that a second one of its key has replaced.
                let is_there = source.pointer(&error.pointer).is_some();
                let twice = crate::types::duplicates::duplicate_key(text.as_bytes()).is_some();
                prop_assert!(is_there || twice, "{} points nowhere", error);
            }
            return Ok(());
        }
    };
    let body = envelope.render(&event(data));
    let body = std::str::from_utf8(&body).expect("UTF-8");
    match normalise(body) {
        Ok(again) => prop_assert_eq!(&again, body, "the body is in normal form"),
        // A printed integer of 2^54 or more, or data below an envelope's depth: see `ecma_json`.
        Err(error) => {
            prop_assert!(matches!(error.reason, Refusal::InexactInteger | Refusal::TooDeep), "{}", error);
        }
    }
    let source = Value::from(envelope);
    if let (Ok(sent), Ok(data)) = (serde_json::from_str::<Value>(body), serde_json::from_str::<Value>(data)) {
        let expected = expected(&source, &data);
        prop_assert!(same(&sent, &expected), "{} from {}, not {}", sent, text, expected);
    }
    let stored = Envelope::compile(&source).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(&stored.render(&event(data))[..], body.as_bytes(), "as it is read from the database");
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn an_envelope_renders_what_it_says_or_is_refused_with_a_place(
        envelope in prop_oneof![text(ENVELOPES, PIECES), json()], data in json(),
    ) {
        check(&envelope, &normalise(&data).unwrap_or_else(|_| "{}".to_owned()))?;
    }

    #[test]
    fn a_format_that_is_read_is_written_and_read_the_same(given in text(FORMATS, PIECES)) {
        if let Ok(format) = serde_json::from_str::<Format>(&given) {
            let written = serde_json::to_string(&format).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Format>(&written).ok(), Some(format), "{}", written);
        }
    }
}
