use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;

use super::*;
use crate::types::hostile::same;

#[rstest]
#[case::scalars(" [ null , true,false ] ", "[null,true,false]")]
#[case::bare(" \"x\" ", "\"x\"")]
#[case::empty("[ {} , [ ] , { } ]", "[{},[],{}]")]
#[case::integers("[0,-0,7,-12,123456789012345]", "[0,0,7,-12,123456789012345]")]
#[case::zeros("[-0.0,0.0,0e9,-1e-400,1E-400]", "[0,0,0,0,0]")]
#[case::fractions("[1.0,1.50,-2.5e0,1e2,1E+2,100e-2]", "[1,1.5,-2.5,100,100,1]")]
#[case::exponents("[1e20,1e21,1e-6,1e-7,1.25e-9]", "[100000000000000000000,1e+21,0.000001,1e-7,1.25e-9]")]
#[case::shortest("[0.1,0.30000000000000004,5e-324]", "[0.1,0.30000000000000004,5e-324]")]
#[case::largest("[1.7976931348623157e308]", "[1.7976931348623157e+308]")]
#[case::two_to_53("[9007199254740991,9007199254740992]", "[9007199254740991,9007199254740992]")]
#[case::two_to_55("[36028797018963968,-36028797018963968]", "[36028797018963970,-36028797018963970]")]
#[case::ten_to_22("[10000000000000000000000]", "[1e+22]")]
#[case::index_keys(r#"{"b":1,"10":2,"a":3,"9":4}"#, r#"{"9":4,"10":2,"b":1,"a":3}"#)]
#[case::not_indices(r#"{"b":1,"01":2,"-1":3,"1.0":4,"":5}"#, r#"{"b":1,"01":2,"-1":3,"1.0":4,"":5}"#)]
#[case::index_limit(r#"{"4294967295":1,"4294967294":2}"#, r#"{"4294967294":2,"4294967295":1}"#)]
#[case::long_digits(r#"{"99999999999":1,"0":2}"#, r#"{"0":2,"99999999999":1}"#)]
#[case::duplicates(r#"{"a":1,"b":2,"a":{"c":3}}"#, r#"{"a":{"c":3},"b":2}"#)]
#[case::escaped_duplicates(r#"{"a":1,"\u0061":2,"\u0031":3,"1":4}"#, r#"{"1":4,"a":2}"#)]
#[case::proto(r#"{"__proto__":1,"a":2,"__proto__":3}"#, r#"{"__proto__":3,"a":2}"#)]
#[case::nested(r#"{"x":{"2":0,"1":[{"b":1,"0":2}]},"1":0}"#, r#"{"1":0,"x":{"1":[{"0":2,"b":1}],"2":0}}"#)]
#[case::escapes(r#""\"\\\/\b\f\n\r\t\u0041""#, r#""\"\\/\b\f\n\r\tA""#)]
#[case::controls(r#""\u0000\u0001\u001F\u007f\u0008""#, "\"\\u0000\\u0001\\u001f\u{7f}\\b\"")]
#[case::separators(r#""\u2028\u2029\u00e9""#, "\"\u{2028}\u{2029}\u{e9}\"")]
#[case::pairs(r#""\ud83d\ude00 \uD83D\uDE00 😀""#, "\"😀 😀 😀\"")]
fn is_what_json_stringify_writes(#[case] raw: &str, #[case] expected: &str) {
    assert_eq!(normalise(raw).as_deref(), Ok(expected));
}

#[rstest]
#[case::above_two_to_53(r#"{"a":[0,{"id":9007199254740993}]}"#, Refusal::InexactInteger, "/a/1/id")]
#[case::negative("[-9007199254740993]", Refusal::InexactInteger, "/0")]
#[case::u64_max("18446744073709551615", Refusal::InexactInteger, "")]
#[case::ten_to_23("100000000000000000000000", Refusal::InexactInteger, "")]
#[case::exponent(r#"{"a/b":{"m~n":1e400}}"#, Refusal::NumberOverflow, "/a~1b/m~0n")]
#[case::minus("[[],[-1e309]]", Refusal::NumberOverflow, "/1/0")]
#[case::high(r#"["\ud800"]"#, Refusal::LoneSurrogate, "/0")]
#[case::high_then_text(r#"["\ud800x"]"#, Refusal::LoneSurrogate, "/0")]
#[case::high_high(r#"["\ud800\ud800"]"#, Refusal::LoneSurrogate, "/0")]
#[case::low(r#"{"a":"\udc00"}"#, Refusal::LoneSurrogate, "/a")]
#[case::in_key(r#"{"a":{"\udc00":1}}"#, Refusal::LoneSurrogate, "/a")]
#[case::superseded(r#"{"a":1e400,"a":1}"#, Refusal::NumberOverflow, "/a")]
#[case::escaped_key(r#"{"\"\u0000":1e400}"#, Refusal::NumberOverflow, "/\"\0")]
fn refuses_what_would_be_lost(#[case] raw: &str, #[case] reason: Refusal, #[case] pointer: &str) {
    let error = normalise(raw).expect_err("must be refused");
    assert_eq!((error.reason, error.pointer.as_str()), (reason, pointer));
}

