use std::collections::HashSet;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use super::presets::{all, format_by_name, format_by_version, formats, preset};
use super::*;
use crate::signing::Signer;
use crate::types::ecma_json::normalise;
use crate::types::secret::SigningSecret;

const AT: OffsetDateTime = datetime!(2026-11-20 10:00:00.123_456 UTC);

fn event(data: &str) -> EventView<'_> {
    EventView {
        id: "evt_1",
        event_type: "message.incoming",
        occurred_at: AT,
        tenant_id: "ten_1",
        location_id: "loc_1",
        channel: None,
        api_version: None,
        live_mode: true,
        data: data.as_bytes(),
    }
}

fn render(envelope: &Envelope, event: &EventView<'_>) -> String {
    String::from_utf8(envelope.render(event).to_vec()).expect("UTF-8")
}

fn compile(source: &Value) -> Envelope {
    Envelope::compile(source).expect("a valid envelope")
}

/// A minimal format, as text, with one field replaced.
fn format_with(field: &str, value: Value) -> Result<Format, serde_json::Error> {
    let mut text = json!({"name": "own", "version": 1000, "envelope": "{{data}}"});
    text[field] = value;
    serde_json::from_value(text)
}

#[test]
fn every_slot_renders() {
    let envelope = compile(
        &json!({"a": ["{{id}}", "{{type}}", "{{timestamp}}", "{{timestamp_s}}", "{{created_at}}", "{{data}}"],
        "b": {"c": ["{{location_id}}", "{{tenant_id}}", "{{channel}}", "{{api_version}}", "{{live_mode}}"]}}),
    );
    let full =
        EventView { channel: Some("sms"), api_version: Some("v\"1"), live_mode: false, ..event("[1]") };
    assert_eq!(
        render(&envelope, &full),
        r#"{"a":["evt_1","message.incoming","2026-11-20T10:00:00.123Z","2026-11-20T10:00:00Z",1795168800,[1]],"b":{"c":["loc_1","ten_1","sms","v\"1",false]}}"#
    );
    assert!(render(&envelope, &event("1")).ends_with(r#"["loc_1","ten_1",null,null,true]}}"#));
}

#[test]
fn literals_are_in_normal_form() {
    let source: Value = serde_json::from_str(
        r#"{"b": 1.0, "2": "é\u001f/", "1": [true, null, {}], "x\"y": 1e21, "id": "{{id}}"}"#,
    )
    .expect("JSON");
    let body = render(&compile(&source), &event("0"));
    assert_eq!(body, r#"{"1":[true,null,{}],"2":"é\u001f/","b":1,"x\"y":1e+21,"id":"evt_1"}"#);
    assert_eq!(normalise(&body), Ok(body));
}

#[test]
fn missing_values_may_have_a_fallback() {
    let envelope = compile(&json!({"v": "{{api_version|2026-02-04}}", "c": "{{channel|none}}"}));
    assert_eq!(render(&envelope, &event("0")), r#"{"v":"2026-02-04","c":"none"}"#);
    let given = EventView { api_version: Some("2027-01-01"), channel: Some("sms"), ..event("0") };
    assert_eq!(render(&envelope, &given), r#"{"v":"2027-01-01","c":"sms"}"#);
}

#[test]
fn created_at_is_a_whole_number_of_seconds() {
    let envelope = compile(&json!({"n": "{{created_at}}"}));
    for (at, expected) in [
        (OffsetDateTime::UNIX_EPOCH, 0),
        (datetime!(1969-12-31 23:59:59.5 UTC), -1),
        (datetime!(1970-01-01 00:00:10 UTC), 10),
        (datetime!(9999-12-31 23:59:59 UTC), 253_402_300_799_i64),
    ] {
        let event = EventView { occurred_at: at, ..event("0") };
        assert_eq!(render(&envelope, &event), format!("{{\"n\":{expected}}}"));
    }
}

#[rstest]
#[case::unknown(json!({"a": {"b/c": ["{{nope}}"]}}), "/a/b~1c/0")]
#[case::part_of_a_value(json!({"a": "evt {{id}}"}), "/a")]
#[case::two_slots(json!({"a": "{{id}}{{type}}"}), "/a")]
#[case::open(json!({"a": "{{id"}), "/a")]
#[case::closed(json!({"a": "id}}"}), "/a")]
#[case::spaces(json!({"a": "{{ id }}"}), "/a")]
#[case::key(json!({"{{id}}": 1}), "/{{id}}")]
#[case::useless_fallback(json!({"a": "{{id|x}}"}), "/a")]
#[case::empty_fallback(json!({"a": "{{channel|}}"}), "/a")]
#[case::inexact(json!({"a": 9_007_199_254_740_993_u64}), "/a")]
#[case::other_string(json!("{{id}}"), "")]
#[case::array(json!(["{{data}}"]), "")]
#[case::null(json!(null), "")]
#[case::huge(json!({"a": "x".repeat(20_000)}), "/a")]
#[case::data_twice(json!({"a": "{{data}}", "b": "{{data}}"}), "/b")]
#[case::many_slots(json!({"a": vec!["{{id}}"; 65]}), "/a/64")]
#[case::deep(nested(17), "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a")]
fn invalid_envelopes_are_refused(#[case] source: Value, #[case] pointer: &str) {
    assert_eq!(Envelope::compile(&source).expect_err("must be refused").pointer, pointer);
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!("{{id}}"), |inner, _| json!({"a": inner}))
}

#[test]
fn envelopes_may_be_large_up_to_their_limits() {
    compile(&nested(16));
    compile(&json!({"a": vec!["{{id}}"; 64]}));
}

#[rstest]
#[case(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#, "/b/c")]
#[case(r#"{"a": [0, {"x/y": 1, "x\u002fy": 2}]}"#, "/a/1/x~1y")]
#[case(r#"{"a": 1, "a": {"b": 1, "b": 1}}"#, "/a")]
#[case(r#"{"n": 1e400}"#, "/n")]
#[case(r#"{"s": "\ud800"}"#, "/s")]
#[case("{", "")]
fn envelopes_are_read_as_they_are_written(#[case] text: &str, #[case] pointer: &str) {
    assert_eq!(Envelope::parse(text).expect_err("must be refused").pointer, pointer);
}

#[test]
fn no_depth_of_an_envelope_is_too_much_to_refuse() {
    for depth in [17, 126, 127, 128, 200, 8_000] {
        let text = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Envelope::parse(&format!("{{\"a\":{text}}}")).is_err(), "{depth}");
    }
}

#[test]
fn data_must_be_an_object_where_receivers_expect_one() {
    let requires = |source: Value| compile(&source).requires_data_object();
    assert!(requires(json!("{{data}}")));
    assert!(requires(json!({"data": {"object": "{{data}}"}})));
    assert!(!requires(json!({"data": "{{data}}", "object": "{{id}}"})));
}

#[rstest]
#[case(json!("2xx"), &[200, 201, 204, 299], &[0, 199, 300, 302, 404, 500])]
#[case(json!([200]), &[200], &[201, 204, 301])]
#[case(json!([200, 409]), &[200, 409], &[201])]
fn success_rules(#[case] text: Value, #[case] accepted: &[u16], #[case] refused: &[u16]) {
    let rule: SuccessRule = serde_json::from_value(text.clone()).expect("a rule");
    assert!(accepted.iter().all(|&status| rule.accepts(status)));
    assert!(!refused.iter().any(|&status| rule.accepts(status)));
    assert_eq!(serde_json::to_value(rule).expect("serialises"), text);
}

#[rstest]
fn success_rules_that_are_none(
    #[values(json!("200"), json!("3xx"), json!([]), json!([302]), json!([99]), json!([600]), json!(200), json!(vec![200; 17]))]
    text: Value,
) {
    assert!(format_with("success", text).is_err());
}

#[rstest]
#[case("name", json!(""))]
#[case("name", json!("Own"))]
#[case("name", json!("a".repeat(65)))]
#[case("timeout_ms", json!(999))]
#[case("timeout_ms", json!(30_001))]
#[case("timeout_ms", json!(-1))]
#[case("retry_schedule_s", json!([0]))]
#[case("retry_schedule_s", json!(vec![1; 16]))]
#[case("retry_schedule_s", json!([604_800, 1]))]
#[case("envelope", json!({"a": "{{nope}}"}))]
#[case("allow_https", json!(true))]
fn invalid_formats_are_refused(#[case] field: &str, #[case] value: Value) {
    assert!(format_with(field, value).is_err());
}

#[test]
fn signature_headers_have_names_of_their_own() {
    let header = |name: &str| json!({"header": name, "algorithm": "hmac-sha256", "key": "text", "content": "{{body}}", "encoding": "hex"});
    assert!(format_with("signatures", json!([header("x-a"), header("x-b")])).is_ok());
    assert!(format_with("signatures", json!([header("x-a"), header("X-A")])).is_err());
}

#[test]
fn formats_have_the_contracts_defaults() {
    let format = format_with("version", json!(1_000)).expect("a format");
    assert_eq!((format.timeout_ms, &format.retry_schedule_s[..]), (10_000, &[10, 60, 300][..]));
    assert_eq!(format.success, SuccessRule::Any2xx);
    assert!(!format.allow_http && format.honor_retry_after && format.disable_on_410);
    assert_eq!(format.default_rotation_grace_s(), 0, "nothing is signed twice");
}

#[test]
fn formats_survive_serialisation() {
    for format in formats() {
        let text = serde_json::to_string(format).expect("serialises");
        assert_eq!(serde_json::from_str::<Format>(&text).expect("parses"), **format);
    }
}

/// The contract's table, as numbers: a change here breaks stored deliveries or receivers.
#[rstest]
#[case("standard", 1, 12, 86_400, true, false)]
#[case("messagesync", 2, 7, 86_400, true, false)]
#[case("whatsable", 3, 1, 86_400, true, true)]
#[case("aisoule", 4, 9, 0, false, false)]
#[case("whatssync", 5, 4, 0, false, false)]
#[case("whatsapp_platform", 6, 3, 0, false, true)]
fn the_built_in_presets(
    #[case] name: &str,
    #[case] version: i32,
    #[case] event_types: usize,
    #[case] grace_s: u32,
    #[case] base64_key: bool,
    #[case] object: bool,
) {
    let preset = preset(name).expect("built in");
    let format = &preset.format;
    assert_eq!(format.name, name);
    assert_eq!(preset.event_types.len(), event_types);
    assert_eq!(format_by_name(name).map(|format| format.version), Some(FormatVersion(version)));
    assert_eq!(format_by_version(FormatVersion(version)).map(|format| &*format.name), Some(name));
    assert_eq!(format.default_rotation_grace_s(), grace_s);
    assert_eq!((format.uses_base64_key(), format.requires_data_object()), (base64_key, object));
    assert_eq!(format.retry_schedule_s, DEFAULT_RETRY_SCHEDULE_S);
    assert_eq!(format.allow_http, name == "whatsable");
    let is_aisoule = name == "aisoule";
    assert_eq!(format.timeout_ms, if is_aisoule { 5_000 } else { 10_000 });
    assert_eq!((format.success.accepts(200), format.success.accepts(204)), (true, !is_aisoule));
    assert_eq!((format.honor_retry_after, format.disable_on_410), (!is_aisoule, !is_aisoule));
}

/// Formats without a preset: their numbers are for ever as well.
#[rstest]
#[case("stripe", 7, 86_400, &["webhook-timestamp", "stripe-signature"])]
#[case("github", 8, 0, &["x-hub-signature-256"])]
#[case("shopify", 9, 0, &["x-shopify-hmac-sha256"])]
#[case("slack", 10, 0, &["x-slack-request-timestamp", "x-slack-signature"])]
fn the_formats_in_the_style_of_others(
    #[case] name: &str,
    #[case] version: i32,
    #[case] grace_s: u32,
    #[case] headers: &[&str],
) {
    let format = format_by_name(name).expect("built in");
    assert!(preset(name).is_none());
    assert_eq!(format_by_version(FormatVersion(version)).map(|format| &*format.name), Some(name));
    assert_eq!(format.default_rotation_grace_s(), grace_s);
    assert!(!format.uses_base64_key());
    assert_eq!(format.requires_data_object(), name == "stripe");
    assert_eq!(format.public_key(&SigningSecret::generate()), None);
    let foreign = SigningSecret::parse("8f742231b10e8888abcd99yyyzzz85a5").expect("a secret");
    let signed = Signer::new(&format.signatures, &[foreign]).expect("a signer").sign("evt_1", 7, b"{}");
    let names: Vec<_> = signed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, headers);
    let mut all = format.signature_headers();
    all.sort_unstable();
    let mut headers = headers.to_vec();
    headers.sort_unstable();
    assert_eq!(all, headers);
}

/// The request of Slack's page, "Verifying requests from Slack".
#[test]
fn slacks_own_example_is_signed_as_on_its_page() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
        &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
        &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let secret = SigningSecret::parse("8f742231b10e8888abcd99yyyzzz85a5").expect("a secret");
    let format = format_by_name("slack").expect("built in");
    let signer = Signer::new(&format.signatures, &[secret]).expect("a signer");
    let headers = signer.sign("evt_1", 1_531_420_618, body.as_bytes());
    assert_eq!(headers[0].1, "1531420618");
    assert_eq!(headers[1].1, "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
}

#[rstest]
#[case("standard", &["webhook-timestamp", "webhook-signature", "x-webhook-signature"])]
#[case("messagesync", &["webhook-timestamp", "webhook-signature", "x-webhook-signature"])]
#[case("whatsable", &["webhook-timestamp", "webhook-signature", "x-webhook-signature"])]
#[case("aisoule", &["x-webhook-signature"])]
#[case("whatssync", &["x-whatsync-signature"])]
#[case("whatsapp_platform", &["x-webhook-signature"])]
fn signature_headers_of_the_presets(#[case] name: &str, #[case] expected: &[&str]) {
    let format = format_by_name(name).expect("built in");
    let signer = Signer::new(&format.signatures, &[SigningSecret::generate()]).expect("a signer");
    let headers = signer.sign("evt_1", 7, b"{}");
    let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, expected);
    let hex = headers.last().expect("at least one").1.as_bytes();
    assert!(hex.len() == 64 && hex.iter().all(u8::is_ascii_hexdigit));
}

/// The payloads that the pages show, compact: a body with the page's own data, id and time is what the page shows.
#[rstest]
#[case("whatsable", "message.incoming", "evt_1", AT,
    r#"{"last_messages":[{"type":"user","content":"Can I reschedule my appointment for Thursday?","timestamp":"2025-06-09T22:08:11.990Z","content_type":"text"},{"type":"bot","content":"Of course! Let me pull up available slots for you.","timestamp":"2025-06-09T21:45:30.417Z","content_type":"text"}],"conversation_paragraph":"User (10:08:11 PM): Can I reschedule my appointment for Thursday? ; Bot (9:45:30 PM): Of course! Let me pull up available slots for you.","phone_number":"14155552671","recipient_name":"Alex Martinez","user_id":"9232fcef-a570-4a2c-b46b-6cab53aec304","last_message_of_user":"Can I reschedule my appointment for Thursday?","last_message_of_bot":"Of course! Let me pull up available slots for you.","message_type":"text","user_last_message_time":1749506891,"bot_last_message_time":1749504330,"attachment_url":null,"note":"","note_automation":"","labels":"appointments, rescheduling"}"#)]
#[case("whatsable", "message.incoming", "evt_1", AT,
    r#"{"last_messages":[{"type":"user","content":"","timestamp":"2025-06-09T14:05:12.000Z","content_type":"document","media_url":"https://api.insightssystem.com/vault/contract_v2.pdf"},{"type":"bot","content":"Please send the signed contract when ready.","timestamp":"2025-06-09T14:03:20.000Z","content_type":"text"}],"conversation_paragraph":"User (2:05:12 PM): [Document] ; Bot (2:03:20 PM): Please send the signed contract when ready.","phone_number":"14155552671","recipient_name":"Alex Martinez","user_id":"9232fcef-a570-4a2c-b46b-6cab53aec304","last_message_of_user":"","last_message_of_bot":"Please send the signed contract when ready.","message_type":"document","user_last_message_time":1749472312,"bot_last_message_time":1749472200,"attachment_url":"https://api.insightssystem.com/vault/contract_v2.pdf","note":"","note_automation":"","labels":"contracts"}"#)]
#[case("aisoule", "message.incoming", "evt_1", datetime!(2026-05-29 10:30:00 UTC),
    r#"{"event":"message.incoming","timestamp":"2026-05-29T10:30:00Z","data":{"message_id":"wamid.xxx","from":"+919876543210","contact_name":"John Doe","type":"text","text":"Hello, I need help with my order","whatsapp_account_id":"uuid"}}"#)]
#[case("whatssync", "message.incoming", "msg_123456789", datetime!(2023-06-15 14:22:33 UTC),
    r#"{"event":"message.incoming","id":"msg_123456789","timestamp":"2023-06-15T14:22:33Z","data":{"from":"+1234567890","to":"+0987654321","text":"Hello, how are you?","media":null,"timestamp":"2023-06-15T14:22:30Z"}}"#)]
#[case("whatssync", "message.status", "status_123456789", datetime!(2023-06-15 14:23:45 UTC),
    r#"{"event":"message.status","id":"status_123456789","timestamp":"2023-06-15T14:23:45Z","data":{"messageId":"msg_987654321","status":"read","timestamp":"2023-06-15T14:23:40Z"}}"#)]
#[case("whatssync", "contact.update", "contact_update_123456789", datetime!(2023-06-15 15:30:00 UTC),
    r#"{"event":"contact.update","id":"contact_update_123456789","timestamp":"2023-06-15T15:30:00Z","data":{"contactId":"contact_123456","phone":"+1234567890","name":"John Doe","profileImage":"https://example.com/profile.jpg"}}"#)]
#[case("whatssync", "media.upload", "media_123456789", datetime!(2023-06-15 16:45:20 UTC),
    r#"{"event":"media.upload","id":"media_123456789","timestamp":"2023-06-15T16:45:20Z","data":{"messageId":"msg_123456","mediaType":"image","mediaUrl":"https://media.whatsync.io/123456.jpg","mimeType":"image/jpeg","caption":"Check out this photo"}}"#)]
#[case("whatsapp_platform", "message.report", "evt_85e59919", datetime!(2025-05-13 14:47:54.999 UTC),
    r#"{"id":"evt_85e59919","type":"message.report","api_version":"2026-02-04","created_at":1747147674,"liveMode":true,"data":{"object":{"recipient":{"customer_id":"wamid.HBgMOTE4MTg5MjIyMzEz","phone_number":"+918189222313"},"status":"READ","reported_at":"2026-05-13T12:54:54.719Z","timestamp":"2026-05-13T12:46:25Z"}}}"#)]
fn bodies_are_those_of_the_pages(
    #[case] name: &str,
    #[case] event_type: &str,
    #[case] id: &str,
    #[case] occurred_at: OffsetDateTime,
    #[case] page: &str,
) {
    let preset = preset(name).expect("built in");
    assert!(preset.event_type(event_type).is_some(), "in the catalogue");
    let shown: Value = serde_json::from_str(page).expect("JSON");
    let data = ["/data/object", "/data", ""].iter().find_map(|place| shown.pointer(place)).expect("data");
    let data = normalise(&data.to_string()).expect("legal JSON");
    let event = EventView { id, event_type, occurred_at, ..event(&data) };
    assert_eq!(render(&preset.format.envelope, &event), page);
}

#[test]
fn catalogues_are_complete() {
    let unique = |names: Vec<&str>| names.len() == names.iter().collect::<HashSet<_>>().len();
    assert!(unique(all().iter().map(|preset| &*preset.name).collect()));
    let versions: HashSet<_> = all().iter().map(|preset| preset.format.version).collect();
    assert_eq!(versions.len(), all().len());
    for preset in all() {
        assert!(!preset.description.is_empty());
        assert!(unique(preset.event_types.iter().map(|event_type| event_type.name.as_str()).collect()));
        for event_type in &preset.event_types {
            let name = event_type.name.as_str();
            assert!(!event_type.description.is_empty() && !event_type.group.is_empty(), "{name}");
            assert!(!event_type.name.is_operational(), "{name}");
            let channel = event_type.channel.as_deref();
            assert!(matches!(channel, None | Some("whatsapp" | "imessage" | "sms")), "{name}");
            assert!(channel.is_none_or(|channel| name.starts_with(channel)), "{name}");
            assert!(event_type.example.is_object(), "{name}");

            let data = event_type.example_data();
            let body = render(&preset.format.envelope, &EventView { event_type: name, ..event(&data) });
            assert_eq!(normalise(&body).as_ref(), Ok(&body), "survives JSON.stringify(JSON.parse())");
            assert!(body.contains(&data));
            let schema = event_type.schema.as_ref().expect("a schema");
            let known = schema["properties"].as_object().expect("properties");
            let sample = event_type.example.as_object().expect("an object");
            assert!(sample.keys().all(|key| known.contains_key(key)), "{name}: a key is not in the schema");
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // Not the range where ECMAScript rounds what it prints of an integer.
        any::<f64>().prop_filter("exact", |n| n.abs() < 9e15 || n.abs() >= 1e21).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((prop_oneof!["[0-9]{1,2}".boxed(), any::<String>().boxed()], inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_envelope_renders_as_it_was_written_or_is_refused(source in any_json(), data in any_json()) {
        let data = normalise(&data.to_string()).expect("legal JSON");
        if let Ok(envelope) = Envelope::parse(&source.to_string()) {
            let body = render(&envelope, &event(&data));
            prop_assert_eq!(normalise(&body), Ok(body.clone()));
            prop_assert_eq!(body, normalise(&source.to_string()).expect("legal JSON"), "no slot, so a literal");
            prop_assert_eq!(Value::from(envelope), source);
        }
    }

    #[test]
    fn slots_render_wherever_they_stand(places in prop::collection::vec(("[a-z]{1,3}", 0_usize..10), 1..20), data in any_json()) {
        const SLOTS: [&str; 10] = ["id", "type", "timestamp", "timestamp_s", "created_at", "location_id", "tenant_id",
            "channel|none", "api_version", "live_mode"];
        let mut source = json!({"data": {"inner": "{{data}}"}});
        for (key, slot) in places {
            source[key] = json!([format!("{{{{{}}}}}", SLOTS[slot])]);
        }
        let data = normalise(&data.to_string()).expect("legal JSON");
        let body = render(&compile(&source), &event(&data));
        prop_assert_eq!(normalise(&body), Ok(body.clone()));
        prop_assert!(!body.replace(&data, "").contains("{{"));
        let parsed: Value = serde_json::from_str(&body).expect("JSON");
        prop_assert_eq!(&parsed["data"]["inner"], &serde_json::from_str::<Value>(&data).expect("JSON"));
    }

    #[test]
    fn any_event_renders_as_json_that_survives_a_round_trip(
        data in any_json(),
        id in any::<String>(),
        event_type in any::<String>(),
        location_id in any::<String>(),
        channel in any::<Option<String>>(),
        seconds in -62_167_219_200_i64..253_402_300_800,
    ) {
        let data = normalise(&data.to_string()).expect("legal JSON");
        let occurred_at = OffsetDateTime::from_unix_timestamp(seconds).expect("in range");
        let event = EventView { id: &id, event_type: &event_type, location_id: &location_id, occurred_at,
            channel: channel.as_deref(), ..event(&data) };
        for format in formats() {
            let body = render(&format.envelope, &event);
            prop_assert!(serde_json::from_str::<Value>(&body).is_ok());
            prop_assert_eq!(normalise(&body), Ok(body));
        }
        let body = render(&format_by_name("standard").expect("built in").envelope, &event);
        let parsed: Value = serde_json::from_str(&body).expect("JSON");
        prop_assert_eq!(&parsed["data"], &serde_json::from_str::<Value>(&data).expect("JSON"));
        prop_assert_eq!(parsed["id"].as_str(), Some(&*id));
        let tail = format!("\"data\":{data}}}");
        prop_assert!(body.ends_with(&tail));
    }
}
