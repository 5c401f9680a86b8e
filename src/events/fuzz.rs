//! Fuzz: the bytes of a publish go the way they go in production, up to what is stored.

use axum::response::IntoResponse;
use proptest::prelude::*;
use serde_json::Value;

use super::model::{BatchBody, DATA_MAX_BYTES, Draft, PublishBody};
use crate::{
    types::{
        LocationId,
        ecma_json::{Refusal, normalise},
        hostile::{bytes, cases, json, same},
    },
    web::{ApiError, fields::Fields, json},
};

const BODIES: &[&str] = &[
    r#"{"type":"message.incoming","data":{"text":"hello","10":1,"9":2,"a":1,"a":2}}"#,
    r#"{"type":"message.incoming","data":[1.0,1e20,-0,9007199254740992,"\ud83d\ude00\u0000"],"timestamp":"2026-11-20T10:00:00Z",
        "channel":"whatsapp","tags":{"campaign":"spring"},"live_mode":false,"api_version":"2026-02-04","idempotency_key":"k1"}"#,
    r#"{"type":"a.b","data":null,"tags":null,"timestamp":null,"channel":null,"live_mode":null}"#,
];
const BATCHES: &[&str] = &[
    r#"{"events":[{"location_id":"default","type":"a.b","data":{"n":1}},{"location_id":"l2","type":"a.c","data":"x","tags":{"k":"v"}}]}"#,
    r#"{"events":[]}"#,
];
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"data\":",
    "\"type\":\"a\",",
    "\\ud800",
    "\\u0000",
    "1e400",
    "1e999999999",
    "123456789012345678901234567890",
    "[[[[[[[[",
    "null",
    "-",
    "\u{feff}",
    "é",
    " ",
    "\n",
    "true",
    "\"a\":1,\"a\":2,",
];

fn parse(body: &[u8]) -> Result<Draft, ApiError> {
    let json::Object(body): json::Object<PublishBody<'_>> = json::from_bytes(body)?;
    let mut fields = Fields::default();
    let draft = body.parse(&mut fields, "");
    fields.done(|| draft)
}

/// A refusal says where, and is never our fault.
fn check_refusal(body: &[u8], error: ApiError) -> Result<(), TestCaseError> {
    let is_json =
        std::str::from_utf8(body).is_ok() && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    match &error {
        ApiError::Malformed(_) => prop_assert!(!is_json, "{:?} of valid JSON", error),
        ApiError::Invalid(errors) => {
            prop_assert!(is_json && !errors.is_empty());
            prop_assert!(errors.iter().all(|one| one.pointer.is_empty() || one.pointer.starts_with('/')));
        }
        other => prop_assert!(false, "{:?}", other),
    }
    prop_assert!(error.into_response().status().is_client_error());
    Ok(())
}

fn check_draft(draft: &Draft) -> Result<(), TestCaseError> {
    prop_assert!(draft.data.len() <= DATA_MAX_BYTES);
    match normalise(&draft.data) {
        Ok(again) => prop_assert_eq!(&again, &draft.data),
        // The one exception that `ecma_json` states: an integer of 2^54 or more that ECMAScript printed rounded.
        Err(error) => prop_assert_eq!(error.reason, Refusal::InexactInteger),
    }
    if let Some(tags) = &draft.tags {
        prop_assert!(serde_json::from_str::<std::collections::BTreeMap<String, String>>(tags).is_ok());
        prop_assert!(!tags.contains("\\u0000"), "Postgres can't store it");
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn any_bytes_are_an_event_in_normal_form_or_a_4xx(body in bytes(BODIES, PIECES)) {
        match parse(&body) {
            Err(error) => check_refusal(&body, error)?,
            Ok(draft) => {
                check_draft(&draft)?;
                if let Ok(given) = serde_json::from_slice::<Value>(&body) {
                    let data = serde_json::from_str::<Value>(&draft.data).expect("normal form is JSON");
                    prop_assert!(same(&given["data"], &data), "{} became {}", given["data"], data);
                }
            }
        }
    }

    #[test]
    fn any_data_is_sent_as_javascript_would_or_refused_with_its_place(data in json()) {
        let body = format!(r#"{{"type":"a.b","data":{data}}}"#);
        match parse(body.as_bytes()) {
            Ok(draft) => {
                check_draft(&draft)?;
                // The stored data, published again, is stored the same: a receiver may send on what it got.
                if let Ok(again) = parse(format!(r#"{{"data":{},"type":"a.b"}}"#, draft.data).as_bytes()) {
                    prop_assert_eq!(&again.data, &draft.data);
                    let location = LocationId::from_uuid(uuid::Uuid::nil());
                    prop_assert_eq!(again.fingerprint(location), draft.fingerprint(location));
                }
            }
            Err(error) => {
                if let ApiError::Invalid(errors) = &error {
                    prop_assert!(errors.iter().all(|one| one.pointer.starts_with("/data") || one.pointer.is_empty()), "{:?}", errors);
                }
                check_refusal(body.as_bytes(), error)?;
            }
        }
    }

    #[test]
    fn any_bytes_are_a_batch_or_a_4xx(body in bytes(BATCHES, PIECES)) {
        match json::from_bytes::<json::Object<BatchBody<'_>>>(&body) {
            Err(error) => check_refusal(&body, error)?,
            Ok(json::Object(batch)) => {
                for one in batch.events {
                    let mut fields = Fields::default();
                    if let Some(draft) = one.0.split().1.parse(&mut fields, "/events/0") {
                        check_draft(&draft)?;
                    } else {
                        check_refusal(b"{}", fields.finish().expect_err("nothing is refused without a word"))?;
                    }
                }
            }
        }
    }
}
