use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;
use crate::types::secret::SigningSecret;

const EVENT_ID: &str = "evt_0193a3c5-7d40-7000-8000-0000000001c5";
const FOREIGN: &str = "not-base64-but-long-enough";
const NATIVE: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn spec(value: Value) -> SignatureSpec {
    serde_json::from_value(value).expect("a valid spec")
}

/// The two headers of format `standard`.
fn standard() -> [SignatureSpec; 2] {
    [
        spec(json!({"header": "webhook-signature", "algorithm": "hmac-sha256", "key": "base64",
            "content": "{{id}}.{{timestamp}}.{{body}}", "encoding": "base64", "value": "v1,{{signature}}", "multiple": true})),
        spec(
            json!({"header": "x-webhook-signature", "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}",
            "encoding": "hex"}),
        ),
    ]
}

fn secret(text: &str) -> SigningSecret {
    SigningSecret::parse(text).expect("a valid secret")
}

fn now_s() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// A request as it goes out: what the signer gives and the header that every format has.
fn signed(secrets: &[SigningSecret], id: &str, timestamp_s: i64, body: &[u8]) -> HeaderMap {
    let signer = Signer::new(&standard(), secrets).expect("native secrets");
    let mut headers: HeaderMap = signer.sign(id, timestamp_s, body).into_iter().collect();
    headers.insert(WEBHOOK_ID, HeaderValue::from_str(id).expect("visible ASCII"));
    headers
}

fn value(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().expect("visible ASCII").to_owned()
}

#[rstest]
#[case(
    "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
    1_649_367_553,
    r#"{"email":"test@example.com","username":"test_user"}"#,
    "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
)]
#[case(
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1_614_265_330,
    r#"{"test": 2432232314}"#,
    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)]
fn published_vectors(
    #[case] key: &str,
    #[case] id: &str,
    #[case] timestamp_s: i64,
    #[case] body: &str,
    #[case] expected: &str,
) {
    let headers = signed(&[secret(key)], id, timestamp_s, body.as_bytes());
    assert_eq!(value(&headers, "webhook-signature"), expected);
    assert_eq!(value(&headers, "webhook-timestamp"), timestamp_s.to_string());
    assert_eq!(verify(&secret(key), &headers, body.as_bytes(), timestamp_s), Ok(()));
}

#[test]
fn the_public_library_accepts_what_is_sent() {
    let body = r#"{"text":"नमस्ते, ça va? 😀"}"#.as_bytes();
    let (old, new) = (SigningSecret::generate(), SigningSecret::generate());
    let library = |secret: &SigningSecret| standardwebhooks::Webhook::new(secret.reveal()).expect("a secret");

    let plain = signed(std::slice::from_ref(&new), EVENT_ID, now_s(), body);
    assert!(library(&new).verify(body, &plain).is_ok());
    assert!(library(&old).verify(body, &plain).is_err());

    let rotating = signed(&[new.clone(), old.clone()], EVENT_ID, now_s(), body);
    assert!(library(&new).verify(body, &rotating).is_ok());
    assert!(library(&old).verify(body, &rotating).is_ok());

    let tampered = [&body[..body.len() - 2], b"!}"].concat();
    assert!(library(&new).verify(&tampered, &plain).is_err());
    let stale = signed(std::slice::from_ref(&new), EVENT_ID, now_s() - 3_600, body);
    assert!(library(&new).verify(body, &stale).is_err());
}

#[test]
fn rotation_signs_with_every_live_secret_newest_first() {
    let (old, new) = (SigningSecret::generate(), SigningSecret::generate());
    let alone = |secret: &SigningSecret| signed(std::slice::from_ref(secret), EVENT_ID, 7, b"{}");
    let both = signed(&[new.clone(), old.clone()], EVENT_ID, 7, b"{}");
    let standard = |headers: &HeaderMap| value(headers, "webhook-signature");
    assert_eq!(standard(&both), format!("{} {}", standard(&alone(&new)), standard(&alone(&old))));
    assert_eq!(value(&both, "x-webhook-signature"), value(&alone(&new), "x-webhook-signature"));

    let many: Vec<_> = (0..MAX_LIVE_SECRETS + 5).map(|_| SigningSecret::generate()).collect();
    assert_eq!(standard(&signed(&many, EVENT_ID, 7, b"{}")).split(' ').count(), MAX_LIVE_SECRETS);
}

