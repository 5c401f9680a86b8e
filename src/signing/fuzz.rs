//! Fuzz: a template is refused, or signs what it says and writes a header that can be sent.

use hmac::{Hmac, KeyInit, Mac};
use proptest::prelude::*;
use sha2::Sha256;

use super::template::{Content, ValueTemplate};
use super::{SignatureSpec, Signer};
use crate::types::{
    hostile::{cases, text},
    secret::SigningSecret,
};

const ID: &str = "evt_0193a3c5-7d40-7000-8000-0000000001c5";
const BODY: &str = r#"{"a":1}"#;
const AT_S: i64 = 1_795_168_800;

const CONTENTS: &[&str] =
    &["{{body}}", "{{id}}.{{timestamp}}.{{body}}", "v0:{{timestamp}}:{{body}}", "{{body}}{{id}}"];
const VALUES: &[&str] = &["{{signature}}", "v1,{{signature}}", "sha256={{signature}}", "t=1,{{signature}};x"];
const PIECES: &[&str] =
    &["{{", "}}", "{", "}", "{{body}}", "{{signature}}", "{{id}}", " ", "\r\n", "é", "\0", ".", "{{ id }}"];

/// By the template's text alone.
fn expected_hex(content: &str, key: &[u8]) -> String {
    let signed = content
        .replacen("{{id}}", ID, usize::MAX)
        .replace("{{timestamp}}", &AT_S.to_string())
        .replace("{{body}}", BODY);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(signed.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_template_signs_what_it_says_or_is_refused(
        header in text(&["x-signature", "X-Hub-Signature-256", "webhook-signature", "host"], &["-", " ", ":", "\r\n", "é", "content-"]),
        content in text(CONTENTS, PIECES),
        value in text(VALUES, PIECES),
    ) {
        if let Ok(parsed) = Content::parse(&content) {
            prop_assert_eq!(parsed.to_string(), content.as_str());
        }
        if let Ok(parsed) = ValueTemplate::parse(&value) {
            prop_assert_eq!(parsed.to_string(), value.as_str());
        }
        let spec = serde_json::json!({"header": header, "algorithm": "hmac-sha256", "key": "text", "content": content,
            "encoding": "hex", "value": value});
        // What looks like a slot is one.
        let left_over = |text: &str, slots: &[&str]| {
            let text = slots.iter().fold(text.to_owned(), |text, slot| text.replace(slot, " "));
            text.contains("{{") || text.contains("}}")
        };
        prop_assert!(Content::parse(&content).is_err() || !left_over(&content, &["{{id}}", "{{timestamp}}", "{{body}}"]));
        prop_assert!(ValueTemplate::parse(&value).is_err() || !left_over(&value, &["{{signature}}"]));
        let Ok(spec) = serde_json::from_value::<SignatureSpec>(spec) else { return Ok(()) };
        let secret = SigningSecret::parse("not-base64-but-long-enough").expect("a secret");
        let signer = Signer::new(&[spec], std::slice::from_ref(&secret)).expect("a signer");
        let headers = signer.sign(ID, AT_S, BODY.as_bytes());
        prop_assert_eq!(headers.len(), 1 + usize::from(content.contains("{{timestamp}}")));
        let (name, sent) = &headers[headers.len() - 1];
        prop_assert!(name.as_str().eq_ignore_ascii_case(&header));
        let expected = value.replace("{{signature}}", &expected_hex(&content, secret.text_key()));
        prop_assert_eq!(sent.to_str().ok(), Some(expected.as_str()));
    }
}
