use proptest::prelude::*;
use rstest::rstest;

use super::*;

const DATA: &str = r#"{"labels":["support","vip"],"text":"Hello ☺","amount":12.5,"count":3,"big":9007199254740991,
    "customer":{"id":"c1","name":null},"empty":{},"paid":true,"odd key":1}"#;

pub(super) fn subject(data: &str) -> Subject {
    Subject::new(&Event {
        event_type: "message.incoming",
        data,
        channel: Some("whatsapp"),
        tags: Some(r#"{"campaign":"spring"}"#),
        timestamp: "2026-11-20T10:00:00.000Z",
        live_mode: true,
        location_id: "loc_1",
        api_version: None,
    })
}

#[rstest]
#[case(r#""support" in data.labels"#, true)]
#[case(r#""sales" in data.labels"#, false)]
#[case(r#"!("sales" in data.labels)"#, true)]
#[case(r#"data.labels[1] == 'vip' && size(data.labels) == 2"#, true)]
#[case(r#"channel == "whatsapp""#, true)]
#[case("channel in ['sms', 'imessage']", false)]
#[case("api_version == null", true)]
#[case("data.text.contains('llo') && data.text.startsWith('He') && data.text.endsWith('☺')", true)]
#[case("size(data.text) == 7", true)]
#[case("data.amount > 12 && data.amount < 13 && data.amount * 2.0 == 25.0", true)]
#[case("data.count == 3.0 && data.count % 2 == 1 && -data.count < 0", true)]
#[case("data.big == 9007199254740991", true)]
#[case("has(data.customer.id) && !has(data.customer.email)", true)]
#[case("data.customer.name == null && data.empty != data.customer", true)]
#[case("data.paid ? live_mode : false", true)]
#[case("type == 'message.incoming' && location_id == 'loc_1'", true)]
#[case("tags.campaign == 'spring' && 'campaign' in tags && !('x' in tags)", true)]
#[case("timestamp >= '2026-11-20' && timestamp < '2026-11-21'", true)]
#[case("data['odd key'] == 1", true)]
#[case("int('3') == data.count && string(data.count) == '3' && double(data.count) == 3.0", true)]
#[case("data.missing == 1 || data.paid", true)]
#[case("data.missing == 1 && false", false)]
fn conditions(#[case] text: &str, #[case] expected: bool) {
    let filter = Filter::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(filter.matches(&subject(DATA)), Ok(expected), "{text}");
    assert_eq!(filter.text(), text);
}

#[rstest]
#[case("data.missing == 1", "missing")]
#[case("data.labels[7] == 'x'", "7")]
#[case("data.count", "not a boolean")]
#[case("data.text > 1", "_>_")]
#[case("data.text.id == 1", "")]
#[case("data.count / 0 == 1", "zero")]
#[case("size(data.count) == 1", "size")]
#[case("data.text == 'x' ? 1 : 2", "not a boolean")]
fn what_fails_says_why(#[case] text: &str, #[case] told: &str) {
    let why = Filter::compile(text).expect("compiles").matches(&subject(DATA)).expect_err(text);
    assert!(why.contains(told) && why.chars().count() <= MAX_TOLD_CHARS + 1, "{text}: {why}");
}

#[rstest]
#[case("", "empty")]
#[case("  ", "empty")]
#[case("data.", "line 1, column")]
#[case("data.text ==", "line 1, column")]
#[case("true &&\n &&", "line 2, column")]
#[case("data.labels contains \"support\"", "line 1, column 13")]
#[case("'open", "line 1")]
#[case("secret == 1", "at character 1)")]
#[case("true && other.x == 1", "at character 9)")]
#[case("data.text + 'x' == 'yx'", "operator +")]
#[case("data.text.matches('(a+)+$')", "matches is not for filters")]
#[case("data.labels.exists(x, x == 'vip')", "loops")]
#[case("data.labels.all(x, x == 'vip')", "loops")]
#[case("data.labels.map(x, x) == []", "loops")]
#[case("data.labels.filter(x, true) == []", "loops")]
#[case("{'a': 1}.a == 1", "such values")]
#[case("[data.text] == ['x']", "such values")]
#[case("[[1]] == [1]", "such values")]
#[case("dyn(1) == 1", "dyn is not for filters")]
#[case("type(data) == map", "type is not for filters")]
#[case("b'x' == data.text", "bytes")]
#[case("data.?x == 1", "")]
fn what_is_no_filter_is_refused_with_its_place(#[case] text: &str, #[case] told: &str) {
    let error = Filter::compile(text).expect_err(text);
    assert!(error.detail.contains(told), "{text}: {error}");
}

#[test]
fn size_and_nesting_are_limited() {
    let sum = |terms: usize| vec!["data.a"; terms].join("==1||");
    assert!(Filter::compile(&format!("{}==1", sum(20))).is_ok());
    assert!(Filter::compile(&format!("{}==1", sum(40))).is_err());
    assert!(Filter::compile(&format!("data.a == '{}'", "x".repeat(MAX_BYTES))).is_err());
    let brackets = "(".repeat(MAX_DEPTH + 1);
    assert!(Filter::compile(&format!("data.a == '{brackets}'")).is_ok(), "in a text they are text");
    for (open, inner, close) in [
        ("(", "true", ")"),
        ("[", "1", "]"),
        ("!", "true", ""),
        ("-", "1", ""),
        ("a[", "1", "]"),
        ("{1:", "1", "}"),
    ] {
        for depth in [MAX_DEPTH + 1, 200, (MAX_BYTES - 4) / (open.len() + close.len())] {
            let text = format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            let _ = Filter::compile(&text);
            let _ = Filter::compile(&open.repeat(depth));
        }
    }
    for chain in ["data.a.", "true?1:", "1==", "true&&", "data[data", "1 in ", "'a'"] {
        let text = chain.repeat(MAX_BYTES / chain.len() - 1);
        assert!(Filter::compile(&format!("{text}1")).is_err(), "{chain}");
    }
}

#[test]
fn data_of_any_depth_can_be_asked() {
    let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
    let filter = Filter::compile("size(data) == 1").expect("compiles");
    let on_a_workers_stack = std::thread::spawn(move || filter.matches(&subject(&deep)));
    assert_eq!(on_a_workers_stack.join().expect("ends"), Ok(true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_panics(text in "[-a-z0-9.,()\\[\\]{}'\"!&|=<>?:+*/%\\\\ ]{0,60}|.{0,30}") {
        if let Ok(filter) = Filter::compile(&text) {
            let _ = filter.matches(&subject(DATA));
        }
    }
}
