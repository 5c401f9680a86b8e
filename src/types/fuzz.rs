//! Fuzz: what is parsed is written as it was read; garbage is an error, never a panic.

use proptest::prelude::*;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    AttemptId, EndpointId, EventId, Timestamp,
    duplicates::duplicate_key,
    ecma_json::{MAX_DEPTH, Refusal, normalise, normalise_within},
    event_type::{EventType, MAX_EVENT_TYPE_BYTES, Pattern},
    hostile::{bytes, cases, json, same, text},
    secret::SigningSecret,
    text::{ExternalId, Name},
};

const IDS: &[&str] = &[
    "evt_0193a1b2-c3d4-7e5f-8a6b-0123456789ab",
    "ep_0193a1b2-c3d4-7e5f-8a6b-0123456789ab",
    "att_ffffffff-ffff-ffff-ffff-ffffffffffff",
];
const TYPES: &[&str] =
    &["message.incoming", "message.*", "*", "posthaste.endpoint.disabled", "posthaste.*", "a_1.B"];
const TIMES: &[&str] = &[
    "2026-11-20T10:00:00.123Z",
    "9999-12-31T23:59:59.999999999-23:59",
    "1970-01-01T00:00:00+00:00",
    "2016-12-31T23:59:60Z",
];
const SECRETS: &[&str] = &["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "0123456789abcdef"];
const BODIES: &[&str] = &[
    r#"{"b":1,"10":2,"a":3,"9":[4,{"a":1e2}]}"#,
    r#"{"a":1,"\u0061":{"c":"\ud83d\ude00\u0000"}}"#,
    r#"[9007199254740993,1e400,-0.0,5e-324,36028797018963968]"#,
];
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00",
    "1e400",
    "-0",
    "0",
    "9007199254740993",
    "e",
    ".",
    "\0",
    " ",
    "\u{feff}",
    "null",
    "*",
    ".*",
    "..",
    "_",
    "-",
    "evt_",
    "whsec_",
    "=",
    "T",
    "Z",
    "+14:00",
    "😀",
];

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn ids_have_one_spelling(given in text(IDS, PIECES)) {
        let spelled = [
            given.parse::<EventId>().map(|id| id.to_string()).ok(),
            given.parse::<EndpointId>().map(|id| id.to_string()).ok(),
            given.parse::<AttemptId>().map(|id| id.to_string()).ok(),
        ];
        let read: Vec<&String> = spelled.iter().flatten().collect();
        prop_assert!(read.len() <= 1, "an id of one kind is none of another");
        prop_assert!(read.iter().all(|id| **id == given));
    }

    #[test]
    fn event_types_and_patterns_are_what_their_grammar_says(given in text(TYPES, PIECES)) {
        let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let is_name = |name: &str| name.len() <= MAX_EVENT_TYPE_BYTES && name.split('.').all(is_word);
        prop_assert_eq!(EventType::parse(&*given).is_ok(), is_name(&given));
        let is_pattern = given == "*" || is_name(given.strip_suffix(".*").unwrap_or(&given));
        let pattern = Pattern::parse(&*given);
        prop_assert_eq!(pattern.is_ok(), is_pattern);
        if let Ok(pattern) = pattern {
            prop_assert_eq!(pattern.as_str(), given.as_str());
            for name in ["message", "message.incoming", "messages.incoming", "posthaste.endpoint.disabled"] {
                let by_hand = match given.strip_suffix('*') {
                    Some("") => !name.starts_with("posthaste."),
                    Some(prefix) => name.starts_with(prefix),
                    None => name == given,
                };
                prop_assert_eq!(pattern.matches_name(name), by_hand, "{}", name);
            }
        }
    }

    #[test]
    fn times_stay_within_what_is_written_with_four_digits(given in text(TIMES, PIECES)) {
        if let Some(at) = Timestamp::parse(&given) {
            let written = at.to_string();
            prop_assert_eq!(written.len(), "2026-11-20T10:00:00.000Z".len(), "{}", &written);
            prop_assert_eq!(Timestamp::parse(&written), Some(at), "{}", &written);
            prop_assert!(at.datetime() >= OffsetDateTime::UNIX_EPOCH && at.unix_us() % 1_000 == 0);
        }
    }

    #[test]
    fn secrets_names_and_external_ids_are_kept_as_given(given in text(SECRETS, PIECES)) {
        if let Ok(secret) = SigningSecret::parse(&given) {
            prop_assert_eq!(secret.reveal(), given.as_str());
            prop_assert!((16..=128).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(secret.base64_key().is_none_or(|key| given.starts_with("whsec_") && (24..=64).contains(&key.len())));
        }
        if let Ok(name) = Name::parse(given.clone()) {
            prop_assert!(name.as_str() == given && !given.contains('\0'));
        }
        if let Ok(id) = ExternalId::parse(given.clone()) {
            prop_assert!(id.as_str() == given && given.parse::<EventId>().is_err());
        }
    }

    #[test]
    fn normalising_is_final_and_accepts_nothing_but_json(given in prop_oneof![text(BODIES, PIECES), json()]) {
        let value = serde_json::from_str::<Value>(&given);
        let normal = match normalise(&given) {
            Ok(normal) => normal,
            Err(error) => {
                prop_assert!(error.reason != Refusal::Syntax || value.is_err(), "{}", error);
                return Ok(());
            }
        };
        match normalise(&normal) {
            Ok(again) => prop_assert_eq!(&again, &normal),
            // The one exception that the module states: an integer of 2^54 or more that ECMAScript printed rounded.
            Err(error) => prop_assert_eq!(error.reason, Refusal::InexactInteger),
        }
        prop_assert_eq!(duplicate_key(normal.as_bytes()), None);
        prop_assert!(normalise_within(&given, normal.len() - 1).is_err(), "the limit is of what is written");
        match (value, serde_json::from_str::<Value>(&normal)) {
            (Ok(given), Ok(normal)) => prop_assert!(same(&given, &normal), "{} is not {}", normal, given),
            // serde_json ends one level above our own limit.
            (Err(_), Err(_)) => {
                let levels = given.matches(['[', '{']).count();
                prop_assert!(levels >= MAX_DEPTH);
            }
            (given, normal) => prop_assert!(false, "{:?} became {:?}", given, normal),
        }
    }

    #[test]
    fn a_repeated_key_is_found_where_it_stands(given in prop_oneof![bytes(BODIES, PIECES), json().prop_map(String::into_bytes)]) {
        let (Some(pointer), Ok(value)) = (duplicate_key(&given), serde_json::from_slice::<Value>(&given)) else { return Ok(()) };
        let inside_a_replaced_one = pointer.matches('/').count() > 1;
        prop_assert!(value.pointer(&pointer).is_some() || inside_a_replaced_one, "{}", pointer);
    }
}