#[rstest]
fn refuses_what_is_not_json(
    #[values(
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,}",
        "{a:1}",
        "{,}",
        "[,]",
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x1",
        "-a",
        "NaN",
        "Infinity",
        "tru",
        "nul",
        "truex",
        "'a'",
        "\"",
        "\"a",
        "\"\\",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\0\"",
        "1 2",
        "[1 2]",
        "{\"a\" 1}",
        "[1}",
        "\u{feff}1",
        "\u{a0}1",
        "\"\\ud800\\u00\"",
        "\"\\u+123\""
    )]
    raw: &str,
) {
    let error = normalise(raw).expect_err("must be refused");
    assert_eq!(error.reason, Refusal::Syntax, "{error}");
    assert!(serde_json::from_str::<Value>(raw).is_err());
}

#[test]
fn depth_has_a_limit() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(normalise(&nested(MAX_DEPTH)), Ok(nested(MAX_DEPTH)));
    let error = normalise(&nested(MAX_DEPTH + 1)).expect_err("one level too many");
    assert_eq!((error.reason, error.pointer), (Refusal::TooDeep, "/0".repeat(MAX_DEPTH)));
    // Far more than the stack could take: refused on the way down.
    assert!(normalise(&"[".repeat(1_000_000)).is_err());
}

#[test]
fn output_has_a_limit() {
    let growing = format!("[{}1e20]", "1e20,".repeat(1_000));
    let exact = normalise(&growing).expect("legal without a limit").len();
    assert!(normalise_within(&growing, exact).is_ok());
    let error = normalise_within(&growing, exact - 1).expect_err("one byte over");
    assert_eq!(error.reason, Refusal::TooLarge);
    let early = normalise_within(&growing, 210).expect_err("far over");
    assert_eq!(early.pointer, "/9", "stops at the value that passed the limit");
}

#[test]
fn objects_beyond_the_pairwise_size_keep_the_rules() {
    let members = |keys: &[usize]| {
        let members: Vec<String> = keys.iter().map(|key| format!("\"k{key}\":{key}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let distinct: Vec<usize> = (0..5_000).rev().collect();
    assert_eq!(normalise(&members(&distinct)), Ok(members(&distinct)));
    let repeated: Vec<usize> = distinct.iter().chain(&distinct).copied().collect();
    assert_eq!(normalise(&members(&repeated)), Ok(members(&distinct)));
}

#[test]
fn quoted_length_is_exact() {
    let text: String = (0..0x300).filter_map(char::from_u32).collect();
    let mut out = Vec::new();
    push_quoted(&mut out, &text);
    assert_eq!(out.len(), quoted_len(&text));
    assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(text));
}

/// JSON text with the oddities that matter: white space, escapes, repeated and index-like keys, all kinds of numbers.
fn json_text() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        any::<i32>().prop_map(|n| n.to_string()),
        (-(1_i64 << 53)..(1_i64 << 53)).prop_map(|n| n.to_string()),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
    ];
    let string = prop_oneof![
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a string")),
        "(\\\\u00[0-7][0-9a-fA-F]|\\\\[nrtbf/\"]|[ -!#-\\[]|\\\\ud83d\\\\ude0[0-9]){0,8}"
            .prop_map(|t| format!("\"{t}\"")),
    ];
    let key = prop_oneof!["\"[ab]\"", "\"[0-9]{1,3}\"", string.clone()];
    let leaf = prop_oneof![Just("null".to_owned()), Just("true".to_owned()), number, string];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8)
                .prop_map(|items| format!("[ {} ]", items.join(" ,\n"))),
            prop::collection::vec((key.clone(), inner), 0..24).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}:\t{value}")).collect();
                format!("{{{} }}", members.join(" , "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn means_the_same_and_is_idempotent(raw in json_text()) {
        let text = normalise(&raw).expect("legal JSON");
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("legal JSON");
        prop_assert!(same(&parse(&text), &parse(&raw)), "{} from {}", text, raw);
        match normalise(&text) {
            Ok(again) => prop_assert_eq!(again, text),
            // The one exception the module states: an integer of 2^54 or more that ECMAScript printed rounded.
            Err(error) => prop_assert_eq!(error.reason, Refusal::InexactInteger),
        }
    }

    #[test]
    fn never_panics_and_accepts_no_more_than_json(raw in "[\\[\\]{}:,\"\\\\u0-9a-f.eE+\\- \\n]{0,24}") {
        if normalise(&raw).is_ok() {
            prop_assert!(serde_json::from_str::<Value>(&raw).is_ok());
        }
    }

    #[test]
    fn doubles_survive_to_the_bit(bits in any::<u64>()) {
        let n = f64::from_bits(bits);
        prop_assume!(n.is_finite());
        let text = normalise(&format!("{n:e}")).expect("a finite number");
        // Adding zero makes -0 positive.
        prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok((n + 0.0).to_bits()));
    }

    #[test]
    fn integers_are_accepted_if_and_only_if_a_double_equals_them(n in any::<i64>()) {
        let held = i128::from(n) == (n as f64) as i128;
        prop_assert_eq!(normalise(&n.to_string()).is_ok(), held);
    }
}