/// The expected values come from the Python of the seeds' pages: hmac.new(secret.encode(), body, …).hexdigest().
#[rstest]
#[case("hmac-sha256", "68ad0aa21324a40905d6162d4ca34d8da25388365ff60342aaa59acc53c58b79")]
#[case(
    "hmac-sha512",
    "d14f670cd716e85c1ccec3a74ae45d6eae2219222a8338c4bac5d898c0dd53b03d60b013e25882cf939b762d2b54ca5faa1eb76d595467f691ffe284eb0da039"
)]
#[case("hmac-sha1", "0b0a421a754d9bc1919814b5b388a49a1e6cc7f6")]
fn hex_schemes_key_with_the_whole_text(#[case] algorithm: &str, #[case] expected: &str) {
    let spec = spec(
        json!({"header": "X-Hub-Signature", "algorithm": algorithm, "key": "text", "content": "{{body}}",
        "encoding": "hex", "value": "sha={{signature}};"}),
    );
    let body = r#"{"event":"message.incoming","data":{"text":"नमस्ते"}}"#.as_bytes();
    let signer = Signer::new(&[spec], &[secret(NATIVE)]).expect("a signer");
    let headers = signer.sign(EVENT_ID, 7, body);
    let expected_value = HeaderValue::from_str(&format!("sha={expected};")).expect("visible ASCII");
    // No timestamp: nothing covers it.
    assert_eq!(headers, [(HeaderName::from_static("x-hub-signature"), expected_value)]);
    assert_eq!(verify_hex(&secret(NATIVE), expected, body).is_ok(), algorithm == "hmac-sha256");
}

#[test]
fn spaces_may_stand_inside_a_header() {
    let spec = spec(
        json!({"header": "authorization", "algorithm": "hmac-sha256", "key": "text", "content": "{{timestamp}}.{{body}}",
        "encoding": "hex", "value": "HMAC {{signature}}", "prefix": "t={{timestamp}}, "}),
    );
    let headers = Signer::new(&[spec], &[secret(NATIVE)]).expect("a signer").sign(EVENT_ID, 7, b"{}");
    let sent = headers.iter().find(|(name, _)| name == "authorization").expect("a signature");
    let sent = sent.1.to_str().expect("visible ASCII");
    let signature = sent.strip_prefix("t=7, HMAC ").expect(sent);
    assert!(signature.len() == 64 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn content_may_be_any_template_around_the_body() {
    let spec = spec(
        json!({"header": "x-sig", "algorithm": "hmac-sha512", "key": "base64", "content": "{{id}}:{{timestamp}}|{{body}}",
        "encoding": "base64"}),
    );
    let body = r#"{"event":"message.incoming","data":{"text":"नमस्ते"}}"#.as_bytes();
    let headers = Signer::new(&[spec], &[secret(NATIVE)]).expect("a signer").sign("e", 5, body);
    let expected = "UMyCC3dxDwlDvT6N5AQ/UFmCz3euLyNnlmjtp+KtiUhT3QGE3hW7cuc+nw1z9Dmsi4CWuDHsdA6XLAU1lJtSYw==";
    assert_eq!(headers[0], (WEBHOOK_TIMESTAMP, HeaderValue::from_static("5")));
    assert_eq!(headers[1].1, expected);
}

/// The expected values come from Python: Ed25519PrivateKey.from_private_bytes(hmac.new(key, b"posthaste ed25519 signing key 1",
/// sha256).digest()). They never change: receivers keep their public keys.
#[test]
fn ed25519_keys_are_made_from_the_secret() {
    let spec = spec(json!({"header": "webhook-signature", "algorithm": "ed25519", "key": "base64",
        "content": "{{id}}.{{timestamp}}.{{body}}", "encoding": "base64", "value": "v1a,{{signature}}", "multiple": true}));
    let known = "whpk_AoE4wMDxF5hdmQvKEGLnibXUqXtnp1rODieu/CkgPmo=";
    assert_eq!(public_key(&secret(NATIVE)).as_deref(), Some(known));
    assert_eq!(public_key(&secret(FOREIGN)), None);
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let signer = Signer::new(std::slice::from_ref(&spec), &[secret(NATIVE)]).expect("a signer");
    let headers: HeaderMap =
        signer.sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body).into_iter().collect();
    let expected =
        "v1a,+gsX6A8V/sfH3ryqUOqO0jS/YqrxPAvo/gJsHuNCkuDqYhpdQfxLAKOqFzDAX49CPYiP2vxhfKTvPZAI7mWWAA==";
    assert_eq!(value(&headers, "webhook-signature"), expected);
    let foreign = Signer::new(&[spec], &[secret(FOREIGN)]).err();
    assert_eq!(foreign, Some(SignerError::NoBase64Key { header: WEBHOOK_SIGNATURE }));
}

#[test]
fn a_prefix_stands_once_and_a_separator_between_signatures() {
    let spec = spec(
        json!({"header": "x-sig", "algorithm": "hmac-sha256", "key": "text", "content": "{{timestamp}}.{{body}}",
        "encoding": "hex", "value": "v1={{signature}}", "prefix": "t={{timestamp}},id={{id}},", "separator": ",", "multiple": true,
        "timestamp_header": "X-Time"}),
    );
    let sent = |secrets: &[SigningSecret]| {
        let headers =
            Signer::new(std::slice::from_ref(&spec), secrets).expect("a signer").sign("e", 5, b"{}");
        assert_eq!(headers[0], (HeaderName::from_static("x-time"), HeaderValue::from_static("5")));
        assert_eq!(headers.len(), 2);
        headers[1].1.to_str().expect("visible ASCII").to_owned()
    };
    let (one, other) = (sent(&[secret(NATIVE)]), sent(&[secret(FOREIGN)]));
    let signature = |sent: &str| sent.strip_prefix("t=5,id=e,v1=").expect(sent).to_owned();
    assert_eq!(signature(&one).len(), 64);
    let both = format!("t=5,id=e,v1={},v1={}", signature(&one), signature(&other));
    assert_eq!(sent(&[secret(NATIVE), secret(FOREIGN)]), both);
    let told = spec.to_string();
    assert!(
        told.contains("`t={{timestamp}},id={{id}},v1={{signature}}`") && told.ends_with("`,` between."),
        "{told}"
    );
}

#[test]
fn secrets_must_fit_the_format() {
    let [base64, hex] = standard();
    let error = |specs: &[SignatureSpec], secrets: &[SigningSecret]| Signer::new(specs, secrets).err();
    assert_eq!(error(&standard(), &[]), Some(SignerError::NoSecret));
    let no_key = Some(SignerError::NoBase64Key { header: WEBHOOK_SIGNATURE });
    assert_eq!(error(std::slice::from_ref(&base64), &[secret(FOREIGN)]), no_key);
    assert_eq!(error(&[base64], &[secret(NATIVE), secret(FOREIGN)]), no_key, "older secrets sign too");
    assert_eq!(error(&[hex], &[secret(FOREIGN)]), None);
}

#[rstest]
#[case::no_body(json!({"content": "{{id}}"}))]
#[case::two_bodies(json!({"content": "{{body}}{{body}}"}))]
#[case::unknown_slot(json!({"content": "{{body}}{{data}}"}))]
#[case::open(json!({"content": "{{body}}{{id"}))]
#[case::closed(json!({"content": "id}}{{body}}"}))]
#[case::long(json!({"content": format!("{{{{body}}}}{}", "x".repeat(256))}))]
#[case::no_signature(json!({"value": "v1"}))]
#[case::two_signatures(json!({"value": "{{signature}}{{signature}}"}))]
#[case::space(json!({"value": " {{signature}}"}))]
#[case::last_space(json!({"value": "{{signature}} "}))]
#[case::line_break(json!({"value": "{{signature}}\r\nx: y"}))]
#[case::foreign_slot(json!({"value": "{{signature}}{{id}}"}))]
#[case::header_name(json!({"header": "x y"}))]
#[case::empty_header(json!({"header": ""}))]
#[case::own_header(json!({"header": "Webhook-Id"}))]
#[case::http_header(json!({"header": "Content-Length"}))]
#[case::algorithm(json!({"algorithm": "md5"}))]
#[case::timestamp_unsigned(json!({"prefix": "t={{timestamp}}"}))]
#[case::prefix_body(json!({"prefix": "{{body}}"}))]
#[case::prefix_space(json!({"prefix": " t"}))]
#[case::empty_separator(json!({"separator": ""}))]
#[case::line_separator(json!({"separator": "\n"}))]
#[case::time_unsigned(json!({"timestamp_header": "x-time"}))]
#[case::time_is_taken(json!({"timestamp_header": "host", "content": "{{timestamp}}{{body}}"}))]
#[case::guessable(json!({"algorithm": "ed25519"}))]
#[case::unknown_field(json!({"secret": "x"}))]
fn invalid_specs_are_refused(#[case] change: Value) {
    let mut text = json!({"header": "x-sig", "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}", "encoding": "hex"});
    assert!(serde_json::from_value::<SignatureSpec>(text.clone()).is_ok());
    let fields = text.as_object_mut().expect("an object");
    fields.extend(change.as_object().expect("an object").clone());
    assert!(serde_json::from_value::<SignatureSpec>(text).is_err());
}

#[test]
fn specs_survive_serialisation() {
    for spec in standard() {
        let text = serde_json::to_value(&spec).expect("serialises");
        assert_eq!(serde_json::from_value::<SignatureSpec>(text).expect("parses"), spec);
    }
}

#[test]
fn debug_of_a_signer_shows_header_names_only() {
    let signer = Signer::new(&standard(), &[secret(NATIVE)]).expect("a signer");
    assert_eq!(format!("{signer:?}"), r#"["webhook-signature", "x-webhook-signature"]"#);
}

#[test]
fn verification_refuses() {
    let (key, body) = (secret(NATIVE), b"{}");
    let good = signed(std::slice::from_ref(&key), EVENT_ID, 1_000, body);
    assert_eq!(verify(&key, &good, body, 1_300), Ok(()));
    assert_eq!(verify(&key, &good, body, 1_301), Err(VerifyError::Stale));
    assert_eq!(verify(&key, &good, body, 699), Err(VerifyError::Stale));
    assert_eq!(verify(&secret(FOREIGN), &good, body, 1_000), Err(VerifyError::NoBase64Key));
    assert_eq!(verify(&SigningSecret::generate(), &good, body, 1_000), Err(VerifyError::Mismatch));
    for (name, replacement) in
        [(WEBHOOK_ID, "evt_other"), (WEBHOOK_TIMESTAMP, "1001"), (WEBHOOK_SIGNATURE, "v1,AAAA v2,x  ")]
    {
        let mut headers = good.clone();
        headers.insert(&name, HeaderValue::from_static(replacement));
        assert_eq!(verify(&key, &headers, body, 1_000), Err(VerifyError::Mismatch));
        headers.remove(&name);
        assert_eq!(verify(&key, &headers, body, 1_000), Err(VerifyError::Header(name)));
    }
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_one_flipped_bit_does_not(
        body in prop::collection::vec(any::<u8>(), 1..2_000),
        id in "[a-z]{3}_[0-9a-f-]{1,36}",
        timestamp_s in 0_i64..4_000_000_000,
        flip in any::<prop::sample::Index>(),
        bit in 0_u32..8,
    ) {
        let key = SigningSecret::generate();
        let headers = signed(&[key.clone(), SigningSecret::generate()], &id, timestamp_s, &body);
        let hex = value(&headers, "x-webhook-signature");
        prop_assert_eq!(verify(&key, &headers, &body, timestamp_s), Ok(()));
        prop_assert_eq!(verify_hex(&key, &hex, &body), Ok(()));
        let mut tampered = body.clone();
        tampered[flip.index(body.len())] ^= 1_u8 << bit;
        prop_assert_eq!(verify(&key, &headers, &tampered, timestamp_s), Err(VerifyError::Mismatch));
        prop_assert_eq!(verify_hex(&key, &hex, &tampered), Err(VerifyError::Mismatch));
    }
}
